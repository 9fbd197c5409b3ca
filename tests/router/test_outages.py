"""Calls outside a run while nothing answers: what cannot heal fails at once, what may heal is waited for."""

from __future__ import annotations

import asyncio

import anyio
import openai
import pytest

from greenroom.runtime.router import BreakerPolicy, Deployment, Limits, Router, RouterConfig, Secret

from .conftest import KEY, QUESTION, RigMaker, deployment

BOTH = {"smart": tuple(deployment(provider, breaker=BreakerPolicy()) for provider in ("openai", "gemini"))}


async def test_a_call_without_a_deadline_does_not_wait_out_a_long_outage(rig: RigMaker) -> None:
    async with rig("*:503", max_down_s=20) as one:
        started = asyncio.get_running_loop().time()
        with pytest.raises(openai.InternalServerError) as raised:
            await one.ask()
        assert 20 <= asyncio.get_running_loop().time() - started < 30
        says = str(raised.value)
        for who in ("openai/m", "gemini/m"):
            assert f"{who} (down for 2" in says
        assert "every deployment of 'smart' is down" in says
        assert "asked again in" in says
        assert raised.value.response.headers["retry-after"]


async def test_every_call_that_waits_in_an_outage_gets_its_turn_to_give_up(rig: RigMaker) -> None:
    async with rig("*:503", max_down_s=20) as one:
        started = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(one.ask() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(answer, openai.InternalServerError) for answer in answers)
        assert asyncio.get_running_loop().time() - started < 30
        assert len(one.sim.seen) < 200  # probes, no herd


async def test_an_outage_that_ends_in_time_is_noticed_within_a_second(rig: RigMaker) -> None:
    async with rig("*:503:until=15", models=BOTH, max_down_s=20) as one:
        await one.ask()
        assert one.sim.now() <= 16.5


async def test_the_wait_for_an_outage_begins_with_the_call_and_not_with_the_outage(rig: RigMaker) -> None:
    async with rig("*:503:until=90", models=BOTH, max_down_s=20) as one:
        with pytest.raises(openai.InternalServerError):
            await one.ask()
        await asyncio.sleep(75 - one.sim.now())
        await one.ask()
        assert 90 <= one.sim.now() <= 92


async def test_a_call_with_a_deadline_waits_until_then(rig: RigMaker) -> None:
    async with rig("*:503:until=60", models=BOTH, max_down_s=20) as one:
        await one.ask(extra_headers={"x-greenroom-deadline-s": "100"})
        assert 60 <= one.sim.now() <= 62


async def test_a_line_that_moves_is_waited_for_longer_than_an_outage(rig: RigMaker) -> None:
    async with rig(limits=Limits(requests_per_min=1), max_down_s=20) as one:
        await asyncio.gather(*(one.ask() for _ in range(6)))
        assert one.sim.now() > 60


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_host_that_does_not_exist_is_said_at_once(anyio_backend: str) -> None:
    nowhere = Deployment(
        name="nowhere", provider="openai", model="m", base_url="http://no-such-host.invalid/v1", key=Secret(KEY)
    )
    async with Router(RouterConfig(models={"smart": (nowhere,)})) as router:
        with anyio.fail_after(20):
            answer = await router.request("/chat/completions", {"model": "smart", "messages": QUESTION})
    assert answer.status_code == 503
    assert "nowhere: there is no host no-such-host.invalid: see to its base_url" in answer.text


async def test_a_wrong_path_or_key_names_the_deployment(rig: RigMaker) -> None:
    async with rig("openai:404", "gemini:auth") as one:
        with pytest.raises(openai.APIStatusError) as raised:
            await one.ask()
        assert raised.value.status_code in (401, 404)
        assert any(f"{name}/m: " in str(raised.value) for name in ("openai", "gemini"))
        assert one.sim.now() < 1
