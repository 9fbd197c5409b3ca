"""Readings of a run's log. Pure: they fold records and do no IO.

Why: replay, output and state must be the same whoever computes them, so each is one fold over the one log.

Laws kept here:
3. A step has at most one recorded result, and a recorded step is never executed again: `Journal`.
5. Applying resets, a reader ends with exactly the output of the attempts that counted: `Output`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from .records import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    Control,
    Event,
    Failure,
    LeaseTaken,
    LLMCall,
    OutputDelta,
    OutputReset,
    RunHandedOver,
    RunParked,
    RunQueued,
    RunStarted,
    SignalReceived,
    Status,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepStarted,
    TimerSet,
)

BODY = ""
"""The scope of the workflow's body: it has no step of its own."""


def identify(scope: str, name: str, arguments: bytes, nth: int) -> str:
    """A step's identity by content: equal calls in one scope are told apart by their order alone."""
    return _identity(scope, name, arguments, str(nth).encode())


def identify_by_key(scope: str, name: str, key: str) -> str:
    """A step's identity by an explicit key."""
    return _identity(scope, name, b"key", key.encode())


def _identity(scope: str, name: str, call: bytes, which: bytes) -> str:
    data = b"%b%b%b%b%b" % (_within(scope, name), len(call).to_bytes(8), call, len(which).to_bytes(8), which)
    return f"{name}-{hashlib.blake2b(data, digest_size=8).hexdigest()}"


@lru_cache(1024)
def _within(scope: str, name: str) -> bytes:
    return b"".join(len(part).to_bytes(8) + part for part in (scope.encode(), name.encode()))


class Journal:
    """What the log says about a run, for the worker that goes on with it.

    It is folded from the log when a lease begins, and kept up by the worker while it holds the lease.
    What a new attempt of an enclosing step asks again is answered from results alone: failures inside a dead
    attempt do not count. The body's own failed steps do: the body saw them, and may have gone on from there.

    Attributes:
        leased: whether the newest lease was not given up in order; a lease taken after it is a takeover.
        began: step -> when its first attempt did.
        due: step -> when its wait, or its pause between attempts, ends by itself.
        signals: name -> those that no wait has taken yet, by seq.
        asked: approvals that were asked for.
        decisions: approval -> the seq and value of the one that counts.
        children: step -> run that it started, until the step has ended.
        ended: child run -> seq of the notice that it has ended.
        lost_leases: how many workers were lost in a row, without a result between.
        spent: step -> dollars and tokens of the LLM calls that earlier leases made in it, until it is asked for.
    """

    def __init__(self) -> None:
        self.queued: RunQueued | None = None
        self.created = 0.0
        self.started = False
        self.lost_leases = 0
        self.cancel: CancelRequested | None = None
        self.control_seq = 0
        self.results: dict[str, msgspec.Raw] = {}
        self.failures: dict[str, Failure] = {}
        self.failed_attempts: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.shown: dict[str, int] = {}
        self.unasked: dict[str, None] = {}
        self.began: dict[str, float] = {}
        self.due: dict[str, float] = {}
        self.signals: dict[str, dict[int, msgspec.Raw]] = {}
        self.asked: set[str] = set()
        self.decisions: dict[str, tuple[int, msgspec.Raw]] = {}
        self.children: dict[str, str] = {}
        self.ended: dict[str, int] = {}
        self.spent: dict[str, tuple[float, float]] = {}
        self._said: dict[tuple[str, bytes], int] = {}
        self._signal_ids: set[str] = set()
        self._scopes: dict[str, str] = {}
        self._inner: dict[str, list[str]] = {}
        self.leased = False

    def apply(self, event: Event) -> None:
        """Fold the next record in."""
        if isinstance(event.record, Control):
            self.control_seq = event.seq
        match event.record:
            case RunQueued() as record:
                self.queued, self.created = record, event.ts
            case RunStarted():
                self.started = True
            case LeaseTaken():
                self.lost_leases += self.leased
                self.leased = True
                self.attempts[BODY] = self.attempts.get(BODY, 0) + 1
            case RunHandedOver() | RunParked():
                self.leased = False
            case CancelRequested() as record:
                self.cancel = self.cancel or record
            case SignalReceived() as record:
                if not record.id or record.id not in self._signal_ids:
                    self._signal_ids.add(record.id)
                    self.signals.setdefault(record.name, {})[event.seq] = record.data
            case ApprovalResolved() as record:
                self.decisions.setdefault(record.approval, (event.seq, record.decision))
            case ChildEnded() as record:
                self.ended[record.run_id] = event.seq
            case ChildStarted() as record:
                self.children[record.step] = record.run_id
            case ApprovalRequested() as record:
                self.asked.add(record.approval)
            case TimerSet() as record:
                self.due[record.step] = record.due
            case StepStarted() as record:
                self.began.setdefault(record.step, event.ts)
                self.begin(record.step, record.scope, record.attempt)
            case StepRetrying() as record:
                if self._scopes.get(record.step) == BODY:
                    self.failed_attempts[record.step] = self.failed_attempts.get(record.step, 0) + 1
                    self.due[record.step] = event.ts + record.delay_s
            case StepCompleted() as record:
                self.complete(record.step, record.result, record.taken)
                if self._scopes.get(record.step, BODY) == BODY:
                    self.unasked[record.step] = None
            case StepFailed() as record:
                self.due.pop(record.step, None)
                self.children.pop(record.step, None)
                if self._scopes.get(record.step, BODY) == BODY:
                    self.failures[record.step] = record.error
            case Status(step="") as record:
                words = record.message, bytes(record.data)
                self._said[words] = self._said.get(words, 0) + 1
            case LLMCall() as record:
                self._spend(record.step, record.cost_usd or 0.0, record.input_tokens + record.output_tokens)
            case OutputDelta() as record:
                self.shown[record.step] = record.attempt
            case OutputReset() as record:
                self.shown.pop(record.step, None)

    def begin(self, step: str, scope: str, attempt: int) -> None:
        """Note that an attempt begins."""
        if step not in self._scopes:
            self._scopes[step] = scope
            self._inner.setdefault(scope, []).append(step)
        self.attempts[step] = attempt

    def repeated(self, status: Status) -> bool:
        """Whether the body, begun again, says what it had said before; each saying is asked for once."""
        words = status.message, bytes(status.data)
        left = self._said.get(words, 0)
        if status.step != BODY or not left:
            return False
        self._said[words] = left - 1
        return True

    def take_back(self, step: str) -> list[OutputReset]:
        """Forget what a dead attempt had shown, and what steps inside it had that came to no result; how to say so."""
        if step not in self.shown and step not in self._inner:
            return []
        resets = [OutputReset(step=step, attempt=self.shown.pop(step))] if step in self.shown else []
        return resets + self.take_back_inside(step)

    def take_back_inside(self, scope: str) -> list[OutputReset]:
        """Do so for the steps inside a scope."""
        resets: list[OutputReset] = []
        for step in self._inner.get(scope, ()):
            if step not in self.results:
                resets += self.take_back(step)
        return resets

    def known(self, step: str) -> bool:
        """Whether the step has begun."""
        return step in self.attempts

    def complete(self, step: str, result: msgspec.Raw, taken: int = 0) -> None:
        """Note a result; what happened inside the step will not be looked at again, and what it took is gone."""
        self.lost_leases = 0
        self.results.setdefault(step, result)
        self.due.pop(step, None)
        self.children.pop(step, None)
        if taken:
            for waiting in self.signals.values():
                waiting.pop(taken, None)
        self._forget_inside(step)

    def _forget_inside(self, step: str) -> None:
        for child in self._inner.pop(step, ()):
            self._forget_inside(child)
            self._spend(step, *self.spent.pop(child, (0.0, 0.0)))
            for known in (self.results, self.attempts, self.shown, self.began, self.due, self._scopes):
                known.pop(child, None)

    def _spend(self, step: str, usd: float, tokens: float) -> None:
        before = self.spent.get(step, (0.0, 0.0))
        self.spent[step] = before[0] + usd, before[1] + tokens

    def answer(self, step: str) -> msgspec.Raw | None:
        """The recorded result of a step that is asked for, if there is one."""
        self.unasked.pop(step, None)
        return self.results.get(step)

    @property
    def recorded(self) -> int:
        """How many results stand ready to answer."""
        return len(self.results)


class Output:
    """The text a run shows: deltas in order, less what was reset."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, int, str]] = []

    def apply(self, event: Event) -> None:
        """Fold the next record in."""
        match event.record:
            case OutputDelta() as delta:
                self._parts.append((delta.step, delta.attempt, delta.text))
            case OutputReset() as reset:
                self._parts = [p for p in self._parts if p[0] != reset.step or p[1] > reset.attempt]

    @property
    def text(self) -> str:
        """What counts so far."""
        return "".join(part[2] for part in self._parts)


def fold_output(events: Iterable[Event]) -> str:
    """The text that a log's records amount to."""
    output = Output()
    for event in events:
        output.apply(event)
    return output.text


def recorded_twice(events: Iterable[Event]) -> list[str]:
    """Steps that have more than one result in a log; law 3 says: none, ever."""
    seen: set[str] = set()
    twice: list[str] = []
    for event in events:
        if isinstance(event.record, StepCompleted):
            if event.record.step in seen:
                twice.append(event.record.step)
            seen.add(event.record.step)
    return twice
