"""How runs look: a record as a line or as JSON, a run as a row, a trace as a tree.

Pure readings of the log: the same records give the same picture, live or later.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ...transports import Run
from .. import records
from ..records import Event
from ..runs import RunView
from ..trace import Span, Trace
from .output import printable


def line(event: Event) -> str:
    """Return a record in one line."""
    at = time.strftime("%H:%M:%S", time.localtime(event.ts))
    return f"{event.seq:>5}  {at}  {event.kind:<16} {printable(_told(event))}".rstrip()


def as_json(event: Event) -> str:
    """Return a record as a line of JSON."""
    record = {"seq": event.seq, "ts": event.ts, "kind": event.kind, "data": event.record}
    return msgspec.json.encode(record).decode()


def row(run: Run) -> str:
    """Return a run in one line."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
    return f"{run.run_id:<34} {run.workflow:<20} {run.state.value:<10} {at}  {run.seq} records"


def run_as_json(view: RunView) -> str:
    """Return a run, its result and its error as one JSON object."""
    run = view.run
    shown = {
        "run_id": run.run_id,
        "workflow": run.workflow,
        "state": run.state.value,
        "result": view.result,
        "error": view.error,
    }
    return msgspec.json.encode(shown).decode()


def _told(event: Event) -> str:
    record: Any = event.record
    match record:
        case records.RunQueued():
            return str(record.workflow)
        case records.LeaseTaken():
            return f"{record.worker} (fence {record.fence})"
        case records.StepStarted():
            return f"{record.name} attempt {record.attempt}"
        case records.StepCompleted():
            return f"{record.step.rpartition('-')[0]} in {record.seconds:.2f} s"
        case records.StepRetrying() | records.StepFailed() | records.RunFailed():
            return f"{record.error.type}: {record.error.message}"
        case records.LLMCall():
            return f"{record.model} {record.input_tokens}+{record.output_tokens} tokens, {record.seconds:.2f} s"
        case records.RunParked():
            return f"waits for {record.waiting_on}"
        case records.ApprovalRequested():
            return f"{record.approval}: {record.question}"
        case records.SignalReceived():
            return str(record.name)
        case records.ApprovalResolved():
            return f"{record.approval}: {bytes(record.decision).decode()}"
        case records.ChildStarted():
            return f"{record.workflow} {record.run_id}"
        case records.Status():
            return str(record.message)
        case records.OutputDelta():
            return repr(record.text[:60])
        case records.RunCanceled() | records.CancelRequested():
            return str(record.reason)
        case _:
            return ""


def tree(trace: Trace) -> str:
    """Draw a run's steps."""
    lines = [f"{trace.workflow}  {trace.run_id}  {trace.status}  {seconds(trace.created, trace.ended)}"]
    inside: dict[str, list[Span]] = {}
    for span in trace.spans:
        inside.setdefault(span.scope, []).append(span)

    def draw(scope: str, indent: str) -> None:
        spans = inside.get(scope, [])
        for number, span in enumerate(spans):
            last = number == len(spans) - 1
            used = tokens(span)
            models = ", ".join(dict.fromkeys(call.model for call in span.calls))
            told = [span.status, seconds(span.started, span.ended)]
            if len(span.attempts) > 1:
                told.append(f"{len(span.attempts)} attempts")
            if used:
                told.append(f"{used} tokens ({models})")
            lines.append(f"{indent}{'└─' if last else '├─'} {span.name}  {', '.join(told)}")
            draw(span.step, indent + ("   " if last else "│  "))

    draw("", "")
    for model, total in sorted(trace.tokens.items()):
        lines.append(f"{model}: {total.calls} calls, {total.input} tokens in, {total.output} out")
    lines.append(
        f"steps run {trace.steps_executed}, replayed {trace.steps_replayed}, "
        f"recorded twice {trace.steps_recorded_twice}, takeovers {trace.takeovers}"
    )
    if trace.error is not None:
        lines.append(printable(f"{trace.error.type}: {trace.error.message}"))
    return "\n".join(lines)


def tokens(span: Span) -> int:
    """Return the tokens that a step used."""
    return sum(call.input_tokens + call.output_tokens for call in span.calls)


def seconds(start: float, end: float | None) -> str:
    """Return how long something took; "..." while it goes on."""
    return "..." if end is None or not start else f"{end - start:.2f} s"
