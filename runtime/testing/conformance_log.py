"""The rules of the log, of which every transport's suite is made: creating, appending, posting, reading, listing.

Why: readers and replay stand on these laws. `TransportSuite` adds leases, hints and all the rest; what each
test is given (`store`, `other`, `clock`) comes from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ...transports import (
    Claim,
    Entry,
    Fenced,
    Finish,
    HandOver,
    InvalidCursor,
    KeyConflict,
    Lane,
    Lease,
    NewRun,
    Park,
    Run,
    RunEnded,
    RunFilter,
    RunNotFound,
    RunState,
    Terms,
    Transition,
    Transport,
)
from .conformance_model import Clock

FIRST = Entry("run.queued", b"first")
TERMINAL = tuple(state for state in RunState if state.terminal)


def entries(count: int, kind: str = "step.completed") -> list[Entry]:
    """Return records that can be told apart."""
    return [Entry(kind, f"{kind} {n}".encode()) for n in range(count)]


class LogRules:
    """What a log is, one test for each of its rules."""

    # --- creating

    async def test_a_new_run_is_queued_and_due_at_once_with_its_first_record(
        self, store: Transport, clock: Clock
    ) -> None:
        """Creating writes the row and record 1 as one act."""
        run, is_new = await store.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=(FIRST,), tags=("a", "b")))
        assert is_new
        assert run == Run(
            run_id="r",
            lane=Lane(workflow="w"),
            state=RunState.QUEUED,
            seq=1,
            control_seq=0,
            created=clock(),
            updated=clock(),
            due=clock(),
            owner=None,
            fence=0,
            waiting_on=None,
            key=None,
            tags=("a", "b"),
        )
        assert await store.run("r") == run
        (stored,) = await store.read("r")
        assert (stored.seq, stored.ts, stored.kind, stored.body) == (1, clock(), FIRST.kind, FIRST.body)

    async def test_a_run_may_be_created_for_later(self, store: Transport, clock: Clock) -> None:
        """`due` is when it may start: nobody can claim it before."""
        await create(store, "r", due=clock() + 60)
        assert await claim(store, 1) == []
        clock.advance(60)
        assert len(await claim(store, 1)) == 1

    async def test_one_key_is_one_run_for_ever(self, store: Transport, clock: Clock) -> None:
        """The key of a run that has ended still names that run (law 1)."""
        first, _ = await create(store, "r1", key="k", digest="d")
        ended = await finished(store, clock)
        clock.advance(1e9)
        run, is_new = await create(store, "r2", key="k", digest="d")
        assert (run.run_id, is_new) == (first.run_id, False)
        assert run.state is ended.state
        with pytest.raises(RunNotFound):
            await store.run("r2")

    async def test_a_key_with_another_payload_is_refused(self, store: Transport) -> None:
        """Nothing is written, and the error names the run that has the key (law 1)."""
        await create(store, "r1", key="k", digest="d")
        with pytest.raises(KeyConflict) as refusal:
            await create(store, "r2", key="k", digest="other")
        assert (refusal.value.key, refusal.value.run_id) == ("k", "r1")
        assert [run.run_id for run in (await store.runs(RunFilter())).runs] == ["r1"]

    async def test_a_run_id_is_given_once(self, store: Transport) -> None:
        """A run id that exists is refused, and the run that has it is left as it was."""
        before, _ = await create(store, "r", digest="d")
        with pytest.raises(KeyConflict):
            await create(store, "r", digest="d")
        assert await store.run("r") == before

    async def test_racing_creates_with_one_key_make_one_run(self, store: Transport, other: Transport) -> None:
        """However many callers race, from whichever process, one of them made it (law 1)."""
        made: list[tuple[Run, bool]] = []

        async def race(through: Transport, name: str) -> None:
            made.append(await create(through, name, key="k", digest="d"))

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(race, (store, other)[n % 2], f"r{n}")
        assert [is_new for _, is_new in made].count(True) == 1
        assert len({run.run_id for run, _ in made}) == 1
        assert len((await store.runs(RunFilter())).runs) == 1

    # --- appending

    async def test_seqs_are_dense(self, store: Transport, clock: Clock) -> None:
        """A log counts 1, 2, 3 ... over appends of any size, and every record has the time of its append (law 2)."""
        lease = (await claimed(store)).lease
        for count in (1, 3, 2):
            clock.advance(1)
            run = await store.append(lease, entries(count))
        assert run.seq == 7
        log = await store.read("r")
        assert [stored.seq for stored in log] == [1, 2, 3, 4, 5, 6, 7]
        assert [stored.ts - log[0].ts for stored in log] == [0, 1, 2, 2, 2, 3, 3]
        assert [stored.body for stored in log[2:5]] == [entry.body for entry in entries(3)]

    async def test_racing_appends_interleave_whole(self, store: Transport) -> None:
        """Appends of one lease from many tasks keep each one's records together and in order (laws 2, 9)."""
        lease = (await claimed(store)).lease

        async def append(n: int) -> None:
            await store.append(lease, [Entry(f"{n}", b"a"), Entry(f"{n}", b"b")])

        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(append, n)
        log = (await store.read("r"))[1:]
        assert [stored.seq for stored in log] == list(range(2, 102))
        assert [stored.body for stored in log] == [b"a", b"b"] * 50
        assert [a.kind for a in log[::2]] == [b.kind for b in log[1::2]]

    async def test_bodies_come_back_byte_for_byte(self, store: Transport) -> None:
        """A body is opaque: empty, binary, large."""
        lease = (await claimed(store)).lease
        bodies = [b"", bytes(range(256)), b"\0", "ü".encode(), random.Random(0).randbytes(1_000_000)]  # noqa: S311
        await store.append(lease, [Entry("k", body) for body in bodies])
        assert [stored.body for stored in await store.read("r", 1)] == bodies

    @pytest.mark.parametrize("state", TERMINAL)
    async def test_nothing_follows_a_terminal_record(self, store: Transport, clock: Clock, state: RunState) -> None:
        """A run that ended is never due, claimed, appended or posted to again (law 2)."""
        lease = (await claimed(store)).lease
        run = await store.append(lease, entries(1), Finish(state))
        assert (run.state, run.due, run.owner, run.seq) == (state, None, None, 2)
        with pytest.raises(Fenced):
            await store.append(lease, entries(1))
        with pytest.raises(RunEnded) as refusal:
            await store.post("r", entries(1))
        assert refusal.value.state is state
        clock.advance(1e6)
        assert await claim(store, 10) == []
        assert await store.renew([lease], lease_s=10) == {}
        assert await store.next_due(terms("w")) is None
        assert await store.run("r") == run
        assert len(await store.read("r")) == 2

    async def test_hand_over_queues_the_run_again_at_once(self, store: Transport, clock: Clock) -> None:
        """A draining worker gives up its lease with its last record; the next claim is no takeover of a lost one."""
        lease = (await claimed(store)).lease
        clock.advance(1)
        run = await store.append(lease, entries(1), HandOver())
        assert (run.state, run.due, run.owner, run.seq, run.fence) == (RunState.QUEUED, clock(), None, 2, 1)
        with pytest.raises(Fenced):
            await store.append(lease, entries(1))
        (again,) = await claim(store, 1)
        assert again.lease.fence == 2

    async def test_a_transition_needs_no_record(self, store: Transport) -> None:
        """Parking and handing over may come with an empty append."""
        lease = (await claimed(store)).lease
        run = await store.append(lease, [], HandOver())
        assert (run.state, run.seq) == (RunState.QUEUED, 1)

    async def test_a_parked_run_wakes_at_its_time(self, store: Transport, clock: Clock) -> None:
        """Until then it is nobody's, and says what it waits for."""
        lease = (await claimed(store)).lease
        due = clock() + 60
        run = await store.append(lease, entries(1), Park(due=due, waiting_on="timer", seen=0))
        assert (run.state, run.due, run.owner, run.waiting_on) == (RunState.WAITING, due, None, "timer")
        assert await store.next_due(terms("w")) == due
        with pytest.raises(Fenced):
            await store.append(lease, entries(1))
        clock.advance(59)
        assert await claim(store, 1) == []
        clock.advance(1)
        (woken,) = await claim(store, 1)
        assert (woken.run.state, woken.run.waiting_on, woken.lease.fence) == (RunState.RUNNING, None, 2)

    async def test_a_control_record_wakes_a_parked_run(self, store: Transport, clock: Clock) -> None:
        """A run that waits for ever is due as soon as somebody posts to it."""
        lease = (await claimed(store)).lease
        await store.append(lease, entries(1), Park(due=None, waiting_on="signal", seen=0))
        clock.advance(1e6)
        assert await claim(store, 1) == []
        assert await store.next_due(terms("w")) is None
        run = await store.post("r", entries(1, "signal"))
        assert (run.state, run.due, run.control_seq) == (RunState.WAITING, clock(), 3)
        assert len(await claim(store, 1)) == 1

    async def test_a_run_does_not_sleep_through_what_came_while_it_parked(self, store: Transport, clock: Clock) -> None:
        """A control record that the run had not seen when it parked makes it due at once."""
        lease = (await claimed(store)).lease
        await store.post("r", entries(1, "signal"))
        run = await store.append(lease, [], Park(due=None, waiting_on="signal", seen=0))
        assert (run.state, run.due) == (RunState.WAITING, clock())
        (woken,) = await claim(store, 1)
        run = await store.append(woken.lease, [], Park(due=None, waiting_on="signal", seen=2))
        assert run.due is None

    # --- posting

    async def test_a_post_needs_no_lease_and_takes_none(self, store: Transport, clock: Clock) -> None:
        """A control record gets the next seq; the worker keeps its lease, a queued run its time."""
        queued, _ = await create(store, "r", due=clock() + 5)
        run = await store.post("r", entries(2, "signal"))
        assert (run.state, run.seq, run.control_seq, run.due) == (RunState.QUEUED, 3, 3, queued.due)
        clock.advance(5)
        (held,) = await claim(store, 1)
        run = await store.post("r", entries(1, "signal"))
        assert (run.state, run.seq, run.control_seq, run.due, run.owner) == (
            RunState.RUNNING,
            4,
            4,
            held.run.due,
            held.lease.owner,
        )
        assert (await store.append(held.lease, entries(1))).seq == 5

    async def test_posts_race_appends_without_gap(self, store: Transport, other: Transport) -> None:
        """Signals from outside and records of the worker share one count (law 2)."""
        lease = (await claimed(store)).lease

        async def post() -> None:
            for _ in range(20):
                await other.post("r", entries(1, "signal"))

        async with anyio.create_task_group() as group:
            group.start_soon(post)
            for _ in range(20):
                await store.append(lease, entries(2))
        log = await store.read("r")
        assert [stored.seq for stored in log] == list(range(1, 62))
        control = await store.read("r", control=True)
        assert [stored.kind for stored in control] == ["signal"] * 20
        assert (await store.run("r")).control_seq == control[-1].seq

    # --- reading

    async def test_a_cursor_reads_on_where_it_stands(self, store: Transport) -> None:
        """Pages by `after` and `limit` give every record once (law 2)."""
        lease = (await claimed(store)).lease
        await store.append(lease, entries(9))
        seqs: list[int] = []
        while page := await store.read("r", seqs[-1] if seqs else 0, 4):
            assert len(page) <= 4
            seqs += [stored.seq for stored in page]
        assert seqs == list(range(1, 11))
        assert await store.read("r", 10) == []
        assert await store.read("r", 99) == []

    async def test_control_records_can_be_read_alone(self, store: Transport) -> None:
        """With `control`, the cursor and limit count over control records only."""
        lease = (await claimed(store)).lease
        for n in range(3):
            await store.append(lease, entries(2))
            await store.post("r", entries(1, f"signal.{n}"))
        control = await store.read("r", control=True)
        assert [(stored.seq, stored.kind) for stored in control] == [(4, "signal.0"), (7, "signal.1"), (10, "signal.2")]
        assert await store.read("r", 4, 1, control=True) == control[1:2]
        assert await store.read("r", 10, control=True) == []

    async def test_an_unknown_run_is_said_to_be_unknown(self, store: Transport) -> None:
        """By every call that names one; a renewal just does not hold it."""
        lease = Lease(run_id="none", owner="o", fence=1)
        calls: list[Callable[[], Any]] = [
            lambda: store.run("none"),
            lambda: store.read("none"),
            lambda: store.read("none", 5, control=True),
            lambda: store.post("none", entries(1)),
            lambda: store.append(lease, entries(1)),
        ]
        for call in calls:
            with pytest.raises(RunNotFound):
                await call()
        assert await store.renew([lease], lease_s=1) == {}

    async def test_runs_are_listed_newest_first_by_pages(self, store: Transport) -> None:
        """The last page has no cursor, also when it is full."""
        for n in range(6):
            await create(store, f"r{n}")
        assert await pages(store, RunFilter(), 4) == [["r5", "r4", "r3", "r2"], ["r1", "r0"]]
        assert await pages(store, RunFilter(), 3) == [["r5", "r4", "r3"], ["r2", "r1", "r0"]]
        assert await pages(store, RunFilter(workflow="none"), 3) == [[]]

    async def test_runs_are_filtered_by_every_field_and_all_of_them(self, store: Transport, clock: Clock) -> None:
        """A filter holds over pages."""
        await create(store, "old", tags=("t",))
        clock.advance(1)
        border = clock()
        await create(store, "at-border", tags=("t",))
        clock.advance(1)
        await create(store, "other", workflow="w2", tags=("t",))
        await create(store, "untagged")
        await create(store, "tagged", tags=("s", "t"))
        await create(store, "running", tags=("t",), workflow="w3")
        await store.claim("worker", terms("w3"), limit=1, lease_s=10)
        expected = {
            RunFilter(workflow="w"): [["tagged", "untagged"], ["at-border", "old"]],
            RunFilter(state=RunState.RUNNING): [["running"]],
            RunFilter(tag="t"): [["running", "tagged"], ["other", "at-border"], ["old"]],
            RunFilter(tag="s"): [["tagged"]],
            RunFilter(created_after=border): [["running", "tagged"], ["untagged", "other"]],
            RunFilter(workflow="w", tag="t", created_after=border, state=RunState.QUEUED): [["tagged"]],
        }
        for where, runs in expected.items():
            assert await pages(store, where, 2) == runs, where

    async def test_a_list_cursor_is_stable_under_new_runs(self, store: Transport) -> None:
        """Who turns the page while runs come in sees each older run once."""
        for n in range(4):
            await create(store, f"r{n}")
        page = await store.runs(RunFilter(), limit=2)
        for n in range(4, 9):
            await create(store, f"r{n}")
        rest = await store.runs(RunFilter(), cursor=page.next_cursor, limit=10)
        assert [run.run_id for run in (*page.runs, *rest.runs)] == ["r3", "r2", "r1", "r0"]

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 40, "1; DROP TABLE runs", "\0", "\ud800"])
    async def test_a_cursor_of_another_make_is_refused(self, store: Transport, cursor: str) -> None:
        """And never breaks the store (law 9)."""
        await create(store, "r")
        with pytest.raises(InvalidCursor):
            await store.runs(RunFilter(), cursor=cursor)
        assert len((await store.runs(RunFilter())).runs) == 1


async def create(store: Transport, run_id: str, *, workflow: str = "w", **options: Any) -> tuple[Run, bool]:
    """Create a run with little to say."""
    return await store.create(NewRun(run_id=run_id, lane=Lane(workflow=workflow), entries=(FIRST,), **options))


def terms(*workflows: str) -> dict[str, Terms]:
    """Return terms without limits for some workflows."""
    return dict.fromkeys(workflows, Terms())


async def claim(store: Transport, limit: int) -> list[Claim]:
    """Claim runs of workflow `w` for ten seconds."""
    return await store.claim("worker", terms("w"), limit=limit, lease_s=10)


async def claimed(store: Transport, run_id: str = "r", *, workflow: str = "w", lease_s: float = 60) -> Claim:
    """Create a run and claim it."""
    await create(store, run_id, workflow=workflow)
    (got,) = await store.claim("worker", terms(workflow), limit=1, lease_s=lease_s)
    assert got.run.run_id == run_id
    return got


async def finished(store: Transport, clock: Clock, to: Transition | None = None) -> Run:
    """Claim the run that is due and end it."""
    (got,) = await claim(store, 1)
    clock.advance(1)
    return await store.append(got.lease, entries(1), to or Finish(RunState.COMPLETED))


async def pages(store: Transport, where: RunFilter, limit: int) -> list[list[str]]:
    """List all runs that match, page by page."""
    found: list[list[str]] = []
    cursor: str | None = None
    while not found or cursor is not None:
        page = await store.runs(where, cursor=cursor, limit=limit)
        found.append([run.run_id for run in page.runs])
        cursor = page.next_cursor
    return found
