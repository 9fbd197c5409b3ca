"""Limits, breaker and failures as pure values: the clock is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime.router import BreakerPolicy
from greenroom.runtime.router.breaker import PROBE_S, REFUSED_PAUSE_S, Breaker
from greenroom.runtime.router.bucket import RequestLimit, TokenLimit
from greenroom.runtime.router.failures import Refusal
from greenroom.runtime.router.lane import Lane

from .conftest import busiest, deployment

GAPS = st.lists(st.sampled_from([0.0, 0.01, 0.5, 7.0, 30.0]), min_size=1, max_size=120)


@given(limit=st.integers(1, 50), burst_s=st.floats(0.1, 60), gaps=GAPS)
def test_no_window_holds_more_requests_than_the_limit(limit: int, burst_s: float, gaps: list[float]) -> None:
    bucket, now, sent = RequestLimit(limit, burst_s), 0.0, []
    for gap in gaps:
        now += gap
        now += bucket.wait(now)
        assert bucket.wait(now) == 0
        bucket.take(now)
        bucket.left(now)
        sent.append((now, 1.0))
    assert busiest(sent) <= limit


@given(
    limit=st.integers(60, 600),
    delays=st.lists(st.sampled_from([0.0, 0.0, 0.4, 3.0]), min_size=1, max_size=30),
)
def test_calls_that_leave_late_do_not_arrive_too_many_at_once(limit: int, delays: list[float]) -> None:
    """The provider's bucket holds a second's worth; calls leave in order, some late: it is never overdrawn."""
    bucket, now, unsent = RequestLimit(limit, 1.0), 0.0, 0
    rate = limit / 60
    level, at = rate, 0.0
    for delay in delays:
        while bucket.wait(now) == 0 and unsent < 50:
            bucket.take(now)
            unsent += 1
        now += delay
        for _ in range(unsent):
            level, at = min(rate, level + (now - at) * rate) - 1, now
            assert level >= -1e-6
            bucket.left(now)
        unsent = 0
        now += bucket.wait(now)


USES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 30.0, 59.0, 61.0]), st.integers(1, 100), st.integers(0, 100)), max_size=40
)


@given(uses=USES)
def test_no_window_holds_more_tokens_than_the_limit(uses: list[tuple[float, int, int]]) -> None:
    window, now = TokenLimit(100), 0.0
    sent: list[tuple[float, float]] = []
    for gap, reserved, used in uses:
        now += gap
        while wait := window.wait(reserved, now):
            now += wait
        window.settle(window.reserve(reserved, now), min(reserved, used))
        sent.append((now, min(reserved, used)))
    assert busiest(sent) <= 100


def test_a_refusal_empties_the_bucket_so_that_the_pause_ends_without_a_herd() -> None:
    bucket = RequestLimit(60, 10)
    bucket.drained(5.0)
    assert bucket.wait(5.0) == pytest.approx(1, abs=0.01)


def test_the_breaker_opens_probes_and_closes() -> None:
    down, breaker = Refusal("unavailable", "503"), Breaker(BreakerPolicy(failures=2, pause_s=2, longest_pause_s=5))
    breaker.fail(0, down, probe=False)
    assert breaker.state(0) == "closed"
    breaker.fail(0, down, probe=False)
    assert (breaker.state(0), breaker.wait(0)) == ("open", 2)
    for opened, pause in ((2.0, 4.0), (6.0, 5.0), (11.0, 5.0)):
        assert (breaker.state(opened), breaker.wait(opened)) == ("half_open", 0)
        assert breaker.pass_through(opened)
        assert breaker.wait(opened) == PROBE_S
        breaker.fail(opened, down, probe=True)
        assert (breaker.wait(opened), breaker.since) == (pause, 0)
    assert breaker.pass_through(16)
    breaker.succeed(probe=True)
    assert (breaker.state(16), breaker.failures, breaker.probing) == ("closed", 0, 0)


def test_a_probe_that_does_not_come_back_does_not_hold_up_the_next() -> None:
    breaker = Breaker(BreakerPolicy(failures=1))
    breaker.fail(0, Refusal("unavailable", "503"), probe=False)
    assert breaker.pass_through(1)
    assert breaker.wait(1 + PROBE_S) == 0
    assert breaker.pass_through(1 + PROBE_S)
    breaker.succeed(probe=True)
    assert breaker.state(7) == "closed"
    breaker.fail(8, Refusal("unavailable", "503"), probe=True)  # the first one, at last
    assert breaker.probing == 0


def test_a_refused_key_opens_the_breaker_at_once_and_for_long() -> None:
    breaker = Breaker(BreakerPolicy())
    breaker.fail(0, Refusal("refused", "401"), probe=False)
    assert breaker.wait(0) == REFUSED_PAUSE_S


def test_refusals_that_do_not_say_how_long_pause_for_longer_and_longer() -> None:
    lane, now, pauses = Lane(deployment("openai")), 0.0, []
    for _ in range(5):
        lane.conclude(Refusal("limited", "429", 429), now, probe=False)
        pauses.append(lane.paused_until - now)
        now = lane.paused_until
    assert pauses == [0.5, 1, 2, 4, 8]
    lane.conclude(None, now, probe=False)
    lane.conclude(Refusal("limited", "429", 429), now, probe=False)
    assert lane.paused_until - now == 0.5
