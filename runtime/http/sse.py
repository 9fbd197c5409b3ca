"""Server-sent events: a run's log on the wire, history and live through one cursor.

Why: a reader must be able to leave anywhere and come back without a gap or a duplicate. An event's id is its
record's seq, and its mark where a store needs one (`cursor.py`); the reader's cursor is the last id it has seen, and
there is no other state. Where records come from is the channel's affair (`channel.py`). What is new is told at once
where that can be (`connection.py`); all else is up to the stream's task: history, silence, a client that does not take
it, the end.

Laws kept here: 2 (dense ids, terminal record last), 7 (a stream ends with its client, its run or its server),
11 (nothing is kept for a client but its cursor; one that takes nothing for `STALL_S` is cut, and can resume).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...transports import Run, TransportError
from ..cursor import Cursor
from ..errors import CursorAhead, LogCutBack
from ..runs import Runs, ends
from .channel import Channel
from .connection import Connection
from .envelope import Framed
from .negotiation import EVENT_STREAM
from .problems import LASTING, SECURITY, Problem, plain, problem_of
from .streams import Streams

log = structlog.get_logger("greenroom.http")

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


def joined(frames: Iterable[bytes], size: int = CHUNK_BYTES) -> Iterable[bytes]:
    """Join frames to chunks of about `size` bytes; one by itself, as live ones come, is one already."""
    return frames if isinstance(frames, list) and len(frames) == 1 else _joined(frames, size)


def _joined(frames: Iterable[bytes], size: int) -> Iterator[bytes]:
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

    def tell(self, batch: Sequence[Framed]) -> Iterable[bytes]:
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
        run_id: whose log.
        kinds: only records of these kinds, and the terminal one; None for all.
    """

    headers: Mapping[str, str] = MappingProxyType({})
    ping = PING

    def __init__(self, run_id: str, kinds: Collection[str] | None = None) -> None:
        self.run_id = run_id
        self._kinds = kinds

    def begin(self) -> bytes:
        """Say when to come back."""
        return b"retry: 2000\n\n"

    def tell(self, batch: Sequence[Framed]) -> Iterable[bytes]:
        """Give the frame of each record that is wanted."""
        kinds = self._kinds
        if kinds is None:
            return [record.frame for record in batch]
        return [record.frame for record in batch if record.stored.kind in kinds or ends(record.stored)]

    def interrupt(self, *, draining: bool, problem: Problem | None) -> bytes:
        """Tell the client to come back at once, or why not; a lost store it is told by a problem when it does."""
        if problem is not None:
            return b"event: problem\ndata: %b\n\n" % msgspec.json.encode(problem)
        return _SHUTDOWN if draining else b""


class Listener:
    """Where a stream is, and how it is told what is new while its task naps.

    Args:
        connection: whose it is.
        channel: of its run.
        format: how the log is told.
        cursor: what the client has.
    """

    __slots__ = ("_channel", "_format", "_rest", "connection", "cursor")

    def __init__(
        self,
        connection: Connection,
        channel: Channel,
        format: Format,  # noqa: A002 - the word of the API
        cursor: Cursor,
    ) -> None:
        self.connection = connection
        self.cursor = cursor
        self._channel = channel
        self._format = format
        self._rest: Sequence[bytes] = ()

    def told(self, batch: Sequence[Framed]) -> Iterable[bytes]:
        """Tell some records, in chunks."""
        self.cursor = batch[-1].cursor
        return joined(self._format.tell(batch))

    def take(self) -> bool:
        """Tell what is new, to the end of the window. False: the stream's task has to, beginning with `rest`."""
        batch = self._channel.new(self.cursor) if self.connection.quick else None
        if not batch or ends(batch[-1].stored):
            return False
        chunks = list(joined(self._format.tell(batch)))
        self.cursor = batch[-1].cursor
        if chunks and (len(chunks) > 1 or not self.connection.say_at_once(chunks[0])):
            self._rest = chunks
            return False
        return True

    def rest(self) -> Sequence[bytes]:
        """What was told and has yet to be sent."""
        rest, self._rest = self._rest, ()
        return rest


class EventStream(Response):
    """The response that follows a run's log from a cursor to its end.

    Args:
        runs: where the log is.
        run: as it stood a moment ago.
        format: how its log is told.
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
        run: Run,
        format: Format,  # noqa: A002 - the word of the API
        *,
        after: Cursor,
        streams: Streams,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**_HEADERS, **format.headers, **(headers or {})})
        del self.headers["content-length"]
        self._runs = runs
        self._run = run
        self._format = format
        self._after = after
        self._streams = streams
        self._problem: Problem | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave itself for the shield to begin."""
        scope[LASTING] = self._stream

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the run ends, the client leaves or the server drains.

        Raises:
            Refusal: draining or full, or the client has its share; nothing was sent.
        """
        told = scope["method"] == "HEAD"
        async with self._streams.open(Request(scope, receive)) as connection:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not told:
                told = await self._follow(connection, send)
        if connection.stalled:
            log.warning("stream_stalled", run_id=self._run.run_id)
        if connection.gone:
            return
        draining = self._streams.draining
        last = b"" if told else self._format.interrupt(draining=draining, problem=self._problem)
        if connection.say_at_once(last, more=False):
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _follow(self, connection: Connection, send: Send) -> bool:
        """Tell the log; whether it was told to its end."""
        run_id = self._run.run_id
        try:
            await connection.say(send, self._format.begin())
            async with self._streams.channels.tuned(self._runs, self._run, connection) as channel:
                reader = Listener(connection, channel, self._format, self._after)
                while not self._streams.draining:
                    batch = channel.new(reader.cursor)
                    if batch is None:
                        batch = await channel.read(reader.cursor)
                    if batch:
                        for chunk in reader.told(batch):
                            await connection.say(send, chunk)
                        if ends(batch[-1].stored):
                            return True
                    elif channel.over:
                        return True
                    elif connection.silent:
                        await connection.say(send, self._format.ping)
                    else:
                        await channel.news(reader)
                        for chunk in reader.rest():
                            await connection.say(send, chunk)
        except OSError:
            pass  # the client has left, as some servers say it
        except (CursorAhead, LogCutBack) as error:
            self._problem = problem_of(error)
            log.warning("stream_interrupted", run_id=run_id, reason=str(error))
        except TransportError as error:
            log.warning("stream_interrupted", run_id=run_id, reason=str(error))
        except Exception as error:
            log.error("stream_failed", run_id=run_id, traceback=plain(error))
        return False
