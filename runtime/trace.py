"""A run's trace: nested steps with their attempts, LLM calls, tokens and models, folded from the log.

Why: a trace that is a reading of the log survives crashes with it, and needs no second store. Pure, no IO.

Ids of spans are digests of what they are about, so that every process that knows a run's id knows them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from . import records
from .log import BODY
from .records import Event, Failure, LLMCall, RunQueued

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Attempt(msgspec.Struct, kw_only=True):
    """One try of a step. `outcome`: running, completed, failed, or lost (its worker was)."""

    number: int
    worker: str
    started: float
    ended: float | None = None
    outcome: str = "running"
    error: Failure | None = None


class Span(msgspec.Struct, kw_only=True):
    """One step: when, how often, with what outcome, and the LLM calls made in it."""

    step: str
    name: str
    scope: str
    status: str = "running"
    source: str = "component"
    started: float = 0.0
    ended: float | None = None
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    calls: list[LLMCall] = msgspec.field(default_factory=list)
    messages: list[str] = msgspec.field(default_factory=list)


class Tokens(msgspec.Struct, kw_only=True):
    """What one model used. `cost_usd` is None where no price is known."""

    calls: int = 0
    input: int = 0
    output: int = 0
    cost_usd: float | None = None


class LeaseSpan(msgspec.Struct, kw_only=True):
    """A stretch of the run under one worker."""

    worker: str
    build: str
    fence: int
    started: float
    takeover: bool
    recorded: int


class Trace(msgspec.Struct, kw_only=True):
    """All of a run. Times are seconds since the epoch."""

    run_id: str = ""
    trace_id: str = ""
    workflow: str = ""
    status: str = "queued"
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    spans: list[Span] = msgspec.field(default_factory=list)
    calls: list[LLMCall] = msgspec.field(default_factory=list)
    leases: list[LeaseSpan] = msgspec.field(default_factory=list)
    tokens: dict[str, Tokens] = msgspec.field(default_factory=dict)
    takeovers: int = 0
    steps_executed: int = 0
    steps_replayed: int = 0
    steps_recorded_twice: int = 0
    unasked: tuple[str, ...] = ()
    error: Failure | None = None


class TraceFold:
    """Folds records into a `Trace`, which is complete and consistent after each of them."""

    def __init__(self) -> None:
        self.trace = Trace()
        self._spans: dict[str, Span] = {}
        self._completed: set[str] = set()
        self._worker = ""

    def apply(self, event: Event) -> None:
        """Fold the next record in."""
        trace, ts = self.trace, event.ts
        match event.record:
            case records.RunQueued() as record:
                trace.run_id, trace.trace_id, trace.workflow = record.run_id, record.trace_id, record.workflow
                trace.created = ts
            case records.LeaseTaken() as record:
                self._lease(record, ts)
            case records.RunHandedOver():
                trace.status = "queued"
            case records.RunCompleted() as record:
                trace.steps_replayed, trace.unasked = record.replayed, record.unasked
                self._end("completed", ts)
            case records.RunFailed() as record:
                trace.error = record.error
                self._end("failed", ts)
            case records.RunCanceled() as record:
                trace.error = Failure(type="RunCanceled", message=record.reason)
                self._end("canceled", ts)
            case records.RunTimedOut() as record:
                trace.error = Failure(type="RunTimedOut", message=f"took longer than {record.timeout_s:g} s")
                self._end("timed_out", ts)
            case records.StepStarted() as record:
                self._start(record, ts)
            case records.StepRetrying() as record:
                self._close(record.step, ts, "failed", record.error)
            case records.StepFailed() as record:
                self._close(record.step, ts, "failed", record.error).status = "failed"
            case records.StepCompleted() as record:
                self._complete(record, ts)
            case records.LLMCall() as record:
                self._call(record)
            case records.Status() as record:
                if record.step in self._spans:
                    self._spans[record.step].messages.append(record.message)

    def _lease(self, record: records.LeaseTaken, ts: float) -> None:
        trace = self.trace
        trace.started = ts if trace.started is None else trace.started
        trace.status = "running"
        trace.takeovers += record.takeover
        self._worker = record.worker
        lease = LeaseSpan(
            worker=record.worker,
            build=record.build,
            fence=record.fence,
            started=ts,
            takeover=record.takeover,
            recorded=record.recorded,
        )
        trace.leases.append(lease)
        for span in trace.spans:
            if span.attempts and span.attempts[-1].outcome == "running":
                span.attempts[-1].outcome, span.attempts[-1].ended = "lost", ts

    def _start(self, record: records.StepStarted, ts: float) -> None:
        span = self._spans.get(record.step)
        if span is None:
            span = Span(step=record.step, name=record.name, scope=record.scope, started=ts)
            self._spans[record.step] = span
            self.trace.spans.append(span)
        span.status, span.ended = "running", None
        span.attempts.append(Attempt(number=record.attempt, worker=self._worker, started=ts))

    def _close(self, step: str, ts: float, outcome: str, error: Failure | None) -> Span:
        span = self._spans.get(step) or Span(step=step, name=step, scope="")
        span.ended = ts
        if span.attempts:
            last = span.attempts[-1]
            last.ended, last.outcome, last.error = ts, outcome, error
        return span

    def _complete(self, record: records.StepCompleted, ts: float) -> None:
        span = self._close(record.step, ts, "completed", None)
        if span.attempts:  # its start may have been written together with its end
            last = span.attempts[-1]
            span.started = min(span.started, ts - record.seconds)
            last.started = min(last.started, ts - record.seconds)
        span.status, span.source = "completed", record.source
        self.trace.steps_executed += record.source != "fork"
        self.trace.steps_recorded_twice += record.step in self._completed
        self._completed.add(record.step)

    def _call(self, call: LLMCall) -> None:
        self.trace.calls.append(call)
        if call.step in self._spans:
            self._spans[call.step].calls.append(call)
        used = self.trace.tokens.setdefault(call.model, Tokens())
        used.calls += 1
        used.input += call.input_tokens
        used.output += call.output_tokens
        if call.cost_usd is not None:
            used.cost_usd = (used.cost_usd or 0.0) + call.cost_usd

    def _end(self, status: str, ts: float) -> None:
        self.trace.status, self.trace.ended = status, ts


def fold_trace(events: Iterable[Event]) -> Trace:
    """The trace that a log's records amount to, complete or not."""
    fold = TraceFold()
    for event in events:
        fold.apply(event)
    return fold.trace


def span_id(run_id: str, step: str = BODY, attempt: int = 1, call: int = 0) -> str:
    """Name the span of an attempt of a step, of its n-th LLM call, or of the run itself (`BODY`): 16 hex digits."""
    attempt = 1 if step == BODY and not call else attempt
    about = f"{run_id}/{step}/{attempt}/{call}"
    return hashlib.blake2b(about.encode(), digest_size=8).hexdigest()


def traceparent(queued: RunQueued, step: str = BODY, attempt: int = 1) -> str:
    """Return the W3C header that makes what is called from there a part of the run's trace."""
    flags = queued.traceparent.split("-")[3] if queued.traceparent else "01"
    return f"00-{queued.trace_id}-{span_id(queued.run_id, step, attempt)}-{flags}"


def valid_traceparent(text: str) -> bool:
    """Whether a text is a W3C `traceparent`."""
    return _TRACEPARENT.fullmatch(text) is not None
