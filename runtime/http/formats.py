"""A run's output told as one chat message, in the vocabulary of some front end.

Why: front ends speak protocols of their own, and what they need of a log is the same: text as it comes, what was
taken back, what the run does and asks, and the end. Here the log is folded once; a vocabulary only finds words.

Such a stream has no cursor: it tells the message from its start. What was in the log when the reader came is told as
it counts now, so a reader that comes back is never told of what was taken back in between.

Laws kept here: 5 (a reader ends with exactly the text that counts). The text is kept while the stream is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import msgspec

from ...transports import Run, Stored
from ..inlets import ApprovalView
from ..log import Output
from ..records import (
    ApprovalRequested,
    ApprovalResolved,
    OutputDelta,
    OutputReset,
    Record,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunTimedOut,
    Status,
    decode,
)
from ..runs import ends
from .problems import Problem
from .sse import PING, one_line

Part = Mapping[str, Any]

KINDS = frozenset(cls.kind for cls in (OutputDelta, OutputReset, Status, ApprovalRequested, ApprovalResolved))


class Vocabulary(Protocol):
    """The words of one protocol. It may remember what it has opened, to close it.

    Attributes:
        headers: of the response.
        closing: what is sent when all has been told.
    """

    headers: Mapping[str, str]
    closing: bytes

    def begin(self) -> Iterable[Part]:
        """Begin the message."""

    def say(self, text: str) -> Iterable[Part]:
        """Add text, at least one character."""

    def take_back(self) -> Iterable[Part]:
        """Take back all that was said and asked; what counts of it follows."""

    def note(self, status: Status) -> Iterable[Part]:
        """Tell what the run is doing."""

    def ask(self, approval: ApprovalView) -> Iterable[Part]:
        """Tell what somebody has to decide, or has decided."""

    def end(self, how: Record) -> Iterable[Part]:
        """End the message: completed, failed, canceled or timed out."""

    def interrupt(self, detail: str) -> Iterable[Part]:
        """Tell that the stream ends and the run does not."""


class Message:
    """The `sse.Format` of a vocabulary.

    Args:
        run: as it stands when the stream begins.
        vocabulary: the words; one belongs to one stream.
    """

    ping = PING

    def __init__(self, run: Run, vocabulary: Vocabulary) -> None:
        self.run_id = run.run_id
        self.headers = vocabulary.headers
        self._known = run.seq
        self._words = vocabulary
        self._output = Output()
        self._status: Status | None = None
        self._approvals: dict[str, ApprovalView] = {}

    def begin(self) -> bytes:
        """Begin the message."""
        return frame(self._words.begin())

    def tell(self, batch: Sequence[Stored]) -> Iterator[bytes]:
        """Fold what was known, and tell what is new."""
        for stored in batch:
            if stored.kind in KINDS:
                parts = self._apply(stored)
                if stored.seq > self._known:
                    yield frame(parts)
            if stored.seq == self._known:
                yield frame(self._all())
                if self._status is not None and not ends(stored):
                    yield frame(self._words.note(self._status))
            if ends(stored):
                yield frame(self._words.end(decode(stored).record)) + self._words.closing

    def interrupt(self, *, draining: bool, problem: Problem | None) -> bytes:
        """Tell that the stream ends and the run does not: whoever comes back is told the message as it is then."""
        reason = "the server is shutting down" if draining else "the store cannot be read"
        if problem is not None:
            reason = "the store has lost some of it"
        return frame(self._words.interrupt(f"{reason}: the run goes on, connect again"))

    def _apply(self, stored: Stored) -> Iterable[Part]:
        """Fold a record in; the words are found only when they are asked for."""
        event = decode(stored)
        match event.record:
            case OutputDelta() as delta:
                self._output.apply(event)
                return self._words.say(delta.text) if delta.text else ()
            case OutputReset():
                before = self._output.text
                self._output.apply(event)
                return chain(self._words.take_back(), self._all()) if self._output.text != before else ()
            case Status() as status:
                self._status = status
                return self._words.note(status)
            case ApprovalRequested() as asked:
                view = ApprovalView(approval=asked.approval, name=asked.name, question=asked.question, data=asked.data)
                return self._asked(view)
            case ApprovalResolved() as resolved:
                known = self._approvals.get(resolved.approval)
                if known is not None and known.decision is None:
                    return self._asked(msgspec.structs.replace(known, decision=resolved.decision, by=resolved.by))
        return ()

    def _asked(self, view: ApprovalView) -> Iterable[Part]:
        self._approvals[view.approval] = view
        return self._words.ask(view)

    def _all(self) -> Iterable[Part]:
        if text := self._output.text:
            yield from self._words.say(text)
        for view in self._approvals.values():
            yield from self._words.ask(view)


def frame(parts: Iterable[Part]) -> bytes:
    """Make a data frame of each part."""
    return b"".join(b"data: %b\n\n" % one_line(msgspec.json.encode(part)) for part in parts)


def reason_of(how: Record) -> str | None:
    """Say why a run ended without a result; None if it has one."""
    match how:
        case RunFailed():
            return f"{how.error.type}: {how.error.message}"
        case RunCanceled():
            return how.reason or "canceled"
        case RunTimedOut():
            return f"the run took longer than {how.timeout_s:g} s"
        case RunCompleted():
            return None
    return "the run ended in a way that this version does not know"
