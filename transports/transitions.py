"""What each act does to a run's row. Pure: transports differ in how they store rows, not in what becomes of them."""

from __future__ import annotations

from msgspec.structs import replace

from .values import Finish, HandOver, NewRun, Park, Run, RunState, Transition


def queued(new: NewRun, now: float) -> Run:
    """Return the row of a new run."""
    return Run(
        run_id=new.run_id,
        lane=new.lane,
        state=RunState.QUEUED,
        seq=len(new.entries),
        control_seq=0,
        created=now,
        updated=now,
        due=now if new.due is None else new.due,
        owner=None,
        fence=0,
        waiting_on=None,
        key=new.key,
        tags=new.tags,
    )


def claimed(run: Run, owner: str, now: float, lease_s: float, pin: str = "") -> Run:
    """Return the row after a claim: leased to `owner`, due again when the lease ends, and kept for the build `pin`."""
    return replace(
        run,
        lane=replace(run.lane, build=pin) if pin and not run.lane.build else run.lane,
        state=RunState.RUNNING,
        owner=owner,
        fence=run.fence + 1,
        due=now + lease_s,
        waiting_on=None,
        updated=now,
    )


def appended(run: Run, count: int, to: Transition | None, now: float) -> Run:
    """Return the row after an append of `count` records and a transition."""
    seq = run.seq + count
    if to is None:
        return replace(run, seq=seq, updated=now)
    state, due, waiting_on = left(to, run.control_seq, now)
    return replace(run, seq=seq, updated=now, state=state, due=due, owner=None, waiting_on=waiting_on)


def left(to: Transition, control_seq: int, now: float) -> tuple[RunState, float | None, str | None]:
    """Return the state, due and waiting_on of a run whose lease is given up."""
    match to:
        case Finish(state):
            return state, None, None
        case HandOver():
            return RunState.QUEUED, now, None
        case Park(due, waiting_on, seen):
            return RunState.WAITING, now if control_seq > seen else due, waiting_on


def posted(run: Run, count: int, now: float) -> Run:
    """Return the row after `count` control records: a waiting run is due at once."""
    seq = run.seq + count
    due = now if run.state is RunState.WAITING else run.due
    return replace(run, seq=seq, control_seq=seq, due=due, updated=now)
