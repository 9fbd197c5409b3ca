"""The events of the AG-UI protocol, as its HTTP agents read them.

The run's output is one assistant message whose id is the run's; status and approvals are custom events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..inlets import ApprovalView
from ..records import Record, RunCanceled, RunCompleted, Status
from .formats import Part, reason_of


class AgUi:
    """The words of AG-UI; see `formats.Vocabulary`."""

    headers: Mapping[str, str] = MappingProxyType({})
    closing = b""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._open = False

    def begin(self) -> Iterator[Part]:
        """Begin the run: it is a thread of its own."""
        yield {"type": "RUN_STARTED", "threadId": self._run_id, "runId": self._run_id}

    def say(self, text: str) -> Iterator[Part]:
        """Add to the message, or open it."""
        if not self._open:
            self._open = True
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._run_id, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._run_id, "delta": text}

    def take_back(self) -> Iterator[Part]:
        """Close the message, and leave the thread without it."""
        yield from self._close()
        yield {"type": "MESSAGES_SNAPSHOT", "messages": []}

    def note(self, status: Status) -> Iterator[Part]:
        """Tell what the run is doing."""
        value = {"step": status.step, "message": status.message, "data": status.data}
        yield {"type": "CUSTOM", "name": "status", "value": value}

    def ask(self, approval: ApprovalView) -> Iterator[Part]:
        """Tell what has to be decided, or was."""
        yield {"type": "CUSTOM", "name": "approval", "value": approval}

    def end(self, how: Record) -> Iterator[Part]:
        """Finish with the result, or say why there is none."""
        yield from self._close()
        if isinstance(how, RunCompleted):
            yield {"type": "RUN_FINISHED", "threadId": self._run_id, "runId": self._run_id, "result": how.result}
        else:
            code = "canceled" if isinstance(how, RunCanceled) else "failed"
            yield {"type": "RUN_ERROR", "message": reason_of(how), "code": code}

    def interrupt(self, detail: str) -> Iterator[Part]:
        """End with an error: no other event says that there is more to come."""
        yield {"type": "RUN_ERROR", "message": detail, "code": "interrupted"}

    def _close(self) -> Iterator[Part]:
        if self._open:
            self._open = False
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._run_id}
