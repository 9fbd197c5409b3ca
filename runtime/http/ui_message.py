"""The UI message stream of the AI SDK, version 1: what `useChat` and `readUIMessageStream` of the `ai` package read.

The message's id is the run's. Text is one part until something is asked; everything stands in one step, so that
`reset-step` (`ai` 7.0.70 and later) takes all of it back, and what counts is told again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..inlets import ApprovalView
from ..records import Record, RunCanceled, Status
from .formats import Part, reason_of


class UiMessage:
    """The words of the AI SDK; see `formats.Vocabulary`."""

    headers: Mapping[str, str] = MappingProxyType({"cache-control": "no-cache", "x-vercel-ai-ui-message-stream": "v1"})
    closing = b"data: [DONE]\n\n"

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._texts = 0
        self._open = False

    def begin(self) -> Iterator[Part]:
        """Begin the message and its one step."""
        yield {"type": "start", "messageId": self._run_id, "messageMetadata": {"run_id": self._run_id}}
        yield {"type": "start-step"}

    def say(self, text: str) -> Iterator[Part]:
        """Add to the open text part, or open one."""
        if not self._open:
            self._open, self._texts = True, self._texts + 1
            yield {"type": "text-start", "id": self._text}
        yield {"type": "text-delta", "id": self._text, "delta": text}

    def take_back(self) -> Iterator[Part]:
        """Empty the step; an open text part is gone with it."""
        self._open = False
        yield {"type": "reset-step"}

    def note(self, status: Status) -> Iterator[Part]:
        """Tell it to `onData`; it does not become part of the message."""
        data = {"step": status.step, "message": status.message, "data": status.data}
        yield {"type": "data-status", "data": data, "transient": True}

    def ask(self, approval: ApprovalView) -> Iterator[Part]:
        """Add a data part, or change it: its id is the approval's."""
        yield from self._close()
        yield {"type": "data-approval", "id": approval.approval, "data": approval}

    def end(self, how: Record) -> Iterator[Part]:
        """Finish, abort or fail."""
        yield from self._close()
        yield {"type": "finish-step"}
        reason = reason_of(how)
        if isinstance(how, RunCanceled):
            yield {"type": "abort", "reason": reason}
        elif reason is not None:
            yield {"type": "error", "errorText": reason}
        else:
            yield {"type": "finish", "finishReason": "stop"}

    def interrupt(self, detail: str) -> Iterator[Part]:
        """Fail, or the client would take half a message for a whole one."""
        yield {"type": "error", "errorText": detail}

    def _close(self) -> Iterator[Part]:
        if self._open:
            self._open = False
            yield {"type": "text-end", "id": self._text}

    @property
    def _text(self) -> str:
        return f"text-{self._texts}"
