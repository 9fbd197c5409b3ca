"""The rules of shared limits: what is drawn, by whom, and what comes back. Part of the suite."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import hypothesis
import pytest
from hypothesis import strategies as st

from ...transports import Bound, Draw, Grant, Need, Transport
from ...transports.reservoirs import Reservoir, draw
from .conformance_model import Clock

RATE = Bound(limit=60, window_s=60, burst=10, per_s=1)
PLACES = Bound(limit=4)
LEASE_S = 3.0


class ReservoirRules:
    """How workers share limits, one test for each rule."""

    async def test_no_more_is_granted_than_a_burst_and_its_refill(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """Whoever asks, through whichever client (law 8)."""
        first = await ask(store, "a", rate=Need(least=1, want=7))
        second = await ask(other, "b", rate=Need(least=1, want=7))
        assert (first.got, second.got) == ({"rate": 7}, {"rate": 3})
        assert (first.again_s, first.room) == (0, {"rate": 3, "places": 4})
        third = await ask(other, "c", rate=Need(least=1, want=7))
        assert third.got == {}
        assert third.again_s == pytest.approx(1)
        for holder, spent in (("a", 7), ("b", 3)):
            await ask(store, holder, rate=Need(spent=spent))
        clock.advance(2)
        assert (await ask(store, "c", rate=Need(least=1, want=7))).got == {"rate": 2}

    async def test_a_window_holds_no_more_than_the_limit(self, store: Transport, clock: Clock) -> None:
        """The burst and all of the refill would be more."""
        start, total, spent = clock(), 0.0, 0.0
        while clock() < start + 59:
            grant = await ask(store, "a", rate=Need(spent=spent, least=1, want=100))
            spent = grant.got.get("rate", 0.0)
            total += spent
            clock.advance(1)
        assert total == 60
        clock.advance(2)
        assert (await ask(store, "a", rate=Need(spent=spent, least=1, want=100))).got == {"rate": 10}

    async def test_racing_holders_get_no_more_than_there_is(self, store: Transport, other: Transport) -> None:
        """A draw is one act."""
        got: list[float] = []

        async def race(number: int) -> None:
            through = (store, other)[number % 2]
            grant = await ask(through, f"w{number}", rate=Need(least=1, want=3), places=Need(least=1, want=1))
            got.append(grant.got.get("rate", 0.0))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(race, number)
        assert 4 <= sum(got) <= 10
        assert sum(count > 0 for count in got) == 4

    async def test_what_is_given_back_is_there_for_others(self, store: Transport) -> None:
        """At once; what is kept is not."""
        await ask(store, "a", rate=Need(least=1, want=10), places=Need(least=1, want=4))
        assert (await ask(store, "b", rate=Need(least=1, want=9), places=Need(least=1, want=1))).got == {}
        await ask(store, "a", rate=Need(spent=2, keep=3), places=Need(keep=3))
        got = (await ask(store, "b", rate=Need(least=1, want=9), places=Need(least=1, want=1))).got
        assert got == {"rate": 5, "places": 1}

    async def test_a_lost_holders_places_come_back_when_its_lease_ends(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """Not before; one that draws keeps them."""
        await ask(store, "dead", places=Need(least=1, want=2))
        await ask(store, "alive", places=Need(least=1, want=2))
        clock.advance(2)
        await ask(store, "alive", places=Need(keep=2))
        clock.advance(0.9)
        assert (await ask(other, "b", places=Need(least=1, want=4))).got == {}
        clock.advance(0.2)
        assert (await ask(other, "b", places=Need(least=1, want=4))).got == {"places": 2}

    async def test_what_a_lost_holder_held_of_a_rate_counts_as_spent(self, store: Transport, clock: Clock) -> None:
        """It may have been: it comes back by refill, and leaves the window a minute after the lease has ended."""
        bounds = {"rate": Bound(limit=10, window_s=60, burst=10, per_s=10)}
        await ask(store, "dead", bounds=bounds, rate=Need(least=1, want=10))
        clock.advance(60)
        assert (await ask(store, "b", bounds=bounds, rate=Need(least=1, want=10))).got == {}
        clock.advance(LEASE_S + 0.5)
        assert (await ask(store, "b", bounds=bounds, rate=Need(least=1, want=10))).got == {"rate": 10}

    async def test_a_holder_that_was_late_is_not_counted_twice(self, store: Transport, clock: Clock) -> None:
        """What was entered for it when its lease ended is what it spent before."""
        bounds = {"rate": Bound(limit=10, window_s=60)}
        await ask(store, "late", bounds=bounds, rate=Need(least=1, want=6))
        clock.advance(LEASE_S + 1)
        grant = await ask(store, "late", bounds=bounds, rate=Need(spent=6, least=1, want=10))
        assert grant.got == {"rate": 4}

    async def test_what_was_not_used_after_all_is_given_back(self, store: Transport, clock: Clock) -> None:
        """By when it was said to be spent; from what has left the window nothing comes back."""
        bounds = {"tokens": Bound(limit=1000, window_s=60)}
        grant = await ask(store, "a", bounds=bounds, tokens=Need(least=400, want=1000))
        assert grant.got == {"tokens": 1000}
        told = await ask(store, "a", bounds=bounds, tokens=Need(spent=1000))
        clock.advance(30)
        back = await ask(store, "a", bounds=bounds, tokens=Need(back=((told.at, 900.0),), least=1, want=2000))
        assert back.got == {"tokens": 900}
        assert (await ask(store, "a", bounds=bounds)).room == {"tokens": 900}
        clock.advance(60)
        assert (await ask(store, "b", bounds=bounds, tokens=Need(back=((told.at, 900.0),)))).room == {"tokens": 1000}

    async def test_a_draw_gets_all_of_its_leasts_or_nothing(self, store: Transport, clock: Clock) -> None:
        """Nobody holds one limit's room while waiting for another's; a batch is even."""
        await ask(store, "a", places=Need(least=1, want=3))
        grant = await ask(store, "b", rate=Need(least=2, want=2), places=Need(least=2, want=2))
        assert grant.got == {}
        assert grant.room == {"rate": 10, "places": 1}
        clock.advance(1)
        grant = await ask(store, "c", rate=Need(least=1, want=8), places=Need(least=1, want=4))
        assert grant.got == {}, "b waits longer"
        await ask(store, "b")
        grant = await ask(store, "c", rate=Need(least=1, want=8), places=Need(least=1, want=4))
        assert grant.got == {"rate": 2, "places": 1}

    async def test_who_waits_longest_goes_first(self, store: Transport, clock: Clock) -> None:
        """So a large call is not starved by small ones; one that is not heard of again is not waited for."""
        bounds = {"tokens": Bound(limit=1000, window_s=60)}
        told = await ask(store, "a", bounds=bounds, tokens=Need(spent=900))
        assert (await ask(store, "large", bounds=bounds, tokens=Need(least=800, want=800))).got == {}
        clock.advance(1)
        assert (await ask(store, "small", bounds=bounds, tokens=Need(least=50, want=50))).got == {}
        await ask(store, "a", bounds=bounds, tokens=Need(back=((told.at, 720.0),)))
        assert (await ask(store, "small", bounds=bounds, tokens=Need(least=50, want=50))).got == {}
        assert (await ask(store, "large", bounds=bounds, tokens=Need(least=800, want=800))).got == {"tokens": 800}
        clock.advance(LEASE_S)
        assert (await ask(store, "small", bounds=bounds, tokens=Need(least=50, want=50))).got == {}
        clock.advance(61)
        assert (await ask(store, "small", bounds=bounds, tokens=Need(least=50, want=50))).got == {"tokens": 50}

    async def test_a_holder_of_places_hears_that_others_wait(self, store: Transport) -> None:
        """And what its share is, so that it takes no new ones beyond it."""
        assert (await ask(store, "a", places=Need(least=1, want=4))).share == {"places": math.inf}
        waiting = await ask(store, "b", places=Need(least=1, want=4))
        assert waiting.again_s > 0
        assert (await ask(store, "a", places=Need(keep=4))).share == {"places": 2}
        await ask(store, "a", places=Need(keep=2))
        assert (await ask(store, "b", places=Need(least=1, want=4))).got == {"places": 2}

    async def test_a_word_is_heard_by_all_and_said_by_who_knows_the_last(
        self, store: Transport, other: Transport
    ) -> None:
        """Of two at once the first one counts, and the second hears it; so do its limits."""
        assert (await ask(store, "a", word="down")).number == 1
        heard = await ask(other, "b", word="up")
        assert (heard.number, heard.word) == (1, "down")
        told = await ask(other, "b", known=1, word="up", bounds={"rate": RATE})
        assert (told.number, told.word, set(told.room)) == (2, None, {"rate"})
        late = await ask(store, "a", known=1)
        assert (late.number, late.word, set(late.room)) == (2, "up", {"rate"})
        assert set((await ask(store, "a", known=2)).room) == {"rate", "places"}

    async def test_a_provider_that_refused_holds_nothing(self, store: Transport, clock: Clock) -> None:
        """Whatever the bucket says; it refills from there."""
        await ask(store, "a", rate=Need(left=-2.0))
        assert (await ask(store, "b", rate=Need(least=1, want=5))).got == {}
        clock.advance(4)
        assert (await ask(store, "b", rate=Need(least=1, want=5))).got == {"rate": 2}

    async def test_a_new_limit_begins_empty(self, store: Transport, clock: Clock) -> None:
        """Others may have used it before it was known; a changed one keeps what was spent."""
        await ask(store, "a", bounds={"places": PLACES})
        assert (await ask(store, "a")).room == {"rate": 0, "places": 4}
        clock.advance(5)
        assert (await ask(store, "a", rate=Need(spent=2))).room["rate"] == pytest.approx(3)
        halved = Bound(limit=4, window_s=60, burst=10, per_s=1)
        assert (await ask(store, "a", bounds={"rate": halved})).room == {"rate": pytest.approx(2)}

    def test_any_history_of_draws_agrees_with_the_rule(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Random draws of several holders on two reservoirs, over any time, come to what `reservoirs.draw` says."""
        compare = hypothesis.settings(max_examples=self.examples, deadline=None, database=None)(
            hypothesis.given(st.lists(steps, max_size=40))(
                lambda history: agrees(self.open, tmp_path_factory.mktemp("store"), history)
            )
        )
        compare()

    examples: ClassVar[int]

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        """Open the store of a folder."""
        raise NotImplementedError


async def ask(
    store: Transport,
    holder: str,
    *,
    bounds: dict[str, Bound] | None = None,
    known: int = 0,
    word: str | None = None,
    **needs: Need,
) -> Grant:
    """Draw on one reservoir."""
    bounds = {"rate": RATE, "places": PLACES} if bounds is None else bounds
    (grant,) = await store.draw(
        holder, [Draw(reservoir="r", bounds=bounds, needs=needs, known=known, word=word)], lease_s=LEASE_S
    )
    return grant


needs = st.builds(
    Need,
    spent=st.sampled_from([0.0, 0.0, 1.0, 2.5, 30.0]),
    keep=st.sampled_from([0.0, 0.0, 1.0, 4.0]),
    least=st.sampled_from([0.0, 1.0, 1.0, 6.0]),
    want=st.sampled_from([6.0, 7.0, 50.0]),
    left=st.sampled_from([None, None, None, 2.0, -3.0]),
    back=st.lists(st.tuples(st.floats(-70, 0), st.sampled_from([0.5, 2.0])), max_size=2).map(tuple),
)
several = st.sampled_from(
    [
        {"rate": RATE, "places": PLACES, "tokens": Bound(limit=100, window_s=60.5)},
        {"rate": RATE, "places": PLACES},
        {"rate": Bound(limit=30, window_s=60, burst=3, per_s=0.5), "for ever": Bound(limit=40, window_s=math.inf)},
    ]
)
steps = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.lists(
        st.tuples(
            st.sampled_from(["r1", "r2"]),
            several,
            st.dictionaries(st.sampled_from(["rate", "places", "tokens", "for ever"]), needs),
            st.integers(0, 2),
            st.none() | st.sampled_from(["up", "down"]),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda one: one[0],
    ),
    st.sampled_from([0.0, 0.01, 0.3, 1.0, 4.0, 30.0, 700.0]),
)


def agrees(
    open_store: Callable[[Path, Callable[[], float]], AbstractAsyncContextManager[Transport]],
    folder: Path,
    history: list[Any],
) -> None:
    """Make draws on a store, and by the rule alone; compare what they come to."""

    async def main() -> None:
        clock, model = Clock(), dict[str, Reservoir]()
        async with open_store(folder, clock) as store:
            for holder, asked, seconds in history:
                draws = [
                    Draw(
                        reservoir=name,
                        bounds=bounds,
                        needs={which: _dated(need, clock()) for which, need in needs.items()},
                        known=max(0, model.get(name, Reservoir()).number - behind),
                        word=word,
                    )
                    for name, bounds, needs, behind, word in asked
                ]
                grants = await store.draw(holder, draws, lease_s=LEASE_S)
                for one, grant in zip(draws, grants, strict=True):
                    reservoir = model.setdefault(one.reservoir, Reservoir())
                    same(grant, draw(reservoir, one, holder, clock(), LEASE_S))
                clock.advance(seconds)

    asyncio.run(main())


def _dated(need: Need, now: float) -> Need:
    return Need(
        spent=need.spent,
        keep=need.keep,
        least=need.least,
        want=need.want,
        back=tuple((now + when, amount) for when, amount in need.back),
        left=need.left,
    )


def same(grant: Grant, expected: Grant) -> None:
    """Compare what two draws came to."""
    assert (grant.number, grant.word) == (expected.number, expected.word)
    assert grant.at == pytest.approx(expected.at, abs=1e-6)
    assert grant.again_s == pytest.approx(expected.again_s, abs=1e-4)
    for found, wanted in ((grant.got, expected.got), (grant.room, expected.room), (grant.share, expected.share)):
        assert found == pytest.approx(wanted, abs=1e-4)
