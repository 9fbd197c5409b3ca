"""What the laws forbid in one run's log and row. Pure: it folds records and does no IO.

Why: the log is the single source of truth, so a broken law has to show in it. Each law is a small fold of its own that
knows nothing of the code that writes logs: it would not share its mistakes.

The numbers are those of the design's laws: 1 a run ends, and can be claimed until then; 2 one dense order, nothing
after the end; 3 one result per step, none executed again; 4 one lease at a time; 5 output that counts; 6 cancel stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from ...transports import Run, RunState
from ..log import BODY
from ..records import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    Control,
    Event,
    LeaseTaken,
    OutputDelta,
    OutputReset,
    Record,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunHandedOver,
    RunParked,
    RunQueued,
    RunStarted,
    RunTimedOut,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepStarted,
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A broken law: where (seq 0: the run's row; no run id: the store), which, and how."""

    law: int
    run_id: str
    seq: int
    says: str


ENDS: dict[type[Record], RunState] = {
    RunCompleted: RunState.COMPLETED,
    RunFailed: RunState.FAILED,
    RunCanceled: RunState.CANCELED,
    RunTimedOut: RunState.TIMED_OUT,
}

Found = Iterator[tuple[int, int, str]]
"""Law, seq, sentence."""


def check_run(run: Run, events: Sequence[Event]) -> list[Finding]:
    """What laws a run breaks: its row, and its log up to `run.seq`."""
    return [
        Finding(law=law, run_id=run.run_id, seq=seq, says=says)
        for check in CHECKS
        for law, seq, says in check(run, events)
    ]


def _order(run: Run, events: Sequence[Event]) -> Found:
    for place, event in enumerate(events, 1):
        if event.seq != place:
            yield 2, event.seq, f"seq {event.seq} stands where {place} should"
            return
    if not events or not isinstance(events[0].record, RunQueued):
        yield 2, 1, "the log does not begin with run.queued"
        return
    first = events[0].record
    if (first.run_id, first.workflow) != (run.run_id, run.workflow):
        yield 2, 1, f"run.queued is of run {first.run_id} of {first.workflow}, the row of {run.workflow}"
    for kind in (RunQueued, RunStarted):
        for event in [event for event in events if isinstance(event.record, kind)][1:]:
            yield 2, event.seq, f"a second {event.kind}"
    end = next((event for event in events if type(event.record) in ENDS), None)
    if end is not None and end is not events[-1]:
        yield 2, end.seq + 1, f"{events[end.seq].kind} follows the terminal {end.kind}"


def _row(run: Run, events: Sequence[Event]) -> Found:
    if len(events) != run.seq:
        yield 2, 0, f"the row says {run.seq} records, the log has {len(events)}"
    control = max((event.seq for event in events if isinstance(event.record, Control)), default=0)
    if control != run.control_seq:
        yield 2, 0, f"the row says that control records go up to {run.control_seq}, the log {control}"
    said = next((ENDS[type(event.record)] for event in events if type(event.record) in ENDS), None)
    if (said or run.state) is not run.state or (run.state.terminal and said is None):
        yield 2, 0, f"the row is {run.state.value}, the log {said.value if said else 'has no end'}"
    own = [event.record for event in events if not isinstance(event.record, Control)]
    if run.state is RunState.WAITING and not isinstance(own[-1], RunParked):
        yield 2, 0, f"the row is waiting, but the last record of its worker is {own[-1].kind}"
    fences = [event.record.fence for event in events if isinstance(event.record, LeaseTaken)]
    if fences and fences[-1] > run.fence:
        yield 4, 0, f"the row's fence is {run.fence}, the log's {fences[-1]}"


def _claimable(run: Run, events: Sequence[Event]) -> Found:
    """A live run comes due, or waits for a control record that has not come."""
    state = run.state
    if state.terminal:
        if run.due is not None or run.owner is not None:
            yield 1, 0, f"the run is {state.value}, and still due or owned"
        return
    if (run.owner is not None) != (state is RunState.RUNNING):
        yield 4, 0, f"the run is {state.value}, and its owner is {run.owner}"
    if run.due is None and state is not RunState.WAITING:
        yield 1, 0, f"the run is {state.value} and never due: nobody will claim it"
    if run.due is None and state is RunState.WAITING:
        parked = max((event.seq for event in events if isinstance(event.record, RunParked)), default=0)
        if run.control_seq > parked:
            yield 1, run.control_seq, "a control record came to a waiting run, and it is not due: it sleeps through it"


def _leases(run: Run, events: Sequence[Event]) -> Found:
    fence, held = 0, False
    for event in events:
        match event.record:
            case LeaseTaken() as lease:
                if lease.fence <= fence:
                    yield 4, event.seq, f"lease.taken has fence {lease.fence} after {fence}"
                if lease.takeover != held:
                    lost = "was lost" if held else "had given its lease up"
                    yield 4, event.seq, f"lease.taken says takeover {lease.takeover}, but the worker before {lost}"
                fence, held = lease.fence, True
            case Control() | RunQueued():
                continue
            case _ if not held and (fence or event.ts > run.created):  # what a run is created with needs no lease
                yield 4, event.seq, f"{event.kind} was appended under no lease"
            case RunParked() | RunHandedOver():
                held = False


def _steps(run: Run, events: Sequence[Event]) -> Found:
    began: dict[str, StepStarted] = {}
    done: dict[str, int] = {}
    failed: dict[str, int] = {}
    for event in events:
        match event.record:
            case StepStarted() as start:
                if start.step in done:
                    yield 3, event.seq, f"step {start.step} starts again, its result stands at {done[start.step]}"
                if start.step in failed:
                    yield 3, event.seq, f"step {start.step} starts again, it failed for good at {failed[start.step]}"
                if start.step in began and start.attempt <= began[start.step].attempt:
                    yield 3, event.seq, f"step {start.step} starts attempt {start.attempt} once more"
                began[start.step] = start
            case StepCompleted() as end:
                if end.step in done:
                    yield 3, event.seq, f"step {end.step} has a second result, the first is at {done[end.step]}"
                elif end.step in failed:
                    yield 3, event.seq, f"step {end.step} has a result, it failed for good at {failed[end.step]}"
                newest = began.get(end.step)
                if newest is not None and newest.attempt != end.attempt:
                    yield 3, event.seq, f"attempt {end.attempt} of {end.step} has a result, {newest.attempt} is newest"
                if newest is None and event.ts > run.created:
                    yield 3, event.seq, f"step {end.step} has a result, and it never started"
                done.setdefault(end.step, event.seq)
            case StepFailed() as end:
                if end.step in done:
                    yield 3, event.seq, f"step {end.step} fails, its result stands at {done[end.step]}"
                if end.step in began and began[end.step].scope == BODY:
                    failed.setdefault(end.step, event.seq)


def _cancel(run: Run, events: Sequence[Event]) -> Found:
    asked = 0
    for event in events:
        match event.record:
            case CancelRequested():
                asked = asked or event.seq
            case StepStarted() as start if asked:
                yield 6, event.seq, f"step {start.step} starts after the cancel at {asked}"
            case StepCompleted() | StepFailed() | RunParked() if asked:
                yield 6, event.seq, f"{event.kind} after the cancel at {asked}"
            case RunCompleted() | RunFailed() | RunTimedOut() if asked:
                yield 6, event.seq, f"the run ends with {event.kind} after the cancel at {asked}"
            case RunCanceled() if not asked:
                yield 6, event.seq, "the run is canceled, and nobody had asked for it"


def _output(run: Run, events: Sequence[Event]) -> Found:
    shown: dict[str, int] = {}
    counted: dict[str, int] = {}
    for event in events:
        match event.record:
            case OutputDelta() as delta:
                before = shown.get(delta.step, delta.attempt)
                if before != delta.attempt:
                    yield 5, event.seq, f"attempt {delta.attempt} of {delta.step!r} adds to what {before} had shown"
                if delta.step in counted:
                    yield 5, event.seq, f"step {delta.step} shows more after its result"
                shown[delta.step] = delta.attempt
            case OutputReset() as reset:
                if shown.get(reset.step, reset.attempt + 1) > reset.attempt:
                    yield 5, event.seq, f"output.reset takes back what {reset.step!r} had not shown"
                else:
                    del shown[reset.step]
            case StepCompleted() as end:
                counted[end.step] = end.attempt
            case RunCompleted():
                for step, attempt in shown.items():
                    if step != BODY and counted.get(step) != attempt:
                        yield 5, event.seq, f"the output ends with text of attempt {attempt} of {step}, which is none"


def _taken(run: Run, events: Sequence[Event]) -> Found:
    """A control record ends one wait, and it is the one that counts: of one id the first, of one approval the first."""
    began: dict[str, StepStarted] = {}
    control: dict[int, Record] = {}
    void: set[int] = set()
    first: dict[tuple[str, str], int] = {}
    taken: dict[int, str] = {}
    asked: set[str] = set()
    for event in events:
        match event.record:
            case StepStarted() as start:
                began[start.step] = start
            case ApprovalRequested() as request:
                if request.approval in asked:
                    yield 3, event.seq, f"approval {request.approval} is asked for twice"
                asked.add(request.approval)
            case SignalReceived() | ApprovalResolved() as record:
                control[event.seq] = record
                named = ("signal", record.id) if isinstance(record, SignalReceived) else ("approval", record.approval)
                if named[1] and first.setdefault(named, event.seq) != event.seq:
                    void.add(event.seq)
            case StepCompleted(taken=seq) as end if seq:
                took = control.get(seq)
                wanted = began[end.step].name.partition(".")[2] if end.step in began else ""
                if seq in taken:
                    yield 3, event.seq, f"record {seq} ends {end.step}, and had ended {taken[seq]}"
                elif seq in void:
                    yield 3, event.seq, f"record {seq} ends {end.step}, but an earlier one counts"
                elif isinstance(took, SignalReceived):
                    if (took.name, bytes(took.data)) != (wanted, bytes(end.result)):
                        yield 3, event.seq, f"step {end.step} took record {seq}, and its result is another"
                elif isinstance(took, ApprovalResolved):
                    if (took.approval, bytes(took.decision)) != (end.step, bytes(end.result)):
                        yield 3, event.seq, f"step {end.step} took record {seq}, and its result is another"
                else:
                    yield 3, event.seq, f"step {end.step} took record {seq}, which is no signal or decision before it"
                taken.setdefault(seq, end.step)


def _children(run: Run, events: Sequence[Event]) -> Found:
    started: dict[str, str] = {}
    for event in events:
        match event.record:
            case ChildStarted() as child:
                if child.step in started:
                    yield 3, event.seq, f"step {child.step} starts a second run"
                started[child.step] = child.run_id
            case ChildEnded() as notice:
                if notice.run_id not in started.values():
                    yield 3, event.seq, f"the end of run {notice.run_id} is told of, which was not started here"


CHECKS: tuple[Callable[[Run, Sequence[Event]], Found], ...] = (
    _order, _row, _claimable, _leases, _steps, _cancel, _output, _taken, _children
)  # fmt: skip
"""Every law that one run's log and row can show."""
