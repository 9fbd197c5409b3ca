"""Law 8: no provider sees more than its limits allow, in any window; and a burst drains as fast as that lets it."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.runtime.router import Limits
from greenroom.runtime.simulator import Latency
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.runtime.testing.clock import virtual_backend

from .conftest import Rig, RigMaker, busiest, deployment, open_rig

Call = tuple[float, int, int, bool]
"""(seconds after the call before, words of the question, longest answer, streamed)"""

CALLS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.3, 7.0, 61.0]), st.integers(1, 60), st.integers(1, 200), st.booleans()),
    min_size=1,
    max_size=40,
)


async def play(one: Rig, calls: list[Call]) -> None:
    async def call(words: int, longest: int, stream: bool) -> None:
        messages = [{"role": "user", "content": "lighthouse " * words}]
        if stream:
            await one.read(messages=messages, max_completion_tokens=longest)
        else:
            await one.ask(messages=messages, max_completion_tokens=longest)

    async with anyio.create_task_group() as group:
        for after_s, words, longest, stream in calls:
            await anyio.sleep(after_s)
            group.start_soon(call, words, longest, stream)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    calls=CALLS,
    requests=st.sampled_from([None, 1, 7, 60, 600]),
    tokens=st.sampled_from([None, 1_000, 5_000]),
    places=st.sampled_from([None, 1, 3]),
    burst_s=st.sampled_from([1.0, 6.0, 60.0]),
    latency_s=st.sampled_from([0.0, 0.02, 1.0]),
    seed=st.integers(0, 3),
)
def test_known_limits_are_never_exceeded_and_never_refused(
    calls: list[Call],
    requests: int | None,
    tokens: int | None,
    places: int | None,
    burst_s: float,
    latency_s: float,
    seed: int,
) -> None:
    limits = Limits(requests_per_min=requests, tokens_per_min=tokens, concurrency=places, burst_s=burst_s)
    enforced = Enforced(requests_per_min=requests, tokens_per_min=tokens, concurrency=places, burst_s=burst_s)
    # the provider's bucket of tokens holds a minute: calls may be larger than a burst
    enforced_tokens = Enforced(requests_per_min=requests, tokens_per_min=tokens, concurrency=places, burst_s=60)
    latency = Latency(first_token_s=latency_s, tokens_per_s=0, jitter=0.2)

    async def main() -> None:
        chosen = enforced if tokens is None else enforced_tokens
        async with open_rig(limits=limits, enforced=chosen, latency=latency, seed=seed, max_wait_s=1e6) as one:
            await play(one, calls)
            assert len(one.sim.seen) == len(calls)
            assert {seen.status for seen in one.sim.seen} == {200}
            for provider in ("openai", "gemini"):
                seen = [seen for seen in one.sim.seen if seen.provider == provider]
                if requests is not None:
                    assert busiest((one.at, 1) for one in seen) <= requests
                if tokens is not None:
                    assert busiest((one.at, one.tokens) for one in seen) <= tokens
            assert one.router.waiting == 0
            assert all(lane.in_flight == 0 for lane in one.router.snapshot())

    backend, options = virtual_backend(seed)
    anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_a_burst_drains_within_5_percent_of_the_optimum(rig: RigMaker, stream: bool) -> None:
    """600 calls at once, two providers that allow 60/s with a burst of 60: 120 go at once, the rest at 120/s."""
    limits: dict[str, Any] = {"requests_per_min": 3600, "burst_s": 1.0}
    async with rig(limits=Limits(**limits), enforced=Enforced(**limits)) as one:
        await asyncio.gather(*((one.read(max_completion_tokens=6) if stream else one.ask()) for _ in range(600)))
        optimum = (600 - 120) / 120 + 0.02
        assert asyncio.get_running_loop().time() <= optimum * 1.05
        assert one.statuses().count(("openai", 429)) + one.statuses().count(("gemini", 429)) == 0
        assert abs(sum(seen.provider == "openai" for seen in one.sim.seen) - 300) <= 5


@pytest.mark.slow
async def test_steady_traffic_gets_all_of_a_limit(rig: RigMaker) -> None:
    limits: dict[str, Any] = {"requests_per_min": 60, "burst_s": 1.0}
    async with rig(limits=Limits(**limits), enforced=Enforced(**limits), max_wait_s=1000) as one:
        await asyncio.gather(*(one.ask() for _ in range(600)))
        assert asyncio.get_running_loop().time() <= 300 * 1.02


async def test_tokens_that_were_not_used_are_given_back(rig: RigMaker) -> None:
    """Each call may take 1,000 tokens and takes about 130: ten in a row fit into a minute of 2,500."""
    limits: dict[str, Any] = {"tokens_per_min": 2500}
    async with rig(limits=Limits(**limits), enforced=Enforced(**limits)) as one:
        for _ in range(10):
            await one.ask(max_completion_tokens=1000)
        assert asyncio.get_running_loop().time() < 60


async def test_limits_nobody_configured_are_learned_from_headers(rig: RigMaker) -> None:
    async with rig(models={"smart": (deployment("openai"),)}, enforced=Enforced(requests_per_min=60, burst_s=6)) as one:
        await one.ask()
        await asyncio.gather(*(one.ask() for _ in range(100)))
        assert {seen.status for seen in one.sim.seen} == {200}


async def test_what_others_use_of_a_limit_is_seen_before_a_429(rig: RigMaker) -> None:
    limits: dict[str, Any] = {"tokens_per_min": 10_000}
    models = {"smart": (deployment("openai", limits=Limits(**limits)),)}
    async with rig(models=models, limits=Limits(**limits), enforced=Enforced(**limits)) as one:
        provider = one.sim.providers["openai"]
        assert provider.admit("m", 9_000, one.sim.now()).wait_s == 0  # somebody else's call
        await one.ask(max_completion_tokens=100)
        await asyncio.gather(*(one.ask(max_completion_tokens=900) for _ in range(4)))
        assert {seen.status for seen in one.sim.seen} == {200}
