"""The line: fair, work-conserving, no lost wake-up, nothing lost by cancellation."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.runtime.router import BreakerPolicy, Limits
from greenroom.runtime.router.connection import Answer, Connection
from greenroom.runtime.router.connections import Connections
from greenroom.runtime.router.failures import Refusal
from greenroom.runtime.router.lane import Lane, Route, Ticket
from greenroom.runtime.router.scheduler import LineClosed, LineFull, NobodyLeft, Scheduler, Unplaceable
from greenroom.runtime.testing.clock import virtual_backend

from .conftest import deployment


def now() -> float:
    return asyncio.get_running_loop().time()


def lane(name: str, **limits: float) -> Lane:
    return Lane(deployment("openai", name, name=name, limits=Limits(**limits), breaker=BreakerPolicy(failures=1)))  # type: ignore[arg-type]


def routes(*lanes: Lane) -> tuple[Route, ...]:
    return tuple(Route(one, 1.0, 0) for one in lanes)


class Desk:
    """Calls that wait, and the order in which they were let through."""

    def __init__(self, most: int = 1000) -> None:
        self.scheduler = Scheduler(now, most)
        self.through: list[tuple[str, str, float]] = []
        self.tickets: list[Ticket] = []

    async def call(
        self, name: str, way: tuple[Route, ...], tokens: float = 1, priority: int = 0, hold_s: float = 0.0
    ) -> None:
        order = (-priority, self.scheduler.number())
        ticket = await self.scheduler.acquire(way, tokens, frozenset(), order)
        self.through.append((name, ticket.lane.name, now()))
        self.tickets.append(ticket)
        await anyio.sleep(hold_s)
        ticket.answered(int(tokens))


async def test_the_line_is_first_come_first_served_within_a_priority() -> None:
    desk, way = Desk(), routes(lane("a", requests_per_min=60, burst_s=1))
    async with anyio.create_task_group() as group:
        for name, priority in (("first", 0), ("second", 0), ("urgent", 5), ("third", 0), ("urgent too", 5)):
            group.start_soon(desk.call, name, way, 1, priority)
    names = [name for name, _, _ in desk.through]
    assert names == ["first", "urgent", "urgent too", "second", "third"]


async def test_models_that_share_a_deployment_take_turns_in_order_of_arrival() -> None:
    desk, shared = Desk(), lane("shared", requests_per_min=60, burst_s=1)
    smart, fast = routes(shared), routes(shared)
    assert smart == fast
    fast = (*fast, *routes(lane("other", concurrency=1)))
    async with anyio.create_task_group() as group:
        group.start_soon(desk.call, "keeps other busy", routes(fast[1].lane), 1, 9, 1000.0)
        for number in range(10):
            group.start_soon(desk.call, f"{number}", fast if number % 2 else smart)
    assert [name for name, _, _ in desk.through[1:]] == [str(number) for number in range(10)]


async def test_a_call_that_waits_holds_up_nobody_who_goes_elsewhere() -> None:
    desk, busy, free = Desk(), lane("busy", concurrency=1), lane("free")
    async with anyio.create_task_group() as group:
        group.start_soon(desk.call, "holder", routes(busy), 1, 0, 50.0)
        group.start_soon(desk.call, "waits", routes(busy))
        group.start_soon(desk.call, "passes", routes(busy, free))
    assert [(name, at) for name, _, at in desk.through] == [("holder", 0), ("passes", 0), ("waits", 50)]


async def test_a_large_call_is_not_starved_by_small_ones() -> None:
    desk, way = Desk(), routes(lane("a", tokens_per_min=100))
    async with anyio.create_task_group() as group:
        group.start_soon(desk.call, "half", way, 50)
        group.start_soon(desk.call, "large", way, 90)
        for number in range(100):
            group.start_soon(desk.call, f"small {number}", way, 10)
    assert [name for name, _, _ in desk.through[:2]] == ["half", "large"]
    assert desk.through[1][2] < 62


async def test_a_place_that_is_freed_goes_to_the_next_at_once() -> None:
    desk, way = Desk(), routes(lane("a", concurrency=2))
    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(desk.call, str(number), way, 1, 0, 1.0)
    assert [at for _, _, at in desk.through] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


async def test_a_canceled_waiter_leaves_the_line_and_lets_the_next_one_through() -> None:
    desk, way = Desk(), routes(lane("a", tokens_per_min=100))
    async with anyio.create_task_group() as group:
        group.start_soon(desk.call, "first", way, 60)
        await anyio.sleep(1)
        with anyio.move_on_after(1):
            await desk.call("large, gives up", way, 90)
        group.start_soon(desk.call, "small", way, 30)
    assert [(name, at) for name, _, at in desk.through] == [("first", 0), ("small", 2)]
    assert desk.scheduler.waiting == 0


async def test_a_ticket_that_arrives_with_a_cancellation_is_given_back() -> None:
    desk, way = Desk(), routes(lane("a", concurrency=1))
    holder = await desk.scheduler.acquire(way, 1, frozenset(), (0, 0))
    async with asyncio.TaskGroup() as group:
        canceled = group.create_task(desk.call("canceled", way))
        await asyncio.sleep(0)
        holder.answered(1)
        canceled.cancel()
        assert way[0].lane.in_flight == 1
    assert desk.through == []
    assert way[0].lane.in_flight == 0


async def test_a_weight_is_a_share() -> None:
    desk = Desk()
    heavy, light = (lane(name, requests_per_min=60_000) for name in ("heavy", "light"))
    way = (Route(heavy, 3.0, 0), Route(light, 1.0, 0))
    for number in range(40):
        await desk.call(str(number), way)
    assert (heavy.served, light.served) == (30, 10)


async def test_one_probe_at_a_time_asks_a_broken_deployment() -> None:
    desk, broken = Desk(), lane("broken")
    way = routes(broken)
    ticket = await desk.scheduler.acquire(way, 1, frozenset(), (0, 0))
    ticket.answered(None, Refusal("unavailable", "503"))
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(desk.call, str(number), way, 1, 0, 1.0)
    assert [at for _, _, at in desk.through] == [0.5, 1.5, 1.5]
    assert [ticket.probe for ticket in desk.tickets] == [True, False, False]


async def test_answers_to_calls_from_before_the_breaker_opened_do_not_close_it() -> None:
    desk, one = Desk(), lane("a")
    early, failing = [await desk.scheduler.acquire(routes(one), 1, frozenset(), (0, n)) for n in range(2)]
    failing.answered(None, Refusal("unavailable", "503"))
    early.answered(1)
    assert one.breaker.state(now()) == "open"


async def test_a_call_that_can_never_fit_is_refused_even_while_its_deployment_is_busy() -> None:
    desk, way = Desk(), routes(lane("a", tokens_per_min=100, concurrency=1))
    await desk.scheduler.acquire(way, 1, frozenset(), (0, 0))
    with pytest.raises(Unplaceable):
        await desk.scheduler.acquire(way, 101, frozenset(), (0, 1))


async def test_a_limit_that_is_learned_to_be_smaller_refuses_who_waits_for_more() -> None:
    desk, one = Desk(), lane("a", tokens_per_min=1000)
    ticket = await desk.scheduler.acquire(routes(one), 900, frozenset(), (0, 0))
    async with anyio.create_task_group() as group:

        async def large() -> None:
            with pytest.raises(Unplaceable):
                await desk.scheduler.acquire(routes(one), 800, frozenset(), (0, 1))

        group.start_soon(large)
        await anyio.sleep(1)
        ticket.told({"x-ratelimit-limit-tokens": "500", "x-ratelimit-remaining-tokens": "400"})
        ticket.answered(10)


async def test_a_full_line_and_a_closed_one_turn_calls_away() -> None:
    desk, way = Desk(most=1), routes(lane("a", concurrency=1))
    await desk.scheduler.acquire(way, 1, frozenset(), (0, 0))
    async with anyio.create_task_group() as group:

        async def waits() -> None:
            with pytest.raises(LineClosed):
                await desk.scheduler.acquire(way, 1, frozenset(), (0, 1))

        group.start_soon(waits)
        await anyio.sleep(1)
        with pytest.raises(LineFull):
            await desk.scheduler.acquire(way, 1, frozenset(), (0, 2))
        desk.scheduler.close()
    assert desk.scheduler.waiting == 0


async def test_nobody_waits_for_a_key_that_is_refused() -> None:
    desk, one = Desk(), lane("a")
    ticket = await desk.scheduler.acquire(routes(one), 1, frozenset(), (0, 0))
    ticket.answered(None, Refusal("refused", "401", 401))
    with pytest.raises(NobodyLeft):
        await desk.scheduler.acquire(routes(one), 1, frozenset(), (0, 1))


WAYS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
STEPS = st.lists(
    st.tuples(
        WAYS,
        st.integers(1, 90),  # tokens
        st.sampled_from(["ok", "unavailable", "limited", "closed"]),
        st.sampled_from([0.0, 0.1, 3.0]),  # held
        st.sampled_from([None, None, None, 0.0, 0.05, 2.0]),  # canceled after
        st.sampled_from([0.0, 0.0, 1.0]),  # before the next arrives
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100)
@given(steps=STEPS, seed=st.integers(0, 50))
def test_whatever_happens_everybody_gets_through_or_leaves_and_every_place_comes_back(
    steps: list[tuple[list[str], int, str, float, float | None, float]], seed: int
) -> None:
    """A lost wake-up would leave a waiter for ever: the virtual loop then raises Deadlock."""

    async def main() -> None:
        scheduler = Scheduler(now, 1000)
        lanes = {
            "a": lane("a", requests_per_min=60, burst_s=2, concurrency=2),
            "b": lane("b", tokens_per_min=100),
            "c": lane("c", concurrency=1),
        }
        done: list[str] = []

        async def call(
            way: tuple[Route, ...], tokens: int, outcome: str, hold_s: float, patience: float | None
        ) -> None:
            with anyio.move_on_after(patience):
                ticket = await scheduler.acquire(way, tokens, frozenset(), (0, scheduler.number()))
                try:
                    await anyio.sleep(hold_s)
                finally:
                    if outcome == "closed":
                        ticket.dropped("closed")
                    else:
                        ticket.answered(tokens, None if outcome == "ok" else Refusal(outcome, "no"))
                    ticket.dropped("twice")
            done.append(outcome)

        async with anyio.create_task_group() as group:
            for names, tokens, outcome, hold_s, patience, gap_s in steps:
                group.start_soon(call, routes(*(lanes[name] for name in names)), tokens, outcome, hold_s, patience)
                await anyio.sleep(gap_s)
        assert len(done) == len(steps)
        assert scheduler.waiting == 0
        assert all(one.in_flight == 0 and not one.breaker.probing for one in lanes.values())
        assert "twice" not in {name for one in lanes.values() for name in one.outcomes}
        scheduler.close()

    backend, options = virtual_backend(seed)
    anyio.run(main, backend=backend, backend_options=options)


async def test_a_call_is_told_that_it_is_bound_before_anybody_else_runs() -> None:
    scheduler, way = Scheduler(now, 10), routes(lane("a", concurrency=1))
    first = await scheduler.acquire(way, 1, frozenset(), (0.0, 1.0))
    bound: list[Ticket] = []

    async def wait() -> None:
        ticket = await scheduler.acquire(way, 1, frozenset(), (0.0, 2.0), None, bound.append)
        assert bound == [ticket]
        ticket.answered(1)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not bound
        first.answered(1)
        assert len(bound) == 1  # no turn of the loop in between


async def test_a_deployment_that_comes_up_wakes_calls_behind_one_that_cannot_use_it() -> None:
    desk, busy, down = Desk(), lane("busy", concurrency=1), lane("down")
    down.conclude(Refusal("unavailable", "503", 503), now(), probe=False)
    held = await desk.scheduler.acquire(routes(busy), 1, frozenset(), (0.0, 0.0))
    async with anyio.create_task_group() as group:
        group.start_soon(desk.call, "head", routes(busy))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(desk.call, "behind", routes(busy, down))
        await anyio.sleep(5)
        assert [(name, where) for name, where, _ in desk.through] == [("behind", "down")]
        assert desk.through[0][2] <= 2
        held.answered(1)


async def test_the_ticket_of_a_call_that_left_and_is_given_up_ends_its_connection() -> None:
    ticket = lane("a").take(1, now, lambda: None)
    connection = Connection(Connections(), ("http", "127.0.0.1", 80))
    ticket.begun = Answer(connection)
    ticket.dropped("canceled")
    assert ticket.begun.ended
    assert not connection.usable
