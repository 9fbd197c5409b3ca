"""The rules of lanes and of the store's upkeep: whose turn it is, limits, builds, blobs, pruning. Part of the suite."""

from __future__ import annotations

from typing import Any

import pytest

from ...transports import (
    BlobNotFound,
    Claim,
    Entry,
    Finish,
    HandOver,
    KeyConflict,
    Lane,
    LaneCount,
    NewRun,
    Park,
    RunFilter,
    RunPruned,
    RunState,
    Terms,
    Transport,
    digest,
)
from .conformance_model import Clock

LIMITLESS = {"w": Terms()}


class LaneRules:
    """How turns, limits and builds work, and what upkeep removes; one test for each rule."""

    async def test_a_run_may_begin_with_several_records(self, store: Transport) -> None:
        """They are records 1, 2, 3 of its log."""
        first = (Entry("run.queued", b"1"), Entry("step.completed", b"2"), Entry("status", b"3"))
        run, _ = await store.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=first))
        assert run.seq == 3
        assert [(stored.seq, stored.kind, stored.body) for stored in await store.read("r")] == [
            (n, entry.kind, entry.body) for n, entry in enumerate(first, 1)
        ]
        (got,) = await store.claim("worker", LIMITLESS, limit=1, lease_s=10)
        assert (await store.append(got.lease, [Entry("k", b"4")])).seq == 4

    # --- whose turn it is

    async def test_a_higher_priority_goes_first(self, store: Transport, clock: Clock) -> None:
        """Whatever has waited longer."""
        for name, priority in (("low", -1), ("usual", 0), ("high", 5)):
            await put(store, name, priority=priority)
            clock.advance(1)
        assert await names(store, limit=2) == ["high", "usual"]
        assert await names(store, limit=2) == ["low"]

    async def test_tenants_take_turns(self, store: Transport, clock: Clock) -> None:
        """One that has put in many runs does not keep another one waiting."""
        for n in range(6):
            await put(store, f"a{n}", tenant="a")
            clock.advance(1)
        for n in range(2):
            await put(store, f"b{n}", tenant="b")
            clock.advance(1)
        assert await names(store, limit=4) == ["a0", "b0", "a1", "b1"]
        assert await names(store, limit=4) == ["a2", "a3", "a4", "a5"]

    async def test_a_tenant_with_fewer_runs_at_work_goes_first(self, store: Transport, clock: Clock) -> None:
        """Runs that ended, or wait, do not count."""
        for n in range(3):
            await put(store, f"a{n}", tenant="a")
            clock.advance(1)
        first, second, _ = await claims(store, limit=3)
        await put(store, "a3", tenant="a")
        clock.advance(1)
        await put(store, "b0", tenant="b")
        assert await names(store, limit=1) == ["b0"]
        await store.append(first.lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        await store.append(second.lease, [Entry("k", b"")], Park(due=None, waiting_on="x", seen=0))
        await put(store, "b1", tenant="b")
        assert await names(store, limit=1) == ["a3"]

    # --- limits

    async def test_concurrency_bounds_runs_at_work_by_gate(self, store: Transport) -> None:
        """A run that is full is passed by, others of its lane's priority are not; an end makes room."""
        limits = {"w": Terms(concurrency=2)}
        for n in range(3):
            await put(store, f"a{n}", gate="a")
        await put(store, "b0", gate="b")
        got = await claims(store, limit=10, terms=limits)
        assert sorted(claim.run.run_id for claim in got) == ["a0", "a1", "b0"]
        assert await claims(store, limit=10, terms=limits) == []
        assert await store.next_due({"w": Terms(concurrency=2)}) == got[0].run.due
        await store.append(got[0].lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        assert await names(store, limit=10, terms=limits) == ["a2"]

    async def test_a_parked_run_leaves_room_and_needs_it_again(self, store: Transport) -> None:
        """What waits is not at work."""
        limits = {"w": Terms(concurrency=1)}
        await put(store, "a")
        await put(store, "b")
        (a,) = await claims(store, limit=5, terms=limits)
        await store.append(a.lease, [Entry("k", b"")], Park(due=None, waiting_on="x", seen=0))
        (b,) = await claims(store, limit=5, terms=limits)
        assert b.run.run_id == "b"
        await store.post("a", [Entry("signal.received", b"")])
        assert await claims(store, limit=5, terms=limits) == []
        await store.append(b.lease, [], HandOver())
        assert await names(store, limit=5, terms=limits) == ["a"]

    async def test_a_lost_workers_run_needs_no_new_room(self, store: Transport, clock: Clock) -> None:
        """It is at work until it is claimed again."""
        limits = {"w": Terms(concurrency=1)}
        await put(store, "a")
        await put(store, "b")
        assert await names(store, limit=5, terms=limits) == ["a"]
        clock.advance(100)
        assert await names(store, limit=5, terms=limits) == ["a"]

    async def test_starts_are_paced(self, store: Transport, clock: Clock) -> None:
        """A token bucket a gate; runs that were claimed before pass; the next time is told."""
        limits = {"w": Terms(starts=2, per_s=10)}
        for n in range(5):
            await put(store, f"r{n}")
        got = await claims(store, limit=10, terms=limits)
        assert [claim.run.run_id for claim in got] == ["r0", "r1"]
        assert await claims(store, limit=10, terms=limits) == []
        await store.append(got[0].lease, [], HandOver())
        assert await names(store, limit=10, terms=limits) == ["r0"]
        due = await store.next_due(limits)
        assert due == pytest.approx(clock() + 5)
        clock.advance(5)
        assert await names(store, limit=10, terms=limits) == ["r2"]

    # --- builds

    async def test_a_pinned_run_stays_with_its_build(self, store: Transport, clock: Clock) -> None:
        """The build of the first claim; another one passes it by, in claims and in what is due."""
        pinned = {"w": Terms(pinned=True)}
        await put(store, "r")
        (got,) = await store.claim("worker", pinned, build="one", limit=1, lease_s=10)
        assert got.run.lane.build == "one"
        clock.advance(100)
        assert await store.claim("worker", pinned, build="two", limit=1, lease_s=10) == []
        assert await store.next_due(pinned, build="two") is None
        assert len(await store.claim("worker", pinned, build="one", limit=1, lease_s=10)) == 1

    async def test_a_retired_build_lets_its_runs_go(self, store: Transport, clock: Clock) -> None:
        """Any build may claim them then."""
        pinned = {"w": Terms(pinned=True)}
        await put(store, "r")
        await store.claim("worker", pinned, build="one", limit=1, lease_s=10)
        clock.advance(100)
        assert await store.unpin("two") == 0
        assert await store.unpin("one") == 1
        (got,) = await store.claim("worker", pinned, build="two", limit=1, lease_s=10)
        assert got.run.lane.build == "two"

    async def test_lanes_count_live_runs(self, store: Transport) -> None:
        """All of them, and those at work."""
        for n in range(3):
            await put(store, f"a{n}", tenant="a")
        await put(store, "b0", priority=1)
        (b,) = await claims(store, limit=1)
        await claims(store, limit=1)
        await store.append(b.lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        assert await store.lanes() == [LaneCount(lane=Lane(workflow="w", tenant="a"), live=3, running=1)]

    async def test_runs_are_listed_by_tenant(self, store: Transport) -> None:
        """As by any other filter."""
        await put(store, "a", tenant="a")
        await put(store, "b", tenant="b")
        assert [run.run_id for run in (await store.runs(RunFilter(tenant="a"))).runs] == ["a"]

    # --- upkeep

    async def test_a_blob_is_kept_under_its_digest(self, store: Transport) -> None:
        """Beside its run; putting it again changes nothing."""
        await put(store, "r")
        data = b"x" * 100_000
        for _ in range(2):
            await store.blob_put("r", digest(data), data)
        assert await store.blob_get("r", digest(data)) == data
        with pytest.raises(BlobNotFound):
            await store.blob_get("r", "0" * 32)
        await store.blob_put("later", digest(data), data)
        await put(store, "later")
        assert await store.blob_get("later", digest(data)) == data

    async def test_pruning_removes_whole_runs_that_ended_before_a_time(self, store: Transport, clock: Clock) -> None:
        """The longest ended first; live runs and later ones stay; readers are told."""
        start = clock()
        for n in range(4):
            await put(store, f"r{n}", key=f"k{n}", digest="d")
            (got,) = await store.claim("worker", LIMITLESS, limit=1, lease_s=1000)
            clock.advance(10)
            if n != 1:
                await store.append(got.lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        await store.blob_put("r0", "x", b"blob")
        assert await store.prune(start + 5, limit=10) == 0
        assert await store.prune(start + 35, limit=1) == 1
        assert await store.prune(start + 35, limit=10) == 1
        assert [run.run_id for run in (await store.runs(RunFilter())).runs] == ["r3", "r1"]
        for ask in (store.run("r0"), store.read("r0"), store.post("r0", [Entry("k", b"")])):
            with pytest.raises(RunPruned, match="pruned"):
                await ask
        with pytest.raises(BlobNotFound):
            await store.blob_get("r0", "x")

    async def test_pruning_may_keep_a_number(self, store: Transport, clock: Clock) -> None:
        """Those that ended last."""
        for n in range(5):
            await put(store, f"r{n}")
            (got,) = await claims(store, limit=1)
            clock.advance(10)
            await store.append(got.lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        assert await store.prune(0, keep=5, limit=10) == 0
        assert await store.prune(0, keep=3, limit=10) == 2
        assert [run.run_id for run in (await store.runs(RunFilter())).runs] == ["r4", "r3", "r2"]

    async def test_the_key_of_a_pruned_run_stays_its_own(self, store: Transport, clock: Clock) -> None:
        """So does its id (law 1)."""
        await put(store, "r", key="k", digest="d")
        (got,) = await claims(store, limit=1)
        await store.append(got.lease, [Entry("k", b"")], Finish(RunState.COMPLETED))
        await put(store, "later")
        clock.advance(10)
        assert await store.prune(clock(), limit=10) == 1
        with pytest.raises(RunPruned):
            await put(store, "r2", key="k", digest="d")
        with pytest.raises(KeyConflict):
            await put(store, "r2", key="k", digest="other")
        with pytest.raises(KeyConflict):
            await put(store, "r")


async def put(store: Transport, run_id: str, *, key: str | None = None, digest: str = "", **lane: Any) -> None:
    """Create a run in a lane of workflow `w`."""
    new = NewRun(run_id=run_id, lane=Lane(workflow="w", **lane), entries=(Entry("k", b""),), key=key, digest=digest)
    await store.create(new)


async def claims(store: Transport, *, limit: int, terms: dict[str, Terms] = LIMITLESS) -> list[Claim]:
    """Claim for ten seconds."""
    return await store.claim("worker", terms, limit=limit, lease_s=10)


async def names(store: Transport, *, limit: int, terms: dict[str, Terms] = LIMITLESS) -> list[str]:
    """Claim, and return the runs' ids in the order of their turns."""
    return [claim.run.run_id for claim in await claims(store, limit=limit, terms=terms)]
