"""A run's spans, folded from its log: the trace as OpenTelemetry sees it. Pure, no IO.

Why: no process holds a span open. A span is two records of the log, so it is complete whichever worker wrote them and
whichever worker died between; and its id is a digest of what it is about, so whoever folds the log gets the same ids.

    invoke_workflow {name}            the run, from its acceptance to its end; an event for every lease
    └─ execute_step {component}       one for each attempt of a step, linked to the attempt before it
       ├─ chat {model}                one for each LLM call
       └─ execute_step {component}    steps inside it

Law kept here: 10. By default a span holds ids, names, numbers and types of errors. Free text (inputs, results,
messages of errors) is in it only if content is captured, and then without this process's secrets.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .. import records
from ..records import Event, Failure
from ..redaction import redact
from ..trace import span_id
from . import names
from .names import Profile

Value = str | bool | int | float | tuple[str, ...]


class Mark(msgspec.Struct, frozen=True):
    """Something that happened in a span, at `ts` seconds since the epoch."""

    name: str
    ts: float
    attributes: dict[str, Value]


class Span(msgspec.Struct, kw_only=True):
    """One span. `parent` and `links` are ids of spans, 16 hex digits; times are seconds since the epoch.

    `client`: it is a call of something outside. `error`: why it failed, as text, empty for a text that stays here;
    None: it did not fail.
    """

    id: str
    name: str
    parent: str
    started: float
    ended: float = 0.0
    client: bool = False
    error: str | None = None
    attributes: dict[str, Value] = {}
    links: list[str] = []
    marks: list[Mark] = []


class RunSpans(msgspec.Struct, kw_only=True):
    """All spans of one run, its own first. `traceparent` is the caller's, if it gave one; `worker` ended the run."""

    run_id: str
    trace_id: str
    traceparent: str
    worker: str
    spans: list[Span]


class _Run:
    def __init__(self, queued: records.RunQueued, ts: float, profile: Profile, *, content: bool) -> None:
        self.queued = queued
        self.worker = ""
        self.content = content
        self.root = Span(
            id=span_id(queued.run_id),
            name=f"{names.INVOKE_WORKFLOW} {queued.workflow}",
            parent=queued.traceparent.split("-")[2] if queued.traceparent else "",
            started=ts,
            attributes={
                names.OPERATION: names.INVOKE_WORKFLOW,
                profile.value.workflow: queued.workflow,
                names.RUN_ID: queued.run_id,
            },
        )
        self.spans = [self.root]
        self._open: dict[str, Span] = {}
        self._attempts: dict[str, int] = {}
        self._scopes: dict[str, str] = {}
        self._waits: set[str] = set()
        self._calls: dict[tuple[str, int], int] = {}
        self._gave_up = True
        root = self.root.attributes
        if queued.tags:
            root[names.RUN_TAGS] = queued.tags
        for name, text in (
            (names.PARENT_RUN, queued.parent),
            (names.FORKED_FROM, queued.forked_from),
            (names.CONVERSATION, queued.metadata.get("conversation_id", "")),
        ):
            if text:
                root[name] = text
        self._text(self.root, names.RUN_INPUT, queued.input)

    def apply(self, event: Event) -> None:
        ts = event.ts
        match event.record:
            case records.LeaseTaken() as record:
                self._lease(record, ts)
            case records.RunParked() | records.RunHandedOver():
                self._gave_up = True
            case records.StepStarted() as record:
                self._start(record, ts)
            case records.StepRetrying() as record:
                self._close(record.step, ts, "failed", record.error)
            case records.StepFailed() as record:
                self._close(record.step, ts, "failed", record.error)
            case records.StepCompleted() as record:
                if (span := self._close(record.step, ts, "completed")) is not None:
                    span.started = min(span.started, ts - record.seconds)
                    self._enclose(self._scopes[record.step], span.started)
                    span.attributes[names.SOURCE] = record.source
                    self._text(span, names.STEP_RESULT, record.result)
            case records.LLMCall() as record:
                self._call(record, ts)
            case records.RunCompleted() as record:
                self._end("completed", ts)
                self._text(self.root, names.RUN_RESULT, record.result)
            case records.RunFailed() as record:
                self._end("failed", ts, record.error)
            case records.RunCanceled() as record:
                self._end("canceled", ts)
            case records.RunTimedOut() as record:
                self._end("timed_out", ts, Failure(type="RunTimedOut", message=f"took over {record.timeout_s:g} s"))

    def _lease(self, record: records.LeaseTaken, ts: float) -> None:
        """Close what the worker before left open: its attempts are made again; waits go on."""
        for step in self._open.keys() - self._waits:
            if self._gave_up:
                self._close(step, ts, "handed_over")
            else:
                self._close(step, ts, "lost", Failure(type="WorkerLost", message=f"{self.worker} was lost"))
        self._gave_up = False
        self.worker = record.worker
        about: dict[str, Value] = {
            names.WORKER: record.worker,
            names.BUILD: record.build,
            names.TAKEOVER: record.takeover,
        }
        self.root.marks.append(Mark(names.LEASE, ts, about))

    def _start(self, record: records.StepStarted, ts: float) -> None:
        run_id, before = self.queued.run_id, self._attempts.get(record.step)
        self._attempts[record.step] = record.attempt
        self._scopes[record.step] = record.scope
        outer = self._attempts.get(record.scope, 1)
        span = Span(
            id=span_id(run_id, record.step, record.attempt),
            name=f"{names.EXECUTE_STEP} {record.name}",
            parent=span_id(run_id, record.scope, outer),
            started=ts,
            attributes={
                names.OPERATION: names.EXECUTE_STEP,
                names.RUN_ID: run_id,
                names.STEP_ID: record.step,
                names.COMPONENT: record.name,
                names.ATTEMPT: record.attempt,
                names.WORKER: self.worker,
            },
            links=[] if before is None else [span_id(run_id, record.step, before)],
        )
        if record.waits_for:
            self._waits.add(record.step)
            span.attributes[names.WAITS_FOR] = record.waits_for
        self._open[record.step] = span
        self.spans.append(span)

    def _enclose(self, step: str, began: float) -> None:
        """Have a step, and what is around it, begin no later than what happened in it: starts are written behind."""
        while (span := self._open.get(step)) is not None and began < span.started:
            span.started = began
            step = self._scopes[step]

    def _close(self, step: str, ts: float, outcome: str, error: Failure | None = None) -> Span | None:
        span = self._open.pop(step, None)
        if span is None:
            return None
        span.ended = ts
        span.attributes[names.OUTCOME] = outcome
        if error is not None:
            self._fail(span, error)
        return span

    def _call(self, call: records.LLMCall, ts: float) -> None:
        run_id, place = self.queued.run_id, (call.step, call.attempt)
        nth = self._calls[place] = self._calls.get(place, 0) + 1
        span = Span(
            id=span_id(run_id, call.step, call.attempt, nth),
            name=f"{call.operation} {call.asked_model}",
            parent=span_id(run_id, call.step, call.attempt),
            started=ts - call.seconds,
            ended=ts,
            client=True,
            attributes={
                names.OPERATION: call.operation,
                names.PROVIDER: names.PROVIDERS.get(call.provider, call.provider or "unknown"),
                names.REQUEST_MODEL: call.asked_model,
                names.REQUEST_STREAM: call.stream,
                names.RUN_ID: run_id,
                names.STEP_ID: call.step,
                names.ATTEMPT: call.attempt,
                names.ROUTE: call.deployment,
                names.ROUTE_REASON: call.reason,
                names.QUEUED_S: call.queued_s,
                names.INPUT_TOKENS: call.input_tokens,
                names.OUTPUT_TOKENS: call.output_tokens,
            },
        )
        for name, value in (
            (names.RESPONSE_MODEL, call.model or None),
            (names.FIRST_CHUNK, call.first_token_s),
            (names.COST, call.cost_usd),
            (names.CACHED_TOKENS, call.cached_tokens or None),
            (names.REASONING_TOKENS, call.reasoning_tokens or None),
            (names.RESPONSE_ID, call.response_id or None),
            (names.FINISH_REASONS, call.finish_reasons or None),
            (names.CONVERSATION, self.queued.metadata.get("conversation_id")),
        ):
            if value is not None:
                span.attributes[name] = value
        if call.status == "failed":
            said = call.attempts[-1].error if call.attempts else ""
            self._fail(span, Failure(type=error_type(call), message=said))
        self.spans.append(span)
        if call.attempt == self._attempts.get(call.step):
            self._enclose(call.step, span.started)

    def _end(self, status: str, ts: float, error: Failure | None = None) -> None:
        for step in list(self._open):
            self._close(step, ts, "unfinished")
        self.root.ended = ts
        self.root.attributes[names.RUN_STATUS] = status
        if error is not None:
            self._fail(self.root, error)

    def _fail(self, span: Span, error: Failure) -> None:
        span.attributes[names.ERROR_TYPE] = error.type
        span.error = redact(error.message) if self.content else ""

    def _text(self, span: Span, name: str, raw: msgspec.Raw) -> None:
        if self.content:
            span.attributes[name] = redact(bytes(raw).decode())


class SpanFold:
    """Folds a run's records into its spans."""

    def __init__(self, profile: Profile = Profile.V1_41, *, content: bool = False) -> None:
        self._profile = profile
        self._content = content
        self._run: _Run | None = None

    def apply(self, event: Event) -> None:
        """Fold the next record in."""
        if self._run is not None:
            self._run.apply(event)
        elif isinstance(event.record, records.RunQueued):
            self._run = _Run(event.record, event.ts, self._profile, content=self._content)

    def spans(self) -> RunSpans | None:
        """Return the run's spans; None while it has not ended."""
        run = self._run
        if run is None or names.RUN_STATUS not in run.root.attributes:
            return None
        return RunSpans(
            run_id=run.queued.run_id,
            trace_id=run.queued.trace_id,
            traceparent=run.queued.traceparent,
            worker=run.worker,
            spans=run.spans,
        )


def fold_spans(events: Iterable[Event], profile: Profile = Profile.V1_41, *, content: bool = False) -> RunSpans | None:
    """Return the spans of a run whose log this is; None if it has not ended."""
    fold = SpanFold(profile, content=content)
    for event in events:
        fold.apply(event)
    return fold.spans()


def error_type(call: records.LLMCall) -> str:
    """Why a call failed, as one of the router's few words."""
    return call.attempts[-1].outcome if call.attempts else call.status
