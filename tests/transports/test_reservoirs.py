"""Shared limits, decided: whatever holders do, no window sees more than its limit (law 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.transports import Bound, Draw, Grant, Need
from greenroom.transports.reservoirs import Reservoir, draw

LEASE_S = 3.0
WINDOW_S = 60.0
REQUESTS = "requests"


@dataclass
class Provider:
    """What the provider sees: a token bucket of its own, and the exact count of any window."""

    limit: float
    burst: float
    per_s: float
    level: float = field(init=False)
    at: float = 0.0
    seen: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.level = self.burst

    def take(self, amount: float, now: float) -> None:
        self.level = min(self.burst, self.level + (now - self.at) * self.per_s) - amount
        self.at = now
        self.seen.append((now, amount))
        assert self.level >= -1e-6, "the provider's bucket was overdrawn"
        busiest = sum(amount for when, amount in self.seen if when > now - WINDOW_S)
        assert busiest <= self.limit + 1e-6, "a window holds more than the limit"


@dataclass
class Worker:
    """A holder as it should be: what it holds, until when, and what it has not told yet."""

    held: float = 0.0
    spent: float = 0.0
    until: float = -math.inf
    frozen: bool = False


Act = tuple[str, int, float, float]

acts = st.lists(
    st.tuples(
        st.sampled_from(["draw", "draw", "draw", "spend", "spend", "wait", "wait", "give", "freeze", "long"]),
        st.integers(0, 3),
        st.sampled_from([1.0, 1.0, 2.0, 5.0, 40.0]),
        st.sampled_from([0.01, 0.1, 0.3, 1.0, 2.5]),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(acts=acts, limit=st.sampled_from([1.0, 4.0, 30.0, 600.0]), burst_s=st.sampled_from([0.1, 1.0, 6.0, 60.0]))
def test_no_window_sees_more_than_its_limit_whatever_becomes_of_the_holders(
    acts: list[Act], limit: float, burst_s: float
) -> None:
    """Four workers draw, spend at any time within their leases, say so late, freeze, and are never heard of again."""
    per_s = limit / WINDOW_S
    burst = max(1.0, per_s * burst_s)
    bound = Bound(limit=limit, window_s=WINDOW_S, burst=burst, per_s=per_s)
    provider = Provider(limit, burst, per_s)
    reservoir, workers, now = Reservoir(), [Worker() for _ in range(4)], 1_000.0
    provider.at = now
    for kind, number, amount, seconds in acts:
        one = workers[number]
        if now >= one.until:
            one.held = 0.0
        match kind:
            case "spend":
                spent = min(amount, one.held)
                if spent > 0:
                    provider.take(spent, now)
                    one.held -= spent
                    one.spent += spent
            case "wait":
                now += seconds
            case "long":
                now += 20 * seconds
            case "freeze":
                one.frozen = True
            case "give" | "draw" if not one.frozen:
                keep = one.held if kind == "draw" else 0.0
                need = (
                    Need(spent=one.spent, keep=keep, least=1.0, want=amount)
                    if kind == "draw"
                    else Need(spent=one.spent)
                )
                grant = draw(
                    reservoir,
                    Draw(reservoir="r", bounds={REQUESTS: bound}, needs={REQUESTS: need}),
                    str(number),
                    now,
                    LEASE_S,
                )
                assert grant.got.get(REQUESTS, 0.0) <= amount
                assert bool(grant.again_s) == (need.want > grant.got.get(REQUESTS, 0.0))
                one.held, one.spent = keep + grant.got.get(REQUESTS, 0.0), 0.0
                one.until = now + LEASE_S


class Store:
    """One reservoir and its time."""

    def __init__(self, **bounds: Bound) -> None:
        self.bounds = bounds
        self.reservoir = Reservoir()
        self.now = 1_000.0

    def draw(self, holder: str, known: int = 0, word: str | None = None, **needs: Any) -> Grant:
        asked = {name: need if isinstance(need, Need) else Need(**need) for name, need in needs.items()}
        draws = Draw(reservoir="r", bounds=self.bounds, needs=asked, known=known, word=word)
        return draw(self.reservoir, draws, holder, self.now, LEASE_S)


def rate(limit: float, burst: float) -> Bound:
    return Bound(limit=limit, window_s=WINDOW_S, burst=burst, per_s=limit / WINDOW_S)


def test_a_worker_that_asks_when_it_is_told_gets_all_that_there_is() -> None:
    """A limit of 60 a second with a burst of 60: nothing of the refill is lost, at five round trips a second."""
    store = Store(requests=rate(3600, 60))
    spent, total, asked, until = 0.0, 0.0, 0, store.now + 10
    while store.now < until:
        grant = store.draw("a", requests={"spent": spent, "least": 1, "want": 1000})
        spent = grant.got.get("requests", 0.0)
        total += spent
        asked += 1
        store.now += grant.again_s
    assert total >= 60 + 60 * 10 - 15
    assert asked <= 60


@pytest.mark.parametrize("holders", [2, 4, 7])
def test_those_who_want_get_equal_parts(holders: int) -> None:
    store = Store(requests=rate(3600, 60))
    due, total = dict.fromkeys(range(holders), 0.0), dict.fromkeys(range(holders), 0.0)
    spent: dict[int, float] = {}
    start = store.now
    while store.now < start + 20:
        who = min(due, key=lambda one: due[one])
        store.now = max(store.now, due[who])
        grant = store.draw(str(who), requests={"spent": spent.get(who, 0.0), "least": 1, "want": 500})
        spent[who] = grant.got.get("requests", 0.0)
        total[who] += spent[who]
        due[who] = store.now + grant.again_s
    assert sum(total.values()) >= 60 + 60 * 20 - 30
    assert min(total.values()) >= 0.7 * 1200 / holders
