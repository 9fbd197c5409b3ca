"""Limits that are wrong, or that nobody gave: they are found, with few refusals and without losing a call."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.runtime.router import Limits
from greenroom.runtime.router.failures import Refusal
from greenroom.runtime.router.lane import Lane
from greenroom.runtime.router.pace import FIRST, Pace
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.runtime.testing.clock import virtual_backend

from .conftest import Rig, RigMaker, deployment, open_rig


async def drain(one: Rig, calls: int) -> tuple[float, int]:
    """Make calls at once; return how long that took, and the 429s."""
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(one.ask(max_completion_tokens=6) for _ in range(calls)))
    refused = sum(seen.status == 429 for seen in one.sim.seen)
    return asyncio.get_running_loop().time() - started, refused


def only(provider: str, **limits: Any) -> dict[str, Any]:
    return {"smart": (deployment(provider, limits=Limits(**limits)),)}


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    provider=st.sampled_from(["openai", "gemini"]),
    wrong=st.sampled_from([None, 1.2, 3.0, 30.0]),
    per_min=st.sampled_from([60, 300, 1200]),
    burst_s=st.sampled_from([1.0, 5.0]),
)
def test_too_high_or_unknown_limits_converge(provider: str, wrong: float | None, per_min: int, burst_s: float) -> None:
    async def main() -> None:
        limits = only(provider, requests_per_min=wrong and per_min * wrong, burst_s=burst_s)
        enforced = Enforced(requests_per_min=per_min, burst_s=burst_s)
        async with open_rig(models=limits, enforced=enforced, max_wait_s=1e6) as one:
            calls = min(200, per_min)
            took, refused = await drain(one, calls)
            optimum = (calls - per_min / 60 * burst_s) / (per_min / 60)
            assert took <= 1.7 * optimum + 5
            assert refused <= 0.05 * calls + 8

    backend, options = virtual_backend()
    anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.parametrize("factor", [0.1, 0.5])
async def test_too_low_limits_converge_where_the_provider_tells_its_own(rig: RigMaker, factor: float) -> None:
    enforced = Enforced(requests_per_min=600, burst_s=6)
    async with rig(models=only("openai", requests_per_min=600 * factor), enforced=enforced) as one:
        took, refused = await drain(one, 300)
        assert took <= 26
        assert refused == 0


async def test_limits_that_are_fixed_are_kept_though_the_provider_allows_more(rig: RigMaker) -> None:
    enforced = Enforced(requests_per_min=600, burst_s=6)
    limits = only("openai", requests_per_min=60, burst_s=1, fixed=True)
    async with rig(models=limits, enforced=enforced) as one:
        took, refused = await drain(one, 30)
        assert took >= 29
        assert refused == 0


async def test_a_limit_that_is_lowered_on_the_way_is_followed(rig: RigMaker) -> None:
    async with rig(models=only("openai", requests_per_min=600), enforced=Enforced(requests_per_min=300)) as one:
        await drain(one, 20)
        found = one.router._lanes["openai/m"].requests
        assert found is not None
        assert found.limit == 300


def test_a_limit_of_a_day_says_nothing_about_a_minute() -> None:
    lane = Lane(deployment("openai", limits=Limits(requests_per_min=500)))
    ticket = lane.take(1, lambda: 0.0, lambda: None)
    told = {"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "9999"}
    lane.learn({**told, "x-ratelimit-reset-requests": "8.64s"}, ticket, 0.1)
    assert lane.requests is not None
    assert lane.requests.limit == 500
    lane.learn({**told, "x-ratelimit-reset-requests": "6ms"}, ticket, 0.1)
    assert lane.requests.limit == 10_000
    assert lane.requests.wait(0.2) == 0
    lane.learn({"x-ratelimit-limit-tokens": "5000", "x-ratelimit-reset-tokens": "1h2m3s"}, ticket, 0.1)
    assert lane.tokens is not None
    assert lane.tokens.limit == 5000


def test_the_pace_begins_slowly_and_grows_while_it_is_what_holds_calls_up() -> None:
    pace, now, sent = Pace(known=False), 0.0, 0
    while now < 2.0:
        if wait := pace.wait(now):
            now += wait
        else:
            pace.take(now)
            pace.answered()
            sent += 1
    assert pace.wait(now + 10) == 0
    assert sent >= FIRST * 2
    assert pace.rate > 200
    idle = Pace(known=False)
    for second in range(100):
        idle.take(second * 10.0)
        idle.answered()
    assert idle.rate == FIRST


def test_a_refusal_finds_the_rate_that_the_provider_bears() -> None:
    pace, now = Pace(known=True), 0.0
    for number in range(100):  # 10 a second are answered, the last one is refused
        now = number * 0.1
        pace.take(now)
    pace.refused(now, now + 1, again=False)
    assert pace.rate == pytest.approx(9, rel=0.05)
    assert pace.wait(now + 0.5) > 0
    pace.known(5.0)
    assert pace.rate == float("inf")


def test_refusals_of_calls_on_their_way_are_one_refusal() -> None:
    lane, now = Lane(deployment("openai", limits=Limits(requests_per_min=6000))), 9.9
    for number in range(100):
        lane.take(1, lambda at=number * 0.1: at, lambda: None)  # type: ignore[misc]
    for _ in range(20):
        lane.conclude(Refusal("limited", "429", 429), now, probe=False)
    assert lane.pace.rate == pytest.approx(9, rel=0.05)


def test_an_outage_does_not_slow_down_what_comes_after_it() -> None:
    lane = Lane(deployment("openai", limits=Limits(requests_per_min=600)))

    def take(now: float) -> None:
        lane.take(1, lambda: now, lambda: None)

    for number in range(100):
        take(number * 0.1)
    for _ in range(3):
        lane.conclude(Refusal("unavailable", "503", 503), 10.0, probe=False)
    lane.take(1, lambda: 300.0, lambda: None).answered(1)
    for number in range(30):
        take(300 + number * 0.1)
    lane.conclude(Refusal("limited", "429", 429), 302.9, probe=False)
    assert lane.pace.rate == pytest.approx(9, rel=0.1)


def test_refusals_of_calls_that_were_sent_before_the_first_one_teach_nothing() -> None:
    lane = Lane(deployment("openai", limits=Limits(requests_per_min=6000)))
    tickets = [lane.take(1, lambda at=number * 0.1: at, lambda: None) for number in range(100)]  # type: ignore[misc]
    limited = Refusal("limited", "429", 429, 0.01)
    lane.conclude(limited, 9.9, probe=False, at=tickets[-1].at)
    rate = lane.pace.rate
    for late in (9.95, 10.2, 10.6):  # the pause is long over
        lane.conclude(limited, late, probe=False, at=9.8)
    assert lane.pace.rate == rate


def test_a_pace_below_the_limit_that_answers_tell_is_left_within_seconds() -> None:
    pace = Pace(known=True)
    for number in range(10):
        pace.take(number * 0.1)
    pace.refused(1.0, 1.1, again=False)
    assert pace.rate < 10
    for _ in range(300):
        pace.known(60.0)
    assert pace.rate == float("inf")
