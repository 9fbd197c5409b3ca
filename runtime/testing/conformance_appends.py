"""The rules of appending under a lease: who may, what stops it, and what goes together.

Why: laws 4 and 6 are kept by the store, at every append. What each test is given (`store`, `other`, `clock`) comes from
`TransportSuite`.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import msgspec
import pytest

from ...transports import (
    Append,
    ControlPending,
    Entry,
    Fenced,
    Finish,
    HandOver,
    Lease,
    Park,
    RunNotFound,
    RunState,
    Transport,
)
from .conformance_log import claim, claimed, create, entries, terms
from .conformance_model import Clock


class AppendRules:
    """What an append under a lease is, one test for each of its rules."""

    async def test_only_the_newest_lease_appends(self, store: Transport, other: Transport, clock: Clock) -> None:
        """A worker whose run was taken over is refused, and nothing of what it brings is written (law 4)."""
        old = (await claimed(store, lease_s=10)).lease
        clock.advance(10)
        (new,) = await claim(other, 1)
        with pytest.raises(Fenced):
            await store.append(old, entries(1))
        with pytest.raises(Fenced):
            await store.append(old, entries(1), Finish(RunState.COMPLETED))
        assert (await store.run("r")).seq == 1
        await other.append(new.lease, entries(1))
        assert (await store.run("r")).state is RunState.RUNNING

    async def test_a_zombie_that_races_its_successor_writes_nothing_behind_it(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """From the successor's claim on, every record is the successor's (law 4)."""
        old = (await claimed(store, lease_s=10)).lease
        clock.advance(10)
        refused: list[Fenced] = []

        async def haunt() -> None:
            for _ in range(10):
                try:
                    await store.append(old, entries(1, "old"))
                except Fenced as refusal:
                    refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(haunt)
            await anyio.lowlevel.checkpoint()
            (new,) = await claim(other, 1)
            for _ in range(10):
                await other.append(new.lease, entries(1, "new"))
        kinds = [stored.kind for stored in (await store.read("r"))[1:]]
        assert kinds == ["old"] * (30 - len(refused)) + ["new"] * 10

    async def test_both_owner_and_fence_are_checked(self, store: Transport) -> None:
        """A store that lost its last writes may give a fence again; the owner tells the two leases apart (law 4)."""
        lease = (await claimed(store)).lease
        for wrong in (
            msgspec.structs.replace(lease, owner="another"),
            msgspec.structs.replace(lease, fence=lease.fence + 1),
            msgspec.structs.replace(lease, fence=lease.fence - 1),
        ):
            with pytest.raises(Fenced):
                await store.append(wrong, entries(1))
            assert await store.renew([wrong], lease_s=10) == {}
        assert (await store.run("r")).seq == 1

    async def test_a_lease_that_ended_and_was_not_taken_over_still_appends(
        self, store: Transport, clock: Clock
    ) -> None:
        """The fence decides, never the clock: so no clock can make two workers append, or none."""
        lease = (await claimed(store, lease_s=10)).lease
        clock.advance(1000)
        assert (await store.append(lease, entries(1))).seq == 2

    async def test_unseen_control_records_stop_an_append(self, store: Transport) -> None:
        """With `seen`, nothing is decided in ignorance of a signal or cancel."""
        lease = (await claimed(store)).lease
        await store.post("r", entries(1, "cancel.requested"))
        for to in (None, Finish(RunState.COMPLETED), Park(due=None, waiting_on="x", seen=0), HandOver()):
            with pytest.raises(ControlPending) as refusal:
                await store.append(lease, entries(1), to, seen=0)
            assert refusal.value.control_seq == 2
        run = await store.run("r")
        assert (run.seq, run.state) == (2, RunState.RUNNING)
        assert (await store.append(lease, entries(1), seen=2)).seq == 3
        assert (await store.append(lease, entries(1))).seq == 4

    async def test_appends_of_many_runs_go_together_and_each_stands_or_falls_alone(
        self, store: Transport, other: Transport, clock: Clock
    ) -> None:
        """`append_all` does what as many appends would: a refused one writes nothing, the others stand (laws 2, 4)."""
        leases = {name: (await claimed(store, name)).lease for name in ("fenced", "pending", "ends", "parks", "stays")}
        await store.post("pending", entries(1, "signal.received"))
        clock.advance(1)
        wrong = msgspec.structs.replace(leases["fenced"], owner="another")
        done = await store.append_all(
            [
                Append(wrong, entries(2), seen=0),
                Append(leases["pending"], entries(2), seen=0),
                Append(leases["ends"], entries(2), Finish(RunState.COMPLETED), 0),
                Append(msgspec.structs.replace(wrong, run_id="missing"), entries(1)),
                Append(leases["parks"], entries(1), Park(due=clock() + 60, waiting_on="timer", seen=0), 0),
                Append(leases["stays"], entries(3), seen=0),
            ]
        )
        assert [type(one) for one in done] == [Fenced, ControlPending, type(None), RunNotFound, type(None), type(None)]
        seqs = {name: (await other.run(name)).seq for name in leases}
        assert seqs == {"fenced": 1, "pending": 2, "ends": 3, "parks": 2, "stays": 4}
        states = [(await other.run(name)).state for name in ("ends", "parks", "stays")]
        assert states == [RunState.COMPLETED, RunState.WAITING, RunState.RUNNING]
        log = (await other.read("stays"))[1:]
        assert [(one.seq, one.ts, one.body) for one in log] == [
            (seq, clock(), entry.body) for seq, entry in enumerate(entries(3), 2)
        ]
        assert (await other.run("stays")).updated == clock()
        assert await store.append_all([]) == []

    async def test_appends_of_hundreds_of_runs_go_together(self, store: Transport) -> None:
        """However many: each log has its own records, in order, and nobody else's (law 2)."""
        for n in range(150):
            await create(store, f"r{n}")
        claims = await claim(store, 150)
        asked = [Append(one.lease, [Entry("k", one.run.run_id.encode())] * (n % 5 + 1)) for n, one in enumerate(claims)]
        assert await store.append_all(asked) == [None] * 150
        for n, one in enumerate(claims):
            log = (await store.read(one.run.run_id))[1:]
            assert [stored.seq for stored in log] == list(range(2, n % 5 + 3))
            assert {stored.body for stored in log} == {one.run.run_id.encode()}

    async def test_an_append_may_be_asked_about_before(self, store: Transport, other: Transport, clock: Clock) -> None:
        """`may_append` says whether the lease is the run's current one, and writes nothing (law 4)."""
        await create(store, "r")
        assert not await store.may_append(Lease(run_id="none", owner="o", fence=1), seen=0)
        assert not await store.may_append(Lease(run_id="r", owner="o", fence=1), seen=0)
        (old,) = await store.claim("worker", terms("w"), limit=1, lease_s=10)
        before = await store.run("r")
        assert await store.may_append(old.lease, seen=0)
        assert await other.may_append(old.lease, seen=0)
        for wrong in ({"owner": "another"}, {"fence": 2}, {"fence": 0}):
            assert not await store.may_append(msgspec.structs.replace(old.lease, **wrong), seen=0)
        clock.advance(10)
        assert await store.may_append(old.lease, seen=0)  # as for appends the fence decides, never the clock
        assert await store.run("r") == before
        (new,) = await claim(other, 1)
        assert (await store.may_append(old.lease, seen=0), await store.may_append(new.lease, seen=0)) == (False, True)
        await other.append(new.lease, entries(1), Finish(RunState.COMPLETED))
        assert not await store.may_append(new.lease, seen=0)

    async def test_a_control_record_is_known_to_whoever_asks_after_it_was_acknowledged(
        self, store: Transport, other: Transport
    ) -> None:
        """Posted through another process, acknowledged, asked about at once: the answer knows of it (law 6)."""
        lease = (await claimed(store)).lease
        seen = 0
        for _ in range(20):
            assert await store.may_append(lease, seen=seen)
            posted = await other.post("r", entries(1, "cancel.requested"))
            assert not await store.may_append(lease, seen=seen)
            seen = posted.control_seq
        assert await store.may_append(lease, seen=seen)
