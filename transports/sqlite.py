"""The SQLite transport: the embedded default. One file, zero set-up, several processes on one host.

Why: runs must be durable with nothing installed. A writer thread takes whatever operations are waiting, does them
in one transaction, commits, and answers them all: group commit without a timer, so that synchronous=FULL costs one
fsync for many appends. A reader thread reads, and looks for what other processes have written.

Laws kept here: 1, 2, 4 (an operation's checks and writes are in one transaction; a refused one writes nothing and
leaves its neighbours alone), 7 (both threads end with the transport), 9 (an operation happens whole or not at all,
whatever becomes of its caller).

The file is opened by SQLite alone: opening it ourselves would drop its locks.
"""

from __future__ import annotations

import asyncio
import json
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .contract import (
    READY,
    Claim,
    ControlPending,
    Entry,
    Fenced,
    InvalidCursor,
    KeyConflict,
    Lease,
    NewRun,
    Run,
    RunEnded,
    RunFilter,
    RunNotFound,
    RunPage,
    RunState,
    Stored,
    Transition,
    TransportError,
    Watch,
    WorkerInfo,
    control_topic,
    log_topic,
)
from .hints import Board
from .sqlite_schema import connect, prepare, unavailable
from .transitions import appended, claimed, posted, queued

R = TypeVar("R")
Work = Callable[[sqlite3.Connection], R]

POLL_S = 0.02
"""How often other processes' writes are looked for while somebody watches, seconds."""

_RUN = "run_id, workflow, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key, tags"


class SqliteTransport:
    """The contract over one SQLite file. Made by `open_sqlite`."""

    durability = (
        "an acknowledged write survives the end of any process and, as far as the disk keeps its word about fsync, "
        "the loss of power (WAL, synchronous=FULL)"
    )

    def __init__(self, path: Path, url: str, clock: Callable[[], float]) -> None:
        self.url = url
        self._path = path
        self._clock = clock
        self._board = Board()
        self._loop = asyncio.get_running_loop()
        self._writes: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._touched: list[str] = []
        self._writer = connect(path)
        prepare(self._writer, path)
        self._reader = connect(path)
        self._threads = [
            threading.Thread(target=self._write_loop, name=f"greenroom writer {path.name}"),
            threading.Thread(target=self._read_loop, name=f"greenroom reader {path.name}"),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Do what is waiting, then end the threads and close the file."""
        self._writes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            thread.join()
        self._reader.close()
        self._writer.close()

    # The threads

    async def _write(self, work: Work[R]) -> R:
        future: asyncio.Future[R] = self._loop.create_future()
        self._writes.put((work, future))
        return await future

    async def _read(self, work: Work[R]) -> R:
        future: asyncio.Future[R] = self._loop.create_future()
        self._reads.put((work, future))
        return await future

    def _write_loop(self) -> None:
        over = False
        while not over:
            batch = [self._writes.get()]
            while not self._writes.empty():
                batch.append(self._writes.get())
            over = None in batch
            self._commit([item for item in batch if item is not None])

    def _commit(self, batch: list[tuple[Work[Any], asyncio.Future[Any]]]) -> None:
        if not batch:
            return
        connection, answers = self._writer, list[tuple[asyncio.Future[Any], Any, Exception | None]]()
        self._touched = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                try:
                    answers.append((future, work(connection), None))
                except TransportError as refusal:
                    answers.append((future, None, refusal))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = unavailable(self._path, error)
            answers = [(future, None, failure) for _, future in batch]
            self._touched = []
        self._loop.call_soon_threadsafe(self._answer, answers, self._touched)

    def _answer(self, answers: Iterable[tuple[asyncio.Future[Any], Any, Exception | None]], topics: list[str]) -> None:
        for future, value, error in answers:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._board.hint(topics)

    def _read_loop(self) -> None:
        connection = self._reader
        version, last = self._look(connection, None, 0)
        while True:
            try:
                item = self._reads.get(timeout=POLL_S if self._board.watched else None)
            except queue.Empty:
                version, last = self._look(connection, version, last)
                continue
            if item is None:
                return
            work, future = item
            try:
                answer: tuple[asyncio.Future[Any], Any, Exception | None] = (future, work(connection), None)
            except TransportError as refusal:
                answer = (future, None, refusal)
            except sqlite3.Error as error:
                answer = (future, None, unavailable(self._path, error))
            self._loop.call_soon_threadsafe(self._answer, [answer], [])
            version, last = self._look(connection, version, last)

    def _look(self, connection: sqlite3.Connection, version: int | None, last: int) -> tuple[int, int]:
        """Hint the topics of what was written since the last look, by whichever process."""
        try:
            (now,) = connection.execute("PRAGMA data_version").fetchone()
            if now == version:
                return now, last
            if version is None:
                (newest,) = connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchone()
                return now, newest
            rows = connection.execute(
                "SELECT number, run_id, control FROM records WHERE number > ?", (last,)
            ).fetchall()
        except sqlite3.Error:
            return version or 0, last
        topics = {READY} if rows else set()
        for number, run_id, control in rows:
            last = max(last, number)
            topics.add(log_topic(run_id))
            if control:
                topics.add(control_topic(run_id))
        if topics:
            self._loop.call_soon_threadsafe(self._board.hint, topics)
        return now, last

    # The contract

    async def now(self) -> float:
        return self._clock()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        def work(db: sqlite3.Connection) -> tuple[Run, bool]:
            if new.key is not None:
                known = db.execute(f"SELECT digest, {_RUN} FROM runs WHERE key = ?", (new.key,)).fetchone()
                if known is not None:
                    if known[0] != new.digest:
                        raise KeyConflict(new.key, known[1])
                    return _run(known[1:]), False
            if db.execute("SELECT 1 FROM runs WHERE run_id = ?", (new.run_id,)).fetchone():
                raise KeyConflict(new.run_id, new.run_id)
            now = self._clock()
            run = queued(new, now)
            values = [*_values(run), new.digest]
            places = ", ".join("?" * len(values))
            number = db.execute(f"INSERT INTO runs ({_RUN}, digest) VALUES ({places})", values).lastrowid
            db.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, number) for tag in new.tags])
            self._insert(db, new.run_id, 1, now, [new.first], control=False)
            self._touched += (READY, log_topic(new.run_id))
            return run, True

        return await self._write(work)

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            run = _get(db, lease.run_id)
            if (run.state, run.owner, run.fence) != (RunState.RUNNING, lease.owner, lease.fence):
                raise Fenced(lease.run_id)
            if seen is not None and run.control_seq > seen:
                raise ControlPending(run.run_id, run.control_seq)
            now = self._clock()
            self._insert(db, run.run_id, run.seq + 1, now, entries, control=False)
            changed = appended(run, len(entries), to, now)
            self._update(db, changed)
            self._touched.append(log_topic(run.run_id))
            if to is not None:
                self._touched.append(READY)
            return changed

        return await self._write(work)

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            run = _get(db, run_id)
            if run.state.terminal:
                raise RunEnded(run_id, run.state)
            now = self._clock()
            self._insert(db, run_id, run.seq + 1, now, entries, control=True)
            changed = posted(run, len(entries), now)
            self._update(db, changed)
            self._touched += (READY, log_topic(run_id), control_topic(run_id))
            return changed

        return await self._write(work)

    def _insert(
        self, db: sqlite3.Connection, run_id: str, seq: int, now: float, entries: Sequence[Entry], *, control: bool
    ) -> None:
        db.executemany(
            "INSERT INTO records (run_id, seq, ts, kind, control, body) VALUES (?, ?, ?, ?, ?, ?)",
            [(run_id, seq + n, now, entry.kind, control, entry.body) for n, entry in enumerate(entries)],
        )

    def _update(self, db: sqlite3.Connection, run: Run) -> None:
        db.execute(
            "UPDATE runs SET state = ?, seq = ?, control_seq = ?, updated = ?, due = ?, owner = ?, fence = ?,"
            " waiting_on = ? WHERE run_id = ?",
            (
                run.state.value,
                run.seq,
                run.control_seq,
                run.updated,
                run.due,
                run.owner,
                run.fence,
                run.waiting_on,
                run.run_id,
            ),
        )

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        only = "AND control = 1" if control else ""

        def work(db: sqlite3.Connection) -> list[Stored]:
            rows = db.execute(
                f"SELECT seq, ts, kind, body FROM records WHERE run_id = ? AND seq > ? {only} ORDER BY seq LIMIT ?",
                (run_id, after, limit),
            ).fetchall()
            if not rows:
                _get(db, run_id)
            return [Stored(*row) for row in rows]

        return await self._read(work)

    async def run(self, run_id: str) -> Run:
        return await self._read(lambda db: _get(db, run_id))

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not cursor.isdecimal():
            raise InvalidCursor(cursor)
        tests, values = ["number < ?"], [int(cursor) if cursor is not None else 2**62]
        filters: list[tuple[str, Any]] = [
            ("workflow = ?", where.workflow),
            ("state = ?", where.state),
            ("created > ?", where.created_after),
            ("number IN (SELECT number FROM tags WHERE tag = ?)", where.tag),
        ]
        for test, value in filters:
            if value is not None:
                tests.append(test)
                values.append(value)

        def work(db: sqlite3.Connection) -> RunPage:
            rows = db.execute(
                f"SELECT number, {_RUN} FROM runs WHERE {' AND '.join(tests)} ORDER BY number DESC LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
            more = len(rows) > limit
            rows = rows[:limit]
            return RunPage(tuple(_run(row[1:]) for row in rows), str(rows[-1][0]) if more else None)

        return await self._read(work)

    async def claim(self, worker: str, workflows: Sequence[str], *, limit: int, lease_s: float) -> list[Claim]:
        names = json.dumps(list(workflows))

        def work(db: sqlite3.Connection) -> list[Claim]:
            now = self._clock()
            rows = db.execute(
                f"SELECT {_RUN} FROM runs WHERE due <= ? AND workflow IN (SELECT value FROM json_each(?))"
                " ORDER BY due LIMIT ?",
                (now, names, limit),
            ).fetchall()
            claims: list[Claim] = []
            for row in rows:
                run = _run(row)
                owner = f"{worker}#{secrets.token_hex(8)}"
                changed = claimed(run, owner, now, lease_s)
                self._update(db, changed)
                claims.append(Claim(Lease(run_id=run.run_id, owner=owner, fence=changed.fence), changed))
            return claims

        return await self._write(work)

    async def renew(self, leases: Sequence[Lease], *, lease_s: float) -> Mapping[str, int]:
        def work(db: sqlite3.Connection) -> dict[str, int]:
            due = self._clock() + lease_s
            held: dict[str, int] = {}
            for lease in leases:
                row = db.execute(
                    "UPDATE runs SET due = ? WHERE run_id = ? AND owner = ? AND fence = ? AND state = 'running'"
                    " RETURNING control_seq",
                    (due, lease.run_id, lease.owner, lease.fence),
                ).fetchone()
                if row is not None:
                    held[lease.run_id] = row[0]
            return held

        return await self._write(work) if leases else {}

    async def next_due(self, workflows: Sequence[str]) -> float | None:
        names = json.dumps(list(workflows))
        sql = (
            "SELECT due FROM runs WHERE due IS NOT NULL AND workflow IN (SELECT value FROM json_each(?))"
            " ORDER BY due LIMIT 1"
        )

        def work(db: sqlite3.Connection) -> float | None:
            row = db.execute(sql, (names,)).fetchone()
            return None if row is None else row[0]

        return await self._read(work)

    async def cache_get(self, key: str) -> bytes | None:
        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM cache WHERE key = ? AND expires > ?", (key, self._clock())).fetchone()
            return None if row is None else row[0]

        return await self._read(work)

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            now = self._clock()
            db.execute("DELETE FROM cache WHERE expires <= ?", (now,))
            db.execute("INSERT OR REPLACE INTO cache VALUES (?, ?, ?)", (key, value, now + ttl_s))

        await self._write(work)

    async def beat(self, info: WorkerInfo) -> None:
        def work(db: sqlite3.Connection) -> None:
            now = self._clock()
            body = msgspec.json.encode(msgspec.structs.replace(info, beat=now))
            db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", (info.name, body, now))

        await self._write(work)

    async def forget_worker(self, name: str) -> None:
        await self._write(lambda db: db.execute("DELETE FROM workers WHERE name = ?", (name,)) and None)

    async def workers(self) -> list[WorkerInfo]:
        def work(db: sqlite3.Connection) -> list[WorkerInfo]:
            rows = db.execute(
                "SELECT info FROM workers WHERE beat > ? ORDER BY name", (self._clock() - 3600,)
            ).fetchall()
            return [msgspec.json.decode(row[0], type=WorkerInfo) for row in rows]

        return await self._read(work)

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        watching = self._board.watch(*topics)
        self._reads.put((lambda db: None, self._loop.create_future()))
        return watching


def _get(db: sqlite3.Connection, run_id: str) -> Run:
    row = db.execute(f"SELECT {_RUN} FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise RunNotFound(run_id)
    return _run(row)


def _run(row: Sequence[Any]) -> Run:
    run_id, workflow, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key, tags = row
    return Run(
        run_id=run_id,
        workflow=workflow,
        state=RunState(state),
        seq=seq,
        control_seq=control_seq,
        created=created,
        updated=updated,
        due=due,
        owner=owner,
        fence=fence,
        waiting_on=waiting_on,
        key=key,
        tags=tuple(json.loads(tags)),
    )


def _values(run: Run) -> list[Any]:
    values = [getattr(run, name.strip()) for name in _RUN.split(",")]
    return [*values[:-1], json.dumps(run.tags)]


@asynccontextmanager
async def open_sqlite(
    path: Path, url: str, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[SqliteTransport]:
    """Open a store for the life of the block.

    Raises:
        StoreUnavailable: the file cannot be opened; says why and what to do.
    """
    transport = SqliteTransport(path, url, clock)
    transport.start()
    try:
        yield transport
    finally:
        transport.close()
