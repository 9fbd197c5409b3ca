"""What a record is on the wire: its stored JSON, spliced into one line of an envelope, and that into a frame.

Why: bodies are stored as JSON, so nothing is decoded to be streamed; and a frame is made once, for all who read it.
"""

from __future__ import annotations

import functools

import msgspec

from ...transports import Stored
from ..cursor import Cursor, cursor_at


class Envelope:
    """What every event of a run is wrapped in: `{v, run_id, trace_id, seq, ts, type, data}`.

    Args:
        run_id: whose events.
        trace_id: of the run.
        marked: whether an event's id says which record this is, beside its seq.
    """

    def __init__(self, run_id: str, trace_id: str, *, marked: bool = False) -> None:
        self.run_id = run_id
        self.marked = marked
        self._head = b'{"v":1,"run_id":%b,"trace_id":%b,"seq":' % (
            msgspec.json.encode(run_id),
            msgspec.json.encode(trace_id),
        )

    def wrap(self, stored: Stored) -> bytes:
        """Make the event as one line of JSON; `ts` is seconds since the epoch."""
        return b'%b%d,"ts":%b,"type":%b,"data":%b}' % (
            self._head,
            stored.seq,
            repr(stored.ts).encode(),
            _quoted(stored.kind),
            one_line(stored.body),
        )


class Framed:
    """A record on its way to its readers. What they want of it is made for the first one, and given to all."""

    __slots__ = ("_cursor", "_envelope", "_frame", "stored")

    def __init__(self, stored: Stored, envelope: Envelope) -> None:
        self.stored = stored
        self._envelope = envelope
        self._cursor: Cursor | None = None
        self._frame: bytes | None = None

    @property
    def cursor(self) -> Cursor:
        """The cursor of a reader that has the record."""
        if self._cursor is None:
            self._cursor = cursor_at(self.stored, marked=self._envelope.marked)
        return self._cursor

    @property
    def frame(self) -> bytes:
        """The record as an SSE frame, whose id is the cursor."""
        if self._frame is None:
            stored = self.stored
            parts = (str(self.cursor).encode(), _name(stored.kind), self._envelope.wrap(stored))
            self._frame = b"id: %b\nevent: %b\ndata: %b\n\n" % parts
        return self._frame


@functools.lru_cache(maxsize=256)
def _quoted(kind: str) -> bytes:
    return msgspec.json.encode(kind)


@functools.lru_cache(maxsize=256)
def _name(kind: str) -> bytes:
    return "".join(c for c in kind if c.isprintable()).encode()


def one_line(body: bytes) -> bytes:
    """JSON without line breaks: in valid JSON a raw one is white space between tokens."""
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\n", b" ").replace(b"\r", b" ")
    return body
