"""The model of log and lease that a transport is compared with, over random histories.

Why: rules that hold one by one can fail together. The model is the contract said a second time, over plain lists, and
slowly; the machine makes a call on both and compares what comes back, then the whole log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ...transports import (
    ControlPending,
    Entry,
    Fenced,
    Finish,
    HandOver,
    KeyConflict,
    Lane,
    Lease,
    NewRun,
    Park,
    Run,
    RunEnded,
    RunFilter,
    RunState,
    Terms,
    Transition,
    Transport,
    TransportError,
)

T = TypeVar("T")
WORKFLOWS = ("w1", "w2")


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


@dataclass
class Model:
    """A run as it must be."""

    run_id: str
    workflow: str
    key: str | None
    digest: str
    due: float | None
    state: RunState = RunState.QUEUED
    lease: Lease | None = None
    fence: int = 0
    log: list[str] = field(default_factory=lambda: ["first"])
    control: list[int] = field(default_factory=list)

    @property
    def control_seq(self) -> int:
        """The last control record's position."""
        return self.control[-1] if self.control else 0

    def refusal(self, lease: Lease, seen: int | None) -> type[TransportError] | None:
        """What an append under this lease must be refused with."""
        if self.lease != lease:
            return Fenced
        return ControlPending if seen is not None and self.control_seq > seen else None

    def transit(self, to: Transition, now: float) -> None:
        """Give up the lease."""
        self.lease = None
        match to:
            case Finish(state):
                self.state, self.due = state, None
            case HandOver():
                self.state, self.due = RunState.QUEUED, now
            case Park(due, _, seen):
                self.state, self.due = RunState.WAITING, now if self.control_seq > seen else due


class LogAndLease(RuleBasedStateMachine):
    """Random calls on a store and on its model.

    Args:
        open_store: opens the store of a folder with a clock.
        folder: an empty one.
    """

    def __init__(
        self,
        open_store: Callable[[Path, Callable[[], float]], AbstractAsyncContextManager[Transport]],
        folder: Path,
    ) -> None:
        super().__init__()
        self.clock = Clock()
        self.models: dict[str, Model] = {}
        self.leases: list[Lease] = []
        self._runner = asyncio.Runner()
        self._opening = open_store(folder, self.clock)
        self.store = self.do(self._opening.__aenter__())

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Make a call on the store."""
        return self._runner.run(call)

    def refused(self, call: Coroutine[Any, Any, Any]) -> type[TransportError]:
        """Make a call that must be refused; how it was."""
        try:
            answer = self.do(call)
        except TransportError as refusal:
            return type(refusal)
        raise AssertionError(f"was not refused: {answer}")

    def same(self, run: Run, model: Model) -> None:
        """Compare a row."""
        owner = model.lease.owner if model.lease else None
        assert (run.run_id, run.workflow, run.key) == (model.run_id, model.workflow, model.key)
        assert (run.state, run.due, run.fence, run.owner) == (model.state, model.due, model.fence, owner)
        assert (run.seq, run.control_seq) == (len(model.log), model.control_seq)

    @rule(
        workflow=st.sampled_from(WORKFLOWS),
        key=st.none() | st.sampled_from("kl"),
        digest=st.sampled_from("dddde"),
        wait=st.sampled_from((0, 0, 5, 50)),
    )
    def create(self, workflow: str, key: str | None, digest: str, wait: float) -> None:
        """Create a run, with a key that may be known."""
        due = self.clock() + wait
        new = NewRun(
            run_id=f"r{len(self.models)}",
            lane=Lane(workflow=workflow),
            entries=(Entry("k", b"first"),),
            key=key,
            digest=digest,
            due=due if wait else None,
        )
        known = next((model for model in self.models.values() if key is not None and model.key == key), None)
        if known is None:
            self.models[new.run_id] = Model(new.run_id, workflow, key, digest, due)
            run, is_new = self.do(self.store.create(new))
            assert is_new
            self.same(run, self.models[new.run_id])
        elif known.digest != digest:
            assert self.refused(self.store.create(new)) is KeyConflict
        else:
            run, is_new = self.do(self.store.create(new))
            assert not is_new
            self.same(run, known)

    @rule(
        workflows=st.sampled_from((WORKFLOWS, WORKFLOWS[:1], WORKFLOWS[1:])),
        limit=st.integers(1, 3),
        lease_s=st.sampled_from((1, 10, 100)),
    )
    def claim(self, workflows: tuple[str, ...], limit: int, lease_s: float) -> None:
        """Claim what is due, the longest due first."""
        now = self.clock()
        due = sorted(
            model.due
            for model in self.models.values()
            if model.due is not None and model.due <= now and model.workflow in workflows
        )
        claims = self.do(self.store.claim("worker", dict.fromkeys(workflows, Terms()), limit=limit, lease_s=lease_s))
        was = []
        for got in claims:
            model = self.models[got.run.run_id]
            assert model.workflow in workflows
            assert model.due is not None
            was.append(model.due)
            model.state, model.lease, model.due = RunState.RUNNING, got.lease, now + lease_s
            model.fence += 1
            assert got.lease.fence == model.fence
            assert got.lease.owner not in {lease.owner for lease in self.leases}
            self.leases.append(got.lease)
            self.same(got.run, model)
        assert was == due[:limit]

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        count=st.integers(1, 3),
        behind=st.none() | st.integers(0, 2),
        end=st.sampled_from(("", "", "", "finish", "park", "park for ever", "hand over")),
    )
    def append(self, data: st.DataObject, count: int, behind: int | None, end: str) -> None:
        """Append under any lease there ever was, knowing the control records but the last few, or not minding."""
        lease = data.draw(st.sampled_from(self.leases[-6:]))
        model, now = self.models[lease.run_id], self.clock()
        known = [0, *model.control]
        seen = known[max(0, len(known) - 1 - behind)] if behind is not None else None
        ends: dict[str, Transition] = {
            "finish": Finish(RunState.COMPLETED),
            "park": Park(due=now + 20, waiting_on="timer", seen=seen or 0),
            "park for ever": Park(due=None, waiting_on="signal", seen=seen or 0),
            "hand over": HandOver(),
        }
        to = ends.get(end)
        texts = [f"{lease.owner} {len(model.log) + n}" for n in range(count)]
        asked = seen if seen is not None else model.control_seq
        assert self.do(self.store.may_append(lease, seen=asked)) is (model.refusal(lease, asked) is None)
        call = self.store.append(lease, [Entry("k", text.encode()) for text in texts], to, seen=seen)
        if refusal := model.refusal(lease, seen):
            assert self.refused(call) is refusal
        else:
            model.log += texts
            if to is not None:
                model.transit(to, now)
            self.same(self.do(call), model)
        self.compare(model)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), count=st.integers(1, 2))
    def post(self, data: st.DataObject, count: int) -> None:
        """Post control records to any run."""
        model = self.models[data.draw(st.sampled_from(list(self.models)))]
        call = self.store.post(model.run_id, [Entry("signal", b"signal")] * count)
        if model.state.terminal:
            assert self.refused(call) is RunEnded
        else:
            model.control += range(len(model.log) + 1, len(model.log) + 1 + count)
            model.log += ["signal"] * count
            if model.state is RunState.WAITING:
                model.due = self.clock()
            self.same(self.do(call), model)
        self.compare(model)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), lease_s=st.sampled_from((1, 10, 100)))
    def renew(self, data: st.DataObject, lease_s: float) -> None:
        """Renew some leases, held or lost."""
        leases = data.draw(st.lists(st.sampled_from(self.leases[-6:]), unique_by=lambda lease: lease.run_id))
        held = {}
        for lease in leases:
            model = self.models[lease.run_id]
            if model.lease == lease:
                model.due = self.clock() + lease_s
                held[lease.run_id] = model.control_seq
        assert self.do(self.store.renew(leases, lease_s=lease_s)) == held

    @rule(seconds=st.sampled_from((0.5, 5, 10, 60, 3600)))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(workflows=st.sampled_from((WORKFLOWS, WORKFLOWS[:1])))
    def next_due(self, workflows: tuple[str, ...]) -> None:
        """Ask what comes due next."""
        due = [model.due for model in self.models.values() if model.workflow in workflows and model.due is not None]
        assert self.do(self.store.next_due(dict.fromkeys(workflows, Terms()))) == min(due, default=None)

    def compare(self, model: Model) -> None:
        """Compare a whole log."""
        log = self.do(self.store.read(model.run_id))
        assert [(stored.seq, stored.body.decode()) for stored in log] == list(enumerate(model.log, 1))
        control = self.do(self.store.read(model.run_id, control=True))
        assert [stored.seq for stored in control] == model.control

    def teardown(self) -> None:
        """Compare everything once more, then close the store."""
        try:
            runs = self.do(self.store.runs(RunFilter(), limit=1000)).runs
            assert [run.run_id for run in reversed(runs)] == list(self.models)
            for run in runs:
                self.same(run, self.models[run.run_id])
                self.compare(self.models[run.run_id])
        finally:
            self.do(self._opening.__aexit__(None, None, None))
            self._runner.close()
