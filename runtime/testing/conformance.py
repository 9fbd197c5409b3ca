"""The suite that every transport must pass: the contract, one test for each of its rules.

Why: the runtime promises what the transport contract promises, so whoever writes a transport must be able to know that
it keeps it. Subclass `TransportSuite` in a test module, say how to open a store, and run pytest::

    class TestMine(TransportSuite):
        def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
            return open_mine(folder / "store", clock=clock)

Each test is named after the rule it checks, and its docstring says it. Time is the clock that the suite hands over: no
test sleeps until a lease ends. Needs pytest and hypothesis.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import hypothesis
import msgspec
import pytest
from hypothesis.stateful import run_state_machine_as_test

from ...transports import (
    READY,
    Claim,
    Entry,
    Finish,
    HandOver,
    Lease,
    Park,
    RunFilter,
    RunNotFound,
    RunPruned,
    RunState,
    Transport,
    Watch,
    WorkerInfo,
    control_topic,
    end_topic,
    log_topic,
)
from .conformance_appends import AppendRules
from .conformance_lanes import LaneRules
from .conformance_log import LogRules, claim, claimed, create, entries, terms
from .conformance_model import Clock, LogAndLease
from .conformance_reservoirs import ReservoirRules

PATIENCE_S = 20.0
"""How long a hint may take on a loaded machine, seconds."""


class TransportSuite(AppendRules, LaneRules, LogRules, ReservoirRules):
    """The contract as tests; a subclass says how to open a store.

    Attributes:
        shared: whether two stores opened on one folder are one store, as two processes would share it, and what is
            written is there when it is opened again. False for a store that lives and ends with its object.
        examples: how many random histories the model is compared with.
    """

    pytestmark: ClassVar[pytest.MarkDecorator] = pytest.mark.anyio

    shared: ClassVar[bool] = True
    examples: ClassVar[int] = 30

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        """Open the store of this folder (empty at first), which tells the time by `clock`."""
        raise NotImplementedError(f"{type(self).__name__} must define open(folder, clock)")

    @pytest.fixture
    def anyio_backend(self) -> Any:
        """Run on asyncio; override it for another loop."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> Clock:
        """Return the time, which only the test moves."""
        return Clock()

    @pytest.fixture
    async def store(self, tmp_path: Path, clock: Clock) -> AsyncIterator[Transport]:
        """Open an empty store."""
        async with self.open(tmp_path, clock) as store:
            yield store

    @pytest.fixture
    async def other(self, store: Transport, tmp_path: Path, clock: Clock) -> AsyncIterator[Transport]:
        """Open the same store a second time, as another process has it."""
        if not self.shared:
            yield store
            return
        async with self.open(tmp_path, clock) as other:
            yield other

    async def test_a_store_says_where_it_is_and_what_a_write_survives(self, store: Transport) -> None:
        """And has every method of the contract."""
        named = {*vars(Transport), *Transport.__annotations__}
        assert [name for name in sorted(named) if not name.startswith("_") and not hasattr(store, name)] == []
        assert "://" in store.url
        assert store.durability
        assert store.forgets in (True, False)

    # --- claiming

    async def test_the_longest_due_is_claimed_first(self, store: Transport, clock: Clock) -> None:
        """Not more than `limit`, not what is not due, not of other workflows."""
        start = clock()
        for name, wait in (("c", 3.0), ("a", 1.0), ("later", 100.0), ("b", 2.0)):
            await create(store, name, due=start + wait)
        await create(store, "foreign", workflow="w2")
        assert await store.next_due(terms("w")) == start + 1
        assert await store.next_due(terms("w", "w2")) == start
        assert await store.next_due(terms("none")) is None
        assert await store.next_due(terms()) is None
        clock.advance(10)
        assert [c.run.run_id for c in await claim(store, 2)] == ["a", "b"]
        assert [c.run.run_id for c in await claim(store, 5)] == ["c"]
        assert await store.claim("worker", terms(), limit=5, lease_s=10) == []

    async def test_a_claim_leases_the_run(self, store: Transport, clock: Clock) -> None:
        """The answer is the row as it stands: running, due when the lease ends, fence up by one."""
        await create(store, "r")
        (got,) = await store.claim("worker", terms("w"), limit=1, lease_s=7)
        assert (got.run.state, got.run.due, got.run.fence) == (RunState.RUNNING, clock() + 7, 1)
        assert got.lease == Lease(run_id="r", owner=got.run.owner or "", fence=1)
        assert got.run == await store.run("r")

    async def test_a_claim_brings_the_log_or_leaves_it_to_be_read(self, store: Transport, clock: Clock) -> None:
        """All of it up to the row's seq, or nothing; what was posted before the claim is in it (law 2)."""
        for run_id, posts, size in (("short", 0, 0), ("heavy", 2, 70_000), ("heavier", 1, 70_000), ("long", 100, 1)):
            await create(store, run_id)
            for n in range(posts):
                await store.post(run_id, [Entry("signal", b"%d" % n * size)])
        claims = await claim(store, 10)
        assert len(claims) == 4
        for got in claims:
            log = await store.read(got.run.run_id)
            assert log[-1].seq == got.run.seq
            assert list(got.records) in ([], log)

    async def test_a_lost_workers_run_is_taken_over_when_its_lease_ends(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """Not before; each takeover has a higher fence and an owner of its own, the same worker's too (law 4)."""
        leases = [(await claimed(store, lease_s=10)).lease]
        for _ in range(3):
            clock.advance(9.5)
            assert await claim(other, 1) == []
            clock.advance(0.5)
            leases += [c.lease for c in await claim(other, 1)]
        assert [lease.fence for lease in leases] == [1, 2, 3, 4]
        assert len({lease.owner for lease in leases}) == 4

    @pytest.mark.parametrize("state", [state for state in RunState if state.terminal])
    async def test_an_end_is_the_row_and_the_last_record(
        self, store: Transport, other: Transport, clock: Clock, state: RunState
    ) -> None:
        """While a run lives there is none."""
        with pytest.raises(RunNotFound):
            await store.end("r")
        await create(store, "r")
        assert await store.end("r") == (await store.run("r"), None)
        (got,) = await claim(store, 1)
        assert await store.end("r") == (got.run, None)
        await store.append(got.lease, [Entry("k", b"1"), Entry("run.end", b"2")], Finish(state))
        assert await other.end("r") == (await store.run("r"), (await store.read("r"))[-1])
        await create(store, "newer")
        clock.advance(1)
        await store.prune(clock(), limit=1)
        with pytest.raises(RunPruned):
            await other.end("r")

    async def test_racing_claims_have_one_winner_for_each_run(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """Many claimers, two clients, twice over: no run is leased to two (law 4)."""
        for n in range(10):
            await create(store, f"r{n}")
        for fence in (1, 2):
            won: list[Claim] = []

            async def race(through: Transport, won: list[Claim] = won) -> None:
                won += await through.claim("worker", terms("w"), limit=3, lease_s=10)

            async with anyio.create_task_group() as group:
                for n in range(12):
                    group.start_soon(race, (store, other)[n % 2])
            assert sorted(c.run.run_id for c in won) == [f"r{n}" for n in range(10)]
            assert {c.lease.fence for c in won} == {fence}
            clock.advance(10)

    async def test_renewing_moves_the_end_of_the_lease(self, store: Transport, other: Transport, clock: Clock) -> None:
        """The answer has the runs that are still held, each with its last control record."""
        held = (await claimed(store, "held", lease_s=10)).lease
        lost = (await claimed(store, "lost", lease_s=5)).lease
        done = (await claimed(store, "done", lease_s=10)).lease
        await store.post("held", entries(1, "signal"))
        await store.append(done, entries(1), Finish(RunState.COMPLETED))
        clock.advance(8)
        assert [c.run.run_id for c in await other.claim("worker", terms("w"), limit=5, lease_s=100)] == ["lost"]
        assert await store.renew([held, lost, done], lease_s=10) == {"held": 2}
        assert await store.renew([], lease_s=10) == {}
        clock.advance(9)
        assert (await store.run("held")).due == clock() + 1
        assert await claim(other, 5) == []
        clock.advance(1)
        assert [c.run.run_id for c in await claim(other, 5)] == ["held"]
        assert await store.renew([held], lease_s=10) == {}

    # --- cache, workers, clock

    async def test_a_cached_value_lasts_its_time(self, store: Transport, other: Transport, clock: Clock) -> None:
        """A later put wins, with its own time."""
        assert await store.cache_get("k") is None
        await store.cache_put("k", b"one", ttl_s=10)
        await store.cache_put("other", b"\0\xff", ttl_s=5)
        clock.advance(9)
        assert await other.cache_get("k") == b"one"
        assert await other.cache_get("other") is None
        await other.cache_put("k", b"two", ttl_s=10)
        clock.advance(9)
        assert await store.cache_get("k") == b"two"
        clock.advance(1)
        assert await store.cache_get("k") is None

    async def test_workers_are_known_by_their_heartbeats(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """The store sets the time of a beat; who has left or is silent for an hour is gone."""
        info = WorkerInfo(name="b", build="1", started=clock(), beat=0.0, running=3, draining=False)
        await store.beat(info)
        await store.beat(msgspec.structs.replace(info, name="a"))
        assert [(w.name, w.beat) for w in await other.workers()] == [("a", clock()), ("b", clock())]
        clock.advance(3000)
        later = msgspec.structs.replace(info, running=0, draining=True)
        await store.beat(later)
        clock.advance(600)
        assert await other.workers() == [msgspec.structs.replace(later, beat=clock() - 600)]
        await other.forget_worker("b")
        await other.forget_worker("never was")
        assert await store.workers() == []

    async def test_the_store_has_one_clock(self, store: Transport, clock: Clock) -> None:
        """All times are by it."""
        assert await store.now() == clock()
        clock.advance(5)
        assert await store.now() == clock()

    # --- hints

    async def test_an_append_wakes_who_watches_the_log(self, store: Transport, other: Transport) -> None:
        """From another client of the same store too."""
        lease = (await claimed(store)).lease
        for watcher in (store, other):
            async with watcher.watch(log_topic("r")) as watch:
                await quiet(watch)
                await store.append(lease, entries(1))
                assert await watch.wait(PATIENCE_S)

    async def test_a_control_record_wakes_who_watches_for_it(self, store: Transport, other: Transport) -> None:
        """Control watchers hear of posts, log watchers too."""
        await claimed(store)
        for topic in (control_topic("r"), log_topic("r")):
            async with other.watch(topic) as watch:
                await quiet(watch)
                await store.post("r", entries(1, "signal"))
                assert await watch.wait(PATIENCE_S)

    async def test_the_end_of_a_run_wakes_who_watches_for_it(self, store: Transport, other: Transport) -> None:
        """From another client of the same store too."""
        lease = (await claimed(store)).lease
        async with store.watch(end_topic("r")) as here, other.watch(end_topic("r")) as there:
            await quiet(there)
            await store.append(lease, entries(1), Finish(RunState.COMPLETED))
            assert await here.wait(PATIENCE_S)
            assert await there.wait(PATIENCE_S)

    async def test_claimers_are_woken_when_a_run_becomes_due(self, store: Transport, other: Transport) -> None:
        """By a new run, a hand-over, and a signal to a waiting run."""
        async with other.watch(READY) as watch:
            await quiet(watch)
            await create(store, "r")
            assert await watch.wait(PATIENCE_S)
            (got,) = await claim(store, 1)
            await quiet(watch)
            await store.append(got.lease, entries(1), HandOver())
            assert await watch.wait(PATIENCE_S)
            (got,) = await claim(store, 1)
            await store.append(got.lease, entries(1), Park(due=None, waiting_on="signal", seen=0))
            await quiet(watch)
            await store.post("r", entries(1, "signal"))
            assert await watch.wait(PATIENCE_S)

    async def test_a_hint_that_came_before_the_wait_is_kept(self, store: Transport) -> None:
        """Hints gather from the moment the watch was opened: between a read and a wait none is lost."""
        lease = (await claimed(store)).lease
        async with store.watch(log_topic("r"), READY) as watch:
            await store.append(lease, entries(1))
            assert await watch.wait(PATIENCE_S)

    async def test_without_a_hint_a_wait_ends_by_itself(self, store: Transport) -> None:
        """False after the timeout; what happens to other runs is no hint."""
        await create(store, "quiet")
        lease = (await claimed(store, workflow="w2")).lease
        async with store.watch(log_topic("quiet")) as watch:
            await quiet(watch)
            assert not await watch.wait(0.05)
            await store.append(lease, entries(1))
            assert not await watch.wait(0.05)
            assert not await watch.wait(0)

    async def test_a_reader_needs_no_hint(self, store: Transport, other: Transport) -> None:
        """What was appended can be read at once through every client, hint or none."""
        lease = (await claimed(store)).lease
        for seq in range(2, 12):
            await store.append(lease, entries(1))
            assert [stored.seq for stored in await other.read("r", seq - 1)] == [seq]

    # --- whole or not at all

    async def test_a_canceled_call_happens_whole_or_not_at_all(self, store: Transport) -> None:
        """Whenever its caller is canceled, the log stays dense and the row agrees with it (law 9)."""
        lease = (await claimed(store)).lease
        steps = 0
        while True:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(cancel_after, scope, steps)
                    await store.append(lease, entries(2))
                    await store.post("r", entries(1, "signal"))
                    group.cancel_scope.cancel()
            run, log = await store.run("r"), await store.read("r", limit=10_000)
            assert [stored.seq for stored in log] == list(range(1, len(log) + 1))
            assert run.seq <= len(log)
            assert [stored.kind for stored in log].count("step.completed") % 2 == 0
            if not scope.cancel_called:
                break
            steps += 1 + steps // 3
        end = await store.append(lease, [], HandOver())
        assert end.seq == len(await store.read("r", limit=10_000))

    async def test_a_canceled_wait_leaves_the_watch_usable(self, store: Transport) -> None:
        """And loses no hint."""
        lease = (await claimed(store)).lease
        async with store.watch(log_topic("r")) as watch:
            await quiet(watch)
            with anyio.move_on_after(0):
                await watch.wait(PATIENCE_S)
            await store.append(lease, entries(1))
            assert await watch.wait(PATIENCE_S)

    async def test_what_was_written_is_there_when_the_store_is_opened_again(self, tmp_path: Path, clock: Clock) -> None:
        """Rows, logs, leases, keys (for a store that outlives its object)."""
        if not self.shared:
            pytest.skip("this store ends with its object")
        async with self.open(tmp_path, clock) as store:
            await create(store, "q", key="k", digest="d", tags=("t",), due=clock() + 3600)
            lease = (await claimed(store)).lease
            await store.append(lease, entries(3))
            rows = (await store.runs(RunFilter())).runs
            log = await store.read("r")
        async with self.open(tmp_path, clock) as store:
            assert (await store.runs(RunFilter())).runs == rows
            assert await store.read("r") == log
            assert (await store.append(lease, entries(1))).seq == 5
            assert not (await create(store, "q2", key="k", digest="d"))[1]

    # --- any history

    def test_any_history_agrees_with_the_model(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Random calls of several workers, in any order, over any time, do what the laws of log and lease say.

        The seed is printed; `GREENROOM_SEED` runs it again.
        """
        seed = int(os.environ.get("GREENROOM_SEED") or random.SystemRandom().randrange(2**32))
        print(f"GREENROOM_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails

        def machine() -> LogAndLease:
            return LogAndLease(self.open, tmp_path_factory.mktemp("store"))

        seeded: Any = hypothesis.seed(seed)(machine)
        run_state_machine_as_test(
            seeded,
            settings=hypothesis.settings(
                max_examples=self.examples, stateful_step_count=40, deadline=None, derandomize=False, database=None
            ),
        )


async def quiet(watch: Watch) -> None:
    """Wait until no more hints of what was done before are coming."""
    while await watch.wait(0.1):
        pass


async def cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    """Cancel the scope after some turns of the event loop."""
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()
