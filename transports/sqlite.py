"""The SQLite transport: the embedded default. One file, zero set-up, several processes on one host.

Why: runs must be durable with nothing installed. Here is what each call of the contract says to the database; how
that is said durably, by which thread, and in whose company is the engine's affair (`sqlite_engine.py`).

Laws kept here: 1, 2, 4 (an operation's checks and writes are one function, and so in one transaction; checks come
first, so that a refused operation has written nothing).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

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
    StoreUnavailable,
    Transition,
    Watch,
    WorkerInfo,
    control_topic,
    log_topic,
)
from .hints import Board
from .sqlite_engine import Engine, Statistics
from .transitions import appended, claimed, posted, queued

_RUN = "run_id, workflow, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key, tags"


class SqliteTransport:
    """The contract over one SQLite file. Made by `open_sqlite`."""

    durability = (
        "an acknowledged write survives the end of any process and, as far as the disk keeps its word about fsync, "
        "the loss of power (WAL, synchronous=FULL)"
    )

    def __init__(self, engine: Engine, board: Board, url: str, clock: Callable[[], float]) -> None:
        self.url = url
        self._engine = engine
        self._board = board
        self._clock = clock

    def statistics(self) -> Statistics:
        """Return how many operations have shared how many commits."""
        return self._engine.statistics()

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
            _insert(db, new.run_id, 1, now, [new.first], control=False)
            self._engine.touch(READY, log_topic(new.run_id))
            return run, True

        return await self._engine.write(work)

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
            _insert(db, run.run_id, run.seq + 1, now, entries, control=False)
            changed = appended(run, len(entries), to, now)
            _update(db, changed)
            self._engine.touch(log_topic(run.run_id))
            if to is not None:
                self._engine.touch(READY)
            return changed

        return await self._engine.write(work)

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            run = _get(db, run_id)
            if run.state.terminal:
                raise RunEnded(run_id, run.state)
            now = self._clock()
            _insert(db, run_id, run.seq + 1, now, entries, control=True)
            changed = posted(run, len(entries), now)
            _update(db, changed)
            self._engine.touch(READY, log_topic(run_id), control_topic(run_id))
            return changed

        return await self._engine.write(work)

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

        return await self._engine.read(work)

    async def run(self, run_id: str) -> Run:
        return await self._engine.read(lambda db: _get(db, run_id))

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
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

        return await self._engine.read(work)

    async def claim(self, worker: str, workflows: Sequence[str], *, limit: int, lease_s: float) -> list[Claim]:
        names = json.dumps(list(workflows))

        def work(db: sqlite3.Connection) -> list[Claim]:
            now = self._clock()
            rows = db.execute(
                f"SELECT {_RUN} FROM runs WHERE due <= ? AND workflow IN (SELECT value FROM json_each(?))"
                " ORDER BY due, number LIMIT ?",
                (now, names, limit),
            ).fetchall()
            claims: list[Claim] = []
            for row in rows:
                run = _run(row)
                owner = f"{worker}#{secrets.token_hex(8)}"
                changed = claimed(run, owner, now, lease_s)
                _update(db, changed)
                claims.append(Claim(Lease(run_id=run.run_id, owner=owner, fence=changed.fence), changed))
            return claims

        return await self._engine.write(work)

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

        return await self._engine.write(work) if leases else {}

    async def next_due(self, workflows: Sequence[str]) -> float | None:
        names = json.dumps(list(workflows))
        sql = (
            "SELECT due FROM runs WHERE due IS NOT NULL AND workflow IN (SELECT value FROM json_each(?))"
            " ORDER BY due LIMIT 1"
        )

        def work(db: sqlite3.Connection) -> float | None:
            row = db.execute(sql, (names,)).fetchone()
            return None if row is None else row[0]

        return await self._engine.read(work)

    async def cache_get(self, key: str) -> bytes | None:
        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM cache WHERE key = ? AND expires > ?", (key, self._clock())).fetchone()
            return None if row is None else row[0]

        return await self._engine.read(work)

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            now = self._clock()
            db.execute("DELETE FROM cache WHERE expires <= ?", (now,))
            db.execute("INSERT OR REPLACE INTO cache VALUES (?, ?, ?)", (key, value, now + ttl_s))

        await self._engine.write(work)

    async def beat(self, info: WorkerInfo) -> None:
        def work(db: sqlite3.Connection) -> None:
            now = self._clock()
            body = msgspec.json.encode(msgspec.structs.replace(info, beat=now))
            db.execute("DELETE FROM workers WHERE beat <= ?", (now - 3600,))
            db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", (info.name, body, now))

        await self._engine.write(work)

    async def forget_worker(self, name: str) -> None:
        await self._engine.write(lambda db: db.execute("DELETE FROM workers WHERE name = ?", (name,)) and None)

    async def workers(self) -> list[WorkerInfo]:
        def work(db: sqlite3.Connection) -> list[WorkerInfo]:
            rows = db.execute(
                "SELECT info FROM workers WHERE beat > ? ORDER BY name", (self._clock() - 3600,)
            ).fetchall()
            return [msgspec.json.decode(row[0], type=WorkerInfo) for row in rows]

        return await self._engine.read(work)

    @asynccontextmanager
    async def watch(self, *topics: str) -> AsyncIterator[Watch]:
        async with self._board.watch(*topics) as watch:
            self._engine.look()
            yield watch


def _insert(
    db: sqlite3.Connection, run_id: str, seq: int, now: float, entries: Sequence[Entry], *, control: bool
) -> None:
    db.executemany(
        "INSERT INTO records (run_id, seq, ts, kind, control, body) VALUES (?, ?, ?, ?, ?, ?)",
        [(run_id, seq + n, now, entry.kind, control, entry.body) for n, entry in enumerate(entries)],
    )


def _update(db: sqlite3.Connection, run: Run) -> None:
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
    if str(path) == ":memory:":
        raise StoreUnavailable(f"{url} would be another database to each connection: use memory://")
    board = Board()
    engine = Engine(path, board)
    try:
        yield SqliteTransport(engine, board, url, clock)
    finally:
        await engine.close()
