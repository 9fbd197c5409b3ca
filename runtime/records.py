"""What a run's log is made of: the records, their wire names, and how they are encoded.

Why: the log is the single source of truth. Journal, status stream, output stream and trace are all readings
of these records and of nothing else, so whatever should be known later must be a field here.

A body is JSON, so that logs can be read by people and streamed to clients as they are. A record's kind is its
wire name (`step.completed`). Unknown kinds decode to `Unknown`: an old reader survives a newer writer. Fields
are only ever added, with defaults; `SCHEMA` rises when that is not enough.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ..transports import Entry, Stored

SCHEMA = 1
"""The version of this set of records, written into every `run.queued`."""


NULL = msgspec.Raw(b"null")
"""The JSON value null: no data."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Root of all records. `kind` is the wire name."""

    kind: ClassVar[str] = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as data: the exception's type name, its message, and where it came from."""

    type: str
    message: str
    step: str | None = None


class RunQueued(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The run was accepted. `input` is the workflow's arguments as a JSON object, `parent` the run that started it.

    `forked_from` is the run whose results it begins with, `forked_at` the step that it makes again. `traceparent` is
    the W3C header of whoever asked for it, if it is part of a trace.
    """

    kind = "run.queued"
    workflow: str
    input: msgspec.Raw
    run_id: str
    schema: int = SCHEMA
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    timeout_s: float | None = None
    trace_id: str = ""
    parent: str = ""
    forked_from: str = ""
    forked_at: str = ""
    traceparent: str = ""


class LeaseTaken(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A worker claimed the run. `takeover`: the worker before it was lost; `recorded`: results it found."""

    kind = "lease.taken"
    worker: str
    build: str
    fence: int
    takeover: bool = False
    recorded: int = 0


class RunStarted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The workflow's body runs for the first time."""

    kind = "run.started"


class RunParked(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The run only waits: it gave up its lease and its place in memory.

    `due` is when it goes on by itself, seconds since the epoch; None: when a control record comes.
    """

    kind = "run.parked"
    waiting_on: str
    due: float | None = None


class RunHandedOver(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A draining worker gave the run up at a step boundary; another goes on."""

    kind = "run.handed_over"
    worker: str


class RunCompleted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal: the workflow returned `result` (JSON).

    `replayed` steps were answered from the log under the last lease; `unasked` are recorded steps that the
    code, changed in flight, never asked for.
    """

    kind = "run.completed"
    result: msgspec.Raw
    replayed: int = 0
    unasked: tuple[str, ...] = ()


class RunFailed(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal: the workflow raised."""

    kind = "run.failed"
    error: Failure


class RunCanceled(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal: the run was canceled."""

    kind = "run.canceled"
    reason: str = ""


class RunTimedOut(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Terminal: the run's deadline passed."""

    kind = "run.timed_out"
    timeout_s: float


class StepStarted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt of a step begins. `step` is its identity, `scope` that of the step that encloses it.

    `waits_for`: the step is no work but a wait, for a timer, signal, approval or child run.
    """

    kind = "step.started"
    step: str
    name: str
    attempt: int
    scope: str = ""
    digest: str = ""
    nth: int = 1
    waits_for: str = ""


class StepRetrying(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt failed and another one follows after `delay_s`."""

    kind = "step.retrying"
    step: str
    attempt: int
    error: Failure
    delay_s: float


class StepCompleted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The step's one result (JSON). `source` tells where it came from: the component, its cache or fallback, a wait.

    `taken` is the seq of the control record that ended a wait, and that no other wait will get.
    """

    kind = "step.completed"
    step: str
    attempt: int
    result: msgspec.Raw
    seconds: float = 0.0
    source: str = "component"
    taken: int = 0


class StepFailed(Record, frozen=True, kw_only=True, omit_defaults=True):
    """All attempts of the step failed; the workflow's body sees the error."""

    kind = "step.failed"
    step: str
    attempt: int
    error: Failure


class LLMAttempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of an LLM call at one deployment."""

    deployment: str
    outcome: str
    seconds: float
    error: str = ""


class LLMCall(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One LLM call, finished or failed: where it went and why, what it took, what it cost.

    `operation`: chat or embeddings. `cached_tokens` are among the input tokens, `reasoning_tokens` among the output
    tokens; `response_id` and `finish_reasons` are the provider's words.
    """

    kind = "llm.completed"
    step: str
    attempt: int
    status: str
    deployment: str
    provider: str
    model: str
    asked_model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    first_token_s: float | None = None
    queued_s: float = 0.0
    stream: bool = False
    reason: str = ""
    attempts: tuple[LLMAttempt, ...] = ()
    operation: str = "chat"
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    response_id: str = ""
    finish_reasons: tuple[str, ...] = ()


class Status(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the run says it is doing, for people."""

    kind = "status"
    step: str
    message: str
    data: msgspec.Raw = NULL


class OutputDelta(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Text that an attempt of a step (`""`: the workflow's body) added to the run's output."""

    kind = "output.delta"
    step: str
    attempt: int
    text: str


class OutputReset(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What attempts up to `attempt` of this step had shown does not count any more."""

    kind = "output.reset"
    step: str
    attempt: int


class TimerSet(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A wait ends by itself at `due`, seconds since the epoch."""

    kind = "timer.set"
    step: str
    due: float


class ApprovalRequested(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody has to decide: `approval` is where the decision is sent, `question` and `data` are for whoever does."""

    kind = "approval.requested"
    approval: str
    name: str
    question: str
    data: msgspec.Raw = NULL


class ChildStarted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A step is a run of its own: `run_id`."""

    kind = "child.started"
    step: str
    run_id: str
    workflow: str


class Control(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A record that comes from outside, without a lease."""


class SignalReceived(Control, frozen=True, kw_only=True, omit_defaults=True):
    """Control: something for the workflow. Of those with one `id` only the first counts."""

    kind = "signal.received"
    name: str
    data: msgspec.Raw = NULL
    id: str = ""


class ApprovalResolved(Control, frozen=True, kw_only=True, omit_defaults=True):
    """Control: a decision. Only the first one counts."""

    kind = "approval.resolved"
    approval: str
    decision: msgspec.Raw
    by: str = ""


class ChildEnded(Control, frozen=True, kw_only=True, omit_defaults=True):
    """Control: a run that this one started has ended. A hint: the child's own log is the truth."""

    kind = "child.ended"
    run_id: str


class CancelRequested(Control, frozen=True, kw_only=True, omit_defaults=True):
    """Control: somebody wants the run to stop."""

    kind = "cancel.requested"
    reason: str = ""


class ActorRestarted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A supervisor restarted an actor that this run was using."""

    kind = "actor.restarted"
    path: str
    reason: str


class Unknown(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A record of a kind that this version does not know."""

    kind = "unknown"
    named: str
    body: msgspec.Raw


KINDS: dict[str, type[Record]] = {
    cls.kind: cls
    for cls in (
        RunQueued, LeaseTaken, RunStarted, RunParked, RunHandedOver, RunCompleted, RunFailed, RunCanceled, RunTimedOut,
        StepStarted, StepRetrying, StepCompleted, StepFailed, LLMCall, Status, OutputDelta, OutputReset,
        TimerSet, ApprovalRequested, ChildStarted, SignalReceived, ApprovalResolved, ChildEnded,
        CancelRequested, ActorRestarted,
    )
}  # fmt: skip
"""Every record by its wire name."""

_decoders = {kind: msgspec.json.Decoder(cls) for kind, cls in KINDS.items()}
_encoder = msgspec.json.Encoder()


class Event(msgspec.Struct, frozen=True):
    """A record with its place in a log: `seq` 1, 2, 3 ... and `ts`, seconds since the epoch."""

    seq: int
    ts: float
    record: Record

    @property
    def kind(self) -> str:
        """The record's wire name."""
        return self.record.named if isinstance(self.record, Unknown) else self.record.kind


class Encoded(Entry, frozen=True):
    """A record as a transport takes it, which remembers what it was."""

    record: Record


def encode(record: Record) -> Encoded:
    """The record as a transport takes it."""
    return Encoded(record.kind, _encoder.encode(record), record)


def decode(stored: Stored) -> Event:
    """The record as a transport gives it back."""
    decoder = _decoders.get(stored.kind)
    if decoder is None:
        return Event(stored.seq, stored.ts, Unknown(named=stored.kind, body=msgspec.Raw(stored.body)))
    return Event(stored.seq, stored.ts, decoder.decode(stored.body))
