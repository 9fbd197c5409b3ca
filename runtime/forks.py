"""Forks: the log of a new run that begins where an old one was at some step. Pure.

Why: a run that went wrong after an hour should not cost the hour again. What a fork keeps of the old log are results,
and what the steps that have them showed: the new run replays them like its own. Everything else (signals, approvals,
leases, what was tried and failed, calls of providers) stays with the old run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .errors import ForkInvalid
from .records import Event, OutputDelta, OutputReset, Record, RunQueued, StepCompleted, StepStarted

SOURCE = "fork"
"""What a kept result says of where it came from."""


def kept(events: Iterable[Event], at: str | None) -> Sequence[Record]:
    """Return the records that a fork keeps, in their order.

    Args:
        events: the old log.
        at: the step that the new run is to make again, with all that ended after it began; None: keep all results.

    Raises:
        ForkInvalid: there is no such step.
    """
    started: dict[str, StepStarted] = {}
    results: dict[str, StepCompleted] = {}
    deltas: list[OutputDelta] = []
    ahead: list[Record] = []
    for event in events:
        match event.record:
            case StepStarted() as record:
                if record.step == at:
                    break
                started.setdefault(record.step, record)
            case StepCompleted() as record:
                results[record.step] = record
                ahead.append(record)
            case OutputDelta() as record:
                deltas.append(record)
                ahead.append(record)
            case OutputReset() as record:
                gone = [d for d in deltas if d.step == record.step and d.attempt <= record.attempt]
                deltas = [d for d in deltas if d not in gone]
                ahead = [r for r in ahead if not any(r is d for d in gone)]
    else:
        if at is not None:
            raise ForkInvalid(f"the run has no step {at!r}: give one that its trace shows, or none to keep all results")
    records: list[Record] = [msgspec.structs.replace(started[step], attempt=1) for step in results]
    for one in ahead:
        if isinstance(one, StepCompleted):
            records.append(msgspec.structs.replace(one, attempt=1, source=SOURCE, taken=0))
        elif isinstance(one, OutputDelta) and one.step in results:
            records.append(msgspec.structs.replace(one, attempt=1))
    return records


def queued_again(
    old: RunQueued,
    *,
    run_id: str,
    trace_id: str,
    input: msgspec.Raw,  # noqa: A002 - the word of the API
    at: str | None,
) -> RunQueued:
    """Return the first record of a fork."""
    return msgspec.structs.replace(
        old,
        run_id=run_id,
        trace_id=trace_id,
        input=input,
        parent="",
        traceparent="",
        forked_from=old.run_id,
        forked_at=at or "",
    )
