"""A run's log as all who follow it here have it: read from the store once, framed once, kept while it is new.

Why: ten thousand readers of a run must not read the store ten thousand times. So a run that is followed has a channel:
one reading of the log, begun a page before where it stood, and a window with its newest records. A reader is a cursor,
a seq and nothing else, and `read` gives it what follows:

    cursor before the window    history: a page from the store, for this reader alone, at its own pace
    cursor in the window        what is in the window from there on, shared
    cursor at the window's end  nothing: it waits for news, and whoever waits makes the channel read on

So history and live are one thing to a reader, and a slow one is merely one whose cursor has fallen out of the window.

The reading goes on in the group of a reader that waits; when that one leaves, it goes on in another's. Nothing is read
that nobody waits for.

Where a store can lose the end of a log (`cursor.py`), a reader is given what is in the window only behind the very
record that it has, and a channel whose last record the store has no more is left to those who are in it.

Laws kept here: 2 (the window is a run of dense seqs; a reader goes on from its cursor whatever the window did), 7 (no
reading without a reader), 11 (the window is bounded; a reader's pace is its own).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol, cast

import msgspec

from ...transports import Run, Stored
from ..cursor import Cursor
from ..errors import CursorAhead
from ..runs import Runs
from .connection import Connection, in_turns
from .envelope import Envelope, Framed

PAGE = 250
"""Records read from the store at once."""

WINDOW_BYTES = 256 * 1024
"""What the window of a run holds beside its newest page, bytes."""

SHARE_BYTES = 32 * 1024
"""What it holds at most for each of its readers, so that many runs with one reader each stay small."""

RECORD_BYTES = 300
"""What a record costs in memory beside its body and its frame, bytes."""


class Waiter(Protocol):
    """A reader that waits for news."""

    @property
    def connection(self) -> Connection:
        """Whose it is; it naps."""

    def take(self) -> bool:
        """Take what is new without a wait, to the end of the window; False: it has to be woken for that."""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an API has open for those who follow: runs and their readers, and what their windows hold."""

    runs: int
    readers: int
    records: int
    bytes: int


class Channel:
    """One run's log, for those who follow it here.

    Args:
        runs: where the log is.
        envelope: of this run.

    Attributes:
        over: the log has been read to its end.
        bytes: what the window holds.
    """

    def __init__(self, runs: Runs, envelope: Envelope) -> None:
        self.run_id = envelope.run_id
        self.over = False
        self._runs = runs
        self._envelope = envelope
        self._readers: dict[Connection, None] = {}
        self._waiting: dict[Waiter, None] = {}
        self._wanted = asyncio.Event()
        self._host: Connection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._window: list[Framed] = []
        self.bytes = 0
        self._base = self._head = Cursor()

    @property
    def readers(self) -> int:
        """How many follow."""
        return len(self._readers)

    @property
    def records(self) -> int:
        """How many records the window holds."""
        return len(self._window)

    @property
    def broken(self) -> bool:
        """Whether the store could not be read on: those who come now try it anew."""
        return self._failure is not None

    async def read(self, cursor: Cursor) -> Sequence[Framed]:
        """Give what follows a cursor, some of it or all; nothing when that has to be waited for, or the run is over.

        Raises:
            TransportError: the store cannot be read.
            CursorAhead, LogCutBack: the store has lost records that were read.
        """
        new = self.new(cursor)
        if new is not None:
            return new
        ahead = self._head.seq != cursor.seq
        page = await self._runs.behind(self.run_id, cursor, PAGE)
        if ahead and not page:
            raise CursorAhead(self.run_id, self._head.seq, cursor.seq)
        return self._framed(page)

    def new(self, cursor: Cursor) -> Sequence[Framed] | None:
        """Give what follows a cursor in the window; None if it is not there, and so has to be read from the store."""
        if self._failure is not None:
            raise self._failure
        behind = self._head.seq - cursor.seq
        if behind < 0 or (behind <= len(self._window) and self._has(cursor, behind)):
            return self._window[-behind:] if behind > 0 else ()
        return None

    def _has(self, cursor: Cursor, behind: int) -> bool:
        """Whether the record that a cursor stands behind is this window's, as far as that matters."""
        if not self._envelope.marked:
            return True
        return cursor == (self._window[-behind - 1].cursor if behind < len(self._window) else self._base)

    async def lost(self) -> bool:
        """Whether the store has no more what the window ends with."""
        if not (self._envelope.marked and self._window):
            return False
        head = self._head
        record = await self._runs.transport.read(self.run_id, head.seq - 1, 1)
        return not record or not head.behind(record[0])

    async def news(self, reader: Waiter) -> None:
        """Wait until there may be more than the reader takes meanwhile, or somebody nudges it."""
        self._wait(reader)
        try:
            await reader.connection.nap()
        finally:
            self._waiting.pop(reader, None)

    def _wait(self, reader: Waiter) -> None:
        self._waiting[reader] = None
        self._wanted.set()
        if self._reading is None:
            self._read_in(reader.connection)

    def join(self, reader: Connection, seq: int) -> None:
        """Count a reader in. `seq` is where the log stood when it came."""
        self._readers[reader] = None
        if seq - self._head.seq > PAGE and not self._waiting:  # it is old and nobody is at its end: begin anew
            self._window, self.bytes = [], 0
            self._base = self._head = Cursor(seq - PAGE)
            self._stop_reading()

    def leave(self, reader: Connection) -> bool:
        """Count a reader out; whether it was the last one."""
        del self._readers[reader]
        if self._host is reader:
            self._stop_reading()
            for other in self._waiting:
                self._read_in(other.connection)
                break
        return not self._readers

    def _read_in(self, host: Connection) -> None:
        self._host, self._reading = host, host.group.create_task(self._read())

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._host, self._reading = None, None

    async def _read(self) -> None:
        """Read on from the window's end for as long as somebody waits there."""
        try:
            tail = cast("AsyncGenerator[Sequence[Stored]]", self._runs.tail(self.run_id, self._head, page=PAGE))
            async with aclosing(tail) as pages:
                async for page in pages:
                    self._add(page)
                    await self._wanted.wait()
            self.over = True
        except Exception as error:  # told to every reader, by `read`
            self._failure = error
        self._rouse()

    def _add(self, page: Sequence[Stored]) -> None:
        room = min(WINDOW_BYTES, SHARE_BYTES * len(self._readers))
        old = 0
        while self.bytes > room:
            self.bytes -= _size(self._window[old].stored)
            old += 1
        if old:
            self._base = self._window[old - 1].cursor
        del self._window[:old]
        self._window += self._framed(page)
        self.bytes += sum(map(_size, page))
        self._head = self._window[-1].cursor
        self._rouse()

    def _rouse(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._wanted.clear()
        in_turns(self._tell, waiting)

    def _tell(self, reader: Waiter) -> None:
        if not reader.connection.napping:
            return
        try:
            taken = self._failure is None and reader.take()
        except Exception:  # a reader's own affair: awake, it meets the same, and says so
            taken = False
        if taken:
            self._wait(reader)
        else:
            reader.connection.nudge()

    def _framed(self, page: Sequence[Stored]) -> list[Framed]:
        return [Framed(stored, self._envelope) for stored in page]


class Channels:
    """The channels of one API: one for each run that is followed here."""

    def __init__(self) -> None:
        self._open: dict[str, Channel] = {}

    def statistics(self) -> Statistics:
        """Return what is followed and held now."""
        channels = self._open.values()
        return Statistics(
            runs=len(channels),
            readers=sum(channel.readers for channel in channels),
            records=sum(channel.records for channel in channels),
            bytes=sum(channel.bytes for channel in channels),
        )

    @asynccontextmanager
    async def tuned(self, runs: Runs, run: Run, reader: Connection) -> AsyncIterator[Channel]:
        """Follow a run for the life of the block.

        Args:
            runs: where its log is.
            run: as it stood a moment ago.
            reader: who follows; the block is in its group.

        Raises:
            TransportError: the store cannot be read.
        """
        channel = self._open.get(run.run_id)
        if channel is None or channel.broken or await channel.lost():
            envelope, left = await envelope_of(runs, run), channel
            channel = self._open.get(run.run_id)
            if channel is None or channel is left:
                channel = self._open[run.run_id] = Channel(runs, envelope)
        channel.join(reader, run.seq)
        try:
            yield channel
        finally:
            if channel.leave(reader) and self._open.get(run.run_id) is channel:
                del self._open[run.run_id]


def _size(stored: Stored) -> int:
    return 2 * len(stored.body) + RECORD_BYTES


async def envelope_of(runs: Runs, run: Run) -> Envelope:
    """Make the envelope of a run's events.

    Raises:
        TransportError: the store cannot be read, or has no such run.
    """
    return Envelope(run.run_id, (await runs.queued(run)).trace_id, marked=runs.transport.forgets)
