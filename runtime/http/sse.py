"""Server-sent events: a run's log on the wire, history and live through one cursor.

Why: a reader must be able to leave anywhere and come back without a gap or a duplicate. An event's id is its
record's seq, and its mark where a store needs one (`cursor.py`); the reader's cursor is the last id it has seen, and
there is no other state. Bodies are stored as JSON, so an event is bytes spliced around them: nothing is decoded to be
streamed.

Laws kept here: 2 (dense ids, terminal record last), 7 (a stream ends with its client, its run or its server),
11 (one page is buffered; a client that takes nothing for `STALL_S` is cut, and can resume).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Protocol, cast

import anyio
import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...transports import Stored, TransportError
from ..cursor import Cursor, cursor_at
from ..errors import CursorAhead, LogCutBack
from ..runs import Runs, ends
from .negotiation import EVENT_STREAM
from .problems import SECURITY, Problem, plain, problem_of
from .streams import Streams

log = structlog.get_logger("greenroom.http")

PING_S = 15.0
"""Silence after which a comment is sent, so that proxies keep the connection, seconds."""

STALL_S = 60.0
"""How long a comment may wait for a client that does not read, seconds."""

PAGE = 200
"""Records read at once for a stream."""

CHUNK_BYTES = 64 * 1024
"""Frames are joined up to this size before they are sent."""

GOODBYE_S = 0.5
"""How long the last words to a client may take, seconds."""

PING = b": ping\n\n"
_SHUTDOWN = b'event: server-shutdown\ndata: {"v":1,"detail":"the server is shutting down: connect again"}\n\n'
_HEADERS = {
    "content-type": EVENT_STREAM,
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    **SECURITY,
}


class Envelope:
    """What every event of a run is wrapped in: `{v, run_id, trace_id, seq, ts, type, data}`.

    Args:
        run_id: whose events.
        trace_id: of the run.
        marked: whether an event's id says which record this is, beside its seq.
    """

    def __init__(self, run_id: str, trace_id: str, *, marked: bool = False) -> None:
        self.run_id = run_id
        self._marked = marked
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

    def frame(self, stored: Stored) -> bytes:
        """Make the event as an SSE frame."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (self.id(stored), _name(stored.kind), self.wrap(stored))

    def id(self, stored: Stored) -> bytes:
        """Return the cursor of a reader that has this event."""
        return str(cursor_at(stored, marked=True)).encode() if self._marked else b"%d" % stored.seq


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


def joined(frames: Iterable[bytes], size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Join frames to chunks of about `size` bytes."""
    chunk: list[bytes] = []
    length = 0
    for frame in frames:
        chunk.append(frame)
        length += len(frame)
        if length >= size:
            yield b"".join(chunk)
            chunk, length = [], 0
    if chunk:
        yield b"".join(chunk)


class Format(Protocol):
    """How a log is told on the wire. One belongs to one stream.

    Attributes:
        run_id: whose log.
        headers: more response headers.
        ping: what is sent in silence, and means nothing.
    """

    run_id: str
    headers: Mapping[str, str]
    ping: bytes

    def begin(self) -> bytes:
        """Give what is sent first."""

    def tell(self, batch: Sequence[Stored]) -> Iterable[bytes]:
        """Tell some records, in frames; the run's last one is told with the words that end the stream."""

    def interrupt(self, *, draining: bool, problem: Problem | None) -> bytes:
        """Give the last words of a stream that ends before the run.

        Args:
            draining: the server is shutting down.
            problem: why it cannot be gone on with; None if it can, as soon as the client comes back.
        """


class Native:
    """The log as it is: an event for each record, whose id is the cursor.

    Args:
        envelope: of this run.
        kinds: only records of these kinds, and the terminal one; None for all.
    """

    headers: Mapping[str, str] = MappingProxyType({})
    ping = PING

    def __init__(self, envelope: Envelope, kinds: Collection[str] | None = None) -> None:
        self.run_id = envelope.run_id
        self._envelope = envelope
        self._kinds = kinds

    def begin(self) -> bytes:
        """Say when to come back."""
        return b"retry: 2000\n\n"

    def tell(self, batch: Sequence[Stored]) -> Iterable[bytes]:
        """Make a frame of each record that is wanted."""
        for stored in batch:
            if self._kinds is None or stored.kind in self._kinds or ends(stored):
                yield self._envelope.frame(stored)

    def interrupt(self, *, draining: bool, problem: Problem | None) -> bytes:
        """Tell the client to come back at once, or why not; a lost store it is told by a problem when it does."""
        if problem is not None:
            return b"event: problem\ndata: %b\n\n" % msgspec.json.encode(problem)
        return _SHUTDOWN if draining else b""


class EventStream(Response):
    """The response that follows a run's log from a cursor to its end.

    Args:
        runs: where the log is.
        format: how it is told.
        after: what the reader has.
        streams: where it is counted and drained.
        headers: more response headers.

    It answers before the first record is read, so the caller has checked that the run exists and that the
    cursor is not ahead of it. Once it has begun it never raises: a log that cannot be read on ends the stream
    without a terminal event, and the client comes back with its cursor to be told why.
    """

    def __init__(
        self,
        runs: Runs,
        format: Format,  # noqa: A002 - the word of the API
        *,
        after: Cursor,
        streams: Streams,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**_HEADERS, **format.headers, **(headers or {})})
        del self.headers["content-length"]
        self._runs = runs
        self._format = format
        self._after = after
        self._streams = streams
        self._sent = 0.0
        self._problem: Problem | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the run ends, the client leaves or the server drains.

        Raises:
            Refusal: draining or full; nothing was sent.
        """
        self._streams.require_room()
        told = False
        async with self._streams.open(receive) as connection:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                connection.group.start_soon(self._keep_alive, send, connection.group.cancel_scope)
                told = await self._follow(send)
            else:
                told = True
        if connection.gone:
            return
        with anyio.move_on_after(GOODBYE_S), contextlib.suppress(OSError):
            draining = self._streams.draining
            last = b"" if told else self._format.interrupt(draining=draining, problem=self._problem)
            await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _follow(self, send: Send) -> bool:
        """Tell the log; whether it was told to its end."""
        try:
            await self._send(send, self._format.begin())
            tail = self._runs.tail(self._format.run_id, self._after, page=PAGE)
            async with aclosing(cast("AsyncGenerator[Sequence[Stored]]", tail)) as batches:
                async for batch in batches:
                    for chunk in joined(self._format.tell(batch)):
                        await self._send(send, chunk)
            return True
        except OSError:
            pass  # the client has left, as some servers say it
        except (CursorAhead, LogCutBack) as error:
            self._problem = problem_of(error)
            log.warning("stream_interrupted", run_id=self._format.run_id, reason=str(error))
        except TransportError as error:
            log.warning("stream_interrupted", run_id=self._format.run_id, reason=str(error))
        except Exception as error:
            log.error("stream_failed", run_id=self._format.run_id, traceback=plain(error))
        return False

    async def _send(self, send: Send, chunk: bytes) -> None:
        self._sent = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _keep_alive(self, send: Send, scope: anyio.CancelScope) -> None:
        """Send a comment after each silence; cut the client when not even that can be written."""
        loop = asyncio.get_running_loop()
        while True:
            silence = loop.time() - self._sent
            if silence < PING_S:
                await anyio.sleep(PING_S - silence)
                continue
            with anyio.move_on_after(STALL_S) as patience:
                await self._send(send, self._format.ping)
            if patience.cancelled_caught:
                log.warning("stream_stalled", run_id=self._format.run_id)
                scope.cancel()
                return
