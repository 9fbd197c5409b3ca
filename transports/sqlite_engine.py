"""The SQLite engine: one file, a connection that writes and one that reads, a thread for each, and group commit.

A third connection is for the event loop's own thread: a look at one row takes it less time than asking a thread.

Why: an fsync for every append would be the price of durability. The writing thread takes whatever operations are
waiting, does them in one transaction, commits, and only then answers them all; while it commits the next ones gather.
It also looks for what other processes have appended, so that their hints reach this one.

Laws kept here:
7. Both threads end with the engine, after what was waiting has been done.
9. An operation happens whole or not at all, whatever becomes of its caller. One that is refused, or breaks, leaves its
   neighbours alone.

Only one connection of a process writes, and so checkpoints. The file is opened by SQLite alone: opening it ourselves
would drop its locks.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import msgspec

from .contract import READY, control_topic, end_topic, log_topic
from .errors import StoreUnavailable, TransportError
from .hints import Board
from .sqlite_schema import BUSY_S, WAL_RESET_BUG, connect, prepare, unavailable

T = TypeVar("T")
R = TypeVar("R")
Work: TypeAlias = Callable[[sqlite3.Connection], R]

POLL_S = 0.02
"""How often other processes' writes are looked for while somebody watches, seconds."""

KEEN_S = 0.002
"""How often they are looked for while they come, seconds."""

FADE_S = 1.0
"""For how long after one more of them are expected, seconds."""

ASK_S = 0.0002
"""How often the right to write is asked for while another process has it, seconds.

SQLite asks ever more rarely, up to every 0.1 s, and may not get it for seconds from one that has always more to write.
"""

ROOM_S = 0.0005
"""For how long a process begins nothing after a commit while others write too, seconds: so that they get their turn.

It costs no throughput, because more operations share the next commit.
"""

BATCH = 1000
"""Operations in one transaction at most, so that other processes get their turn."""

READS = 20
"""Reads that are answered together at most, so that the first need not wait long."""

STATE = "SELECT data_version, (SELECT coalesce(max(number), 0) FROM records) FROM pragma_data_version"
"""A number that changes when another connection commits, and the last record's."""

log = logging.getLogger("greenroom.sqlite")


class Operation(NamedTuple):
    """An operation that waits for its thread.

    With an item it is done together with its neighbours of the same work, which is given all of their items; `alone`,
    if nothing else waits, by one statement without a transaction around it.
    """

    work: Callable[..., Any]
    future: asyncio.Future[Any]
    item: Any = None
    alone: bool = False


class Answer(NamedTuple):
    """What became of an operation."""

    future: asyncio.Future[Any]
    value: Any
    error: Exception | None


class Word(enum.Enum):
    """What a thread is told other than an operation."""

    LOOK = "look for other processes' writes"
    END = "end: nothing follows"


class Line:
    """What waits for a thread. What the loop adds in one turn reaches the thread together, and wakes it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._added: list[Operation | Word] = []
        self._handed: queue.SimpleQueue[list[Operation | Word]] = queue.SimpleQueue()
        self._left: list[Operation | Word] = []

    def add(self, item: Operation | Word) -> None:
        """On the loop: put something at the end of the line."""
        if not self._added:
            self._loop.call_soon(self._hand_over)
        self._added.append(item)

    def _hand_over(self) -> None:
        added, self._added = self._added, []
        self._handed.put(added)

    def take(self, limit: int, timeout: float | None = None) -> list[Operation | Word]:
        """On the thread: take what waits, once there is something; nothing after so many seconds."""
        taken = self._left
        with suppress(queue.Empty):
            if not taken:
                taken = self._handed.get(timeout=timeout)
            while len(taken) < limit:
                taken += self._handed.get_nowait()
        self._left = taken[limit:]
        return taken[:limit]


class Statistics(msgspec.Struct, frozen=True):
    """What the engine has done since it was opened."""

    operations: int
    commits: int
    reads: int


class Engine:
    """The threads and connections of one file; to be opened and closed on one event loop.

    Args:
        path: the database; made if it is not there.
        board: who is hinted of what is written.
        words: what the writing connection is to know besides the schema.

    Raises:
        StoreUnavailable: the file cannot be opened; says why and what to do.
    """

    def __init__(self, path: Path, board: Board, words: str = "") -> None:
        self._path = path
        self._board = board
        self._loop = asyncio.get_running_loop()
        self._version, self._last, self._looked, self._heard = 0, 0, 0.0, 0.0
        self._writer = connect(path)
        try:
            prepare(self._writer, path)
            self._version, self._last = self._writer.execute(STATE).fetchone()
            self._writer.executescript(f"PRAGMA busy_timeout = 0;{words}")
            self._reader, self._glancer = connect(path, read_only=True), connect(path, read_only=True, busy_s=0.0)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, sqlite3.Error):
                raise unavailable(path, error) from None
            raise
        self._writes = Line(self._loop)
        self._reads = Line(self._loop)
        self._touched: list[str] = []
        self._operations = self._commits = self._read = 0
        self._warned = False
        self._open = True
        self._ended = [asyncio.Event(), asyncio.Event()]
        self._threads = [
            threading.Thread(target=self._write_loop, name=f"greenroom writer {path.name}"),
            threading.Thread(target=self._read_loop, name=f"greenroom reader {path.name}"),
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, work: Work[R]) -> R:
        """Do this in the next transaction; return when that is committed.

        Raises:
            StoreUnavailable: it could not be committed.
            TransportError: what `work` refused with, before it wrote anything.
        """
        done: R = await self._ask(self._writes, work)
        return done

    async def write_each(
        self, work: Callable[[sqlite3.Connection, list[T]], list[R | TransportError]], item: T, *, alone: bool = False
    ) -> R:
        """Do this for the item in the next transaction, at once for all that wait; return when that is committed.

        Args:
            work: is given all items. Returns for each what comes of it, or why it is refused.
            item: what it is done for.
            alone: whether the work may be tried without a transaction, where nothing else waits. It is then one
                statement, or raises, has written nothing, and is done again in a transaction.

        Raises:
            StoreUnavailable: it could not be committed.
            TransportError: what the work returned for this item.
        """
        done: R = await self._ask(self._writes, work, item, alone)
        return done

    async def read(self, work: Work[R]) -> R:
        """Do this on the reading connection."""
        found: R = await self._ask(self._reads, work)
        return found

    def glance(self, sql: str, values: Sequence[Any]) -> Any:
        """Return the one row, as of now, on the loop's thread; None when there is none, or it cannot be read at once.

        For what an index finds. Readers of a write-ahead log wait for nobody.
        """
        try:
            return self._glancer.execute(sql, values).fetchone()
        except sqlite3.Error:
            return None

    def touch(self, *topics: str) -> None:
        """From within a write: hint these once it is committed."""
        self._touched += topics

    def look(self) -> None:
        """Begin to look for other processes' writes, if somebody watches now."""
        self._writes.add(Word.LOOK)

    def statistics(self) -> Statistics:
        """Return what has been done so far."""
        return Statistics(self._operations, self._commits, self._read)

    async def close(self) -> None:
        """Do what is waiting, then end the threads and close the file.

        The writing connection is closed last, and alone: the last one writes the log back into the file, but two that
        close at once take each other for one that stays.
        """
        self._open = False
        self._glancer.close()
        try:
            with anyio.CancelScope(shield=True):
                for line, ended in zip((self._reads, self._writes), self._ended, strict=True):
                    line.add(Word.END)
                    await ended.wait()
        finally:
            for thread in self._threads:
                thread.join()

    async def _ask(self, line: Line, work: Callable[..., Any], item: Any = None, alone: bool = False) -> Any:
        if not self._open:
            raise StoreUnavailable(f"{self._path} was closed by this process: use a store only within its 'async with'")
        future: asyncio.Future[Any] = self._loop.create_future()
        line.add(Operation(work, future, item, alone))
        return await future

    # The reading thread

    def _read_loop(self) -> None:
        over = False
        while not over:
            batch = self._reads.take(READS)
            over = Word.END in batch
            answers = [self._look_up(item) for item in batch if isinstance(item, Operation)]
            self._loop.call_soon_threadsafe(self._answer, answers)
        self._reader.close()
        self._loop.call_soon_threadsafe(self._ended[0].set)

    def _look_up(self, operation: Operation) -> Answer:
        self._read += 1
        try:
            return Answer(operation.future, operation.work(self._reader), None)
        except Exception as error:  # the caller's, whatever it is: the thread must outlive it
            return Answer(operation.future, None, self._failure(error))

    # The writing thread

    def _write_loop(self) -> None:
        over = False
        while not over:
            batch = self._writes.take(BATCH, self._pause() if self._board.watched else None)
            over = Word.END in batch
            if operations := [item for item in batch if isinstance(item, Operation)]:
                if not self._tried(operations):
                    self._commit(operations)
                if self._in_company():
                    time.sleep(ROOM_S)
            if not operations or time.monotonic() - self._looked > self._pause():
                with suppress(sqlite3.Error):
                    self._look()
        self._writer.close()
        self._loop.call_soon_threadsafe(self._ended[1].set)

    def _tried(self, operations: Sequence[Operation]) -> bool:
        """Do these by one statement, if that is all they are; False if nothing of it was done."""
        first = operations[0]
        if not first.alone or any(operation.work != first.work for operation in operations):
            return False
        self._touched = []
        try:
            answers = list(self._attempt(first.work, operations))
        except Exception:  # whatever it is, it comes again in a transaction, where it is told to whom it concerns
            return False
        self._committed(answers)
        return True

    def _commit(self, operations: Sequence[Operation]) -> None:
        """Do these in one transaction; if one of them breaks, each in its own, so that it alone hears of it."""
        self._touched = []
        try:
            self._begin()
        except sqlite3.Error as error:
            self._fail(operations, error)
            return
        try:
            self._look()
            answers: list[Answer] = []
            for work, alike in itertools.groupby(operations, attrgetter("work")):
                answers += self._attempt(work, list(alike))
            self._writer.execute("COMMIT")
        except Exception as error:  # as above
            with suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            if len(operations) == 1:
                self._fail(operations, error)
                return
            for operation in operations:
                self._commit([operation])
            return
        self._committed(answers)

    def _committed(self, answers: Sequence[Answer]) -> None:
        self._operations += len(answers)
        self._commits += 1
        self._loop.call_soon_threadsafe(self._answer, answers, self._touched)

    def _begin(self) -> None:
        """Begin to write, as soon as nobody else does."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(ASK_S)

    def _attempt(self, work: Callable[..., Any], alike: Sequence[Operation]) -> Iterator[Answer]:
        if alike[0].item is not None:
            found = work(self._writer, [operation.item for operation in alike])
            for operation, answer in zip(alike, found, strict=True):
                refusal = answer if isinstance(answer, TransportError) else None
                yield Answer(operation.future, answer, refusal)
            return
        for operation in alike:
            try:
                yield Answer(operation.future, work(self._writer), None)
            except TransportError as refusal:
                yield Answer(operation.future, None, refusal)

    def _fail(self, operations: Sequence[Operation], error: Exception) -> None:
        answers = [Answer(operation.future, None, self._failure(error)) for operation in operations]
        self._loop.call_soon_threadsafe(self._answer, answers)

    def _failure(self, error: Exception) -> Exception:
        """Tell the store's failures from those of the operation, which are its caller's to see."""
        if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
            return unavailable(self._path, error)
        return error

    def _answer(self, answers: Sequence[Answer], topics: Sequence[str] = ()) -> None:
        for future, value, error in answers:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._board.hint(topics)

    # Other processes

    def _pause(self) -> float:
        return KEEN_S if self._in_company() else POLL_S

    def _in_company(self) -> bool:
        """Whether other processes write too, as of late."""
        return time.monotonic() - self._heard < FADE_S

    def _look(self) -> None:
        """Hint the topics of what other processes have appended; `data_version` changes with their commits alone.

        A commit without records (a heartbeat, a draw) makes no run claimable, but for `unpin`: that is found in time.
        """
        self._looked = time.monotonic()
        version, last = self._writer.execute(STATE).fetchone()
        if version == self._version:
            self._last = last  # it is this process's own
            return
        self._version, self._heard = version, self._looked
        if WAL_RESET_BUG and not self._warned:
            self._warned = True
            log.warning("%s is written to by several processes: %s", self._path, WAL_RESET_BUG)
        topics: set[str] = set()
        for number, run_id, control in self._writer.execute(
            "SELECT number, run_id, control FROM records WHERE number > ? ORDER BY number", (self._last,)
        ):
            self._last = number
            topics |= {READY, log_topic(run_id), end_topic(run_id)}
            if control:
                topics.add(control_topic(run_id))
        if topics:
            self._loop.call_soon_threadsafe(self._board.hint, topics)
