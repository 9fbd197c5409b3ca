"""The SQLite transport: the embedded default. One file, zero set-up, several processes on one host.

Why: runs must be durable with nothing installed. Here is what each call of the contract says to the database; how
that is said durably, by which thread, and in whose company is the engine's affair (`sqlite_engine.py`).

Laws kept here: 1, 2, 4 (an operation's checks and writes are one function, and so in one transaction; checks come
first, so that a refused operation has written nothing).
"""

from __future__ import annotations

import itertools
import math
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from .contract import READY, Watch, control_topic, end_topic, log_topic
from .errors import (
    BlobNotFound,
    InvalidCursor,
    RunEnded,
    StoreUnavailable,
    TransportError,
)
from .hints import Board
from .reservoirs import draw
from .sqlite_appends import WORDS, Glances, append_all
from .sqlite_engine import Engine, Statistics
from .sqlite_rows import (
    END,
    LIVE,
    ONE,
    RECORD,
    RUN,
    Known,
    decode_lane,
    encode_lane,
    ended,
    get,
    insert,
    insert_runs,
    lend,
    move,
    post,
    rows_of,
    run_of,
    short_logs,
    values_of,
)
from .sqlite_turns import heads, keep_buckets, keep_reservoir, lanes_due, reservoir_of, soonest, turns_of
from .transitions import claimed, posted, queued
from .values import (
    Append,
    Claim,
    Draw,
    Entry,
    Grant,
    LaneCount,
    Lease,
    NewRun,
    Run,
    RunFilter,
    RunPage,
    Stored,
    Terms,
    Transition,
    WorkerInfo,
)


class SqliteTransport:
    """The contract over one SQLite file. Made by `open_sqlite`."""

    blob_bytes: int | None = None
    durability = (
        "an acknowledged write survives the end of any process and, as far as the disk keeps its word about fsync, "
        "the loss of power (WAL, synchronous=FULL)"
    )
    forgets = False

    def __init__(self, engine: Engine, board: Board, url: str, clock: Callable[[], float]) -> None:
        self.url = url
        self._engine = engine
        self._board = board
        self._clock = clock
        self.may_append = Glances(engine).may_append

    def statistics(self) -> Statistics:
        """Return how many operations have shared how many commits."""
        return self._engine.statistics()

    async def now(self) -> float:
        return self._clock()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        return await self._engine.write_each(self._create, new)

    def _create(self, db: sqlite3.Connection, news: Sequence[NewRun]) -> list[tuple[Run, bool] | TransportError]:
        """Look whether they are known by two statements, and write those that are not by two: see `many`."""
        now = self._clock()
        known = Known(db, news)
        answers: list[tuple[Run, bool] | TransportError] = []
        runs: list[Any] = []
        records: list[Any] = []
        tags: list[tuple[str, str]] = []
        for new in news:
            try:
                run = known.run_of(new)
            except TransportError as refusal:
                answers.append(refusal)
                continue
            if run is not None:
                answers.append((run, False))
                continue
            run = queued(new, now)
            known.add(new, run)
            runs += (*values_of(run), new.digest)
            records += rows_of(new.run_id, 0, now, new.entries)
            tags += [(tag, new.run_id) for tag in new.tags]
            self._engine.touch(READY, log_topic(new.run_id))
            answers.append((run, True))
        insert_runs(db, runs)
        insert(db, records)
        if tags:
            db.executemany("INSERT OR IGNORE INTO tags SELECT ?, number FROM runs WHERE run_id = ?", tags)
        return answers

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            (refusal,) = self._made(db, [Append(lease, entries, to, seen)])
            if refusal is not None:
                raise refusal
            return get(db, lease.run_id)

        return await self._engine.write(work)

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        return await self._engine.write_each(self._append, appends, alone=True)

    def _append(
        self, db: sqlite3.Connection, several: Sequence[Sequence[Append]]
    ) -> list[list[TransportError | None] | TransportError]:
        refused = iter(self._made(db, [append for some in several for append in some]))
        return [list(itertools.islice(refused, len(some))) for some in several]

    def _made(self, db: sqlite3.Connection, appends: Sequence[Append]) -> list[TransportError | None]:
        """Make appends and have who waits for them hear of it; return why those are refused that are."""
        refused = append_all(db, appends, self._clock())
        for append, refusal in zip(appends, refused, strict=True):
            if refusal is None:
                self._engine.touch(log_topic(append.lease.run_id))
                if append.to is not None:
                    self._engine.touch(READY, end_topic(append.lease.run_id))
        return refused

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            run = get(db, run_id)
            if run.state.terminal:
                raise RunEnded(run_id, run.state)
            now = self._clock()
            insert(db, rows_of(run_id, run.seq, now, entries, control=True))
            run = posted(run, len(entries), now)
            post(db, run)
            self._engine.touch(READY, log_topic(run_id), control_topic(run_id))
            return run

        return await self._engine.write(work)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        only = "AND control = 1" if control else ""
        if limit == 1 and not control:
            row = self._engine.glance(RECORD, (run_id, after))
            if row is not None:
                return [Stored(*row)]

        def work(db: sqlite3.Connection) -> list[Stored]:
            rows = db.execute(
                f"SELECT seq, ts, kind, body FROM records WHERE run_id = ? AND seq > ? {only} ORDER BY seq LIMIT ?",
                (run_id, after, limit),
            ).fetchall()
            if not rows:
                get(db, run_id)
            return [Stored(*row) for row in rows]

        return await self._engine.read(work)

    async def run(self, run_id: str) -> Run:
        row = self._engine.glance(ONE, (run_id,))
        return run_of(row) if row is not None else await self._engine.read(lambda db: get(db, run_id))

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        row = self._engine.glance(END, (run_id,)) or await self._engine.read(lambda db: ended(db, run_id))
        return run_of(row[:-4]), Stored(*row[-4:]) if row[-1] is not None else None

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
            raise InvalidCursor(cursor)
        tests, values = ["number < ?"], [int(cursor) if cursor is not None else 2**62]
        filters: list[tuple[str, Any]] = [
            ("workflow = ?", where.workflow),
            ("state = ?", where.state),
            ("tenant = ? AND tenant != ''" if where.tenant else "tenant = ?", where.tenant),
            ("created > ?", where.created_after),
            ("number IN (SELECT number FROM tags WHERE tag = ?)", where.tag),
        ]
        for test, value in filters:
            if value is not None:
                tests.append(test)
                values.append(value)

        def work(db: sqlite3.Connection) -> RunPage:
            rows = db.execute(
                f"SELECT number, {RUN} FROM runs WHERE {' AND '.join(tests)} ORDER BY number DESC LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
            more = len(rows) > limit
            rows = rows[:limit]
            return RunPage(tuple(run_of(row[1:]) for row in rows), str(rows[-1][0]) if more else None)

        return await self._engine.read(work)

    async def claim(
        self, worker: str, terms: Mapping[str, Terms], *, build: str = "", limit: int, lease_s: float
    ) -> list[Claim]:
        def work(db: sqlite3.Connection) -> list[Claim]:
            now = self._clock()
            lines = {lane: heads(db, text, now, limit) for text, lane in lanes_due(db, terms, build)}
            lines = {lane: runs for lane, runs in lines.items() if runs}
            turns = turns_of(db, terms, tuple(lines), now)
            claims: list[Claim] = []
            rows: list[Any] = []
            taken = turns.take(lines, limit)
            known = short_logs(db, taken)
            for run in taken:
                owner = f"{worker}#{secrets.token_hex(8)}"
                leased = claimed(run, owner, now, lease_s, build if terms[run.workflow].pinned else "")
                rows += (run.run_id, owner, leased.fence, leased.due, now)
                if leased.lane != run.lane:
                    move(db, leased)
                lease = Lease(run_id=run.run_id, owner=owner, fence=leased.fence)
                claims.append(Claim(lease, leased, known.get(run.run_id, ())))
            lend(db, rows)
            keep_buckets(db, turns)
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

    async def next_due(self, terms: Mapping[str, Terms], *, build: str = "") -> float | None:
        return await self._engine.read(lambda db: soonest(db, terms, build, self._clock()))

    async def lanes(self) -> list[LaneCount]:
        sql = f"SELECT lane, count(*), sum(state = 'running') FROM runs WHERE {LIVE} GROUP BY lane ORDER BY lane"

        def work(db: sqlite3.Connection) -> list[LaneCount]:
            return [LaneCount(lane=decode_lane(text), live=live, running=n) for text, live, n in db.execute(sql)]

        return await self._engine.read(work)

    async def unpin(self, build: str) -> int:
        def work(db: sqlite3.Connection) -> int:
            lanes = [text for (text,) in db.execute(f"SELECT DISTINCT lane FROM runs WHERE {LIVE}")]
            count = 0
            for text in lanes:
                lane = decode_lane(text)
                if lane.build == build:
                    free = encode_lane(msgspec.structs.replace(lane, build=""))
                    count += db.execute(f"UPDATE runs SET lane = ? WHERE lane = ? AND {LIVE}", (free, text)).rowcount
            self._engine.touch(READY)
            return count

        return await self._engine.write(work)

    async def prune(self, before: float, *, keep: int | None = None, limit: int) -> int:
        def work(db: sqlite3.Connection) -> int:
            until = before
            if keep is not None:
                sql = "SELECT ended FROM runs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT 1 OFFSET ?"
                oldest = db.execute(sql, (keep,)).fetchone()
                until = max(before, math.nextafter(oldest[0], math.inf)) if oldest else before
            newest = db.execute("SELECT run_id FROM records ORDER BY number DESC LIMIT 1").fetchone()
            ended = db.execute(
                "SELECT number, run_id, key, digest FROM runs WHERE ended < ? AND run_id != ? ORDER BY ended LIMIT ?",
                (until, newest[0] if newest else "", limit),
            ).fetchall()
            for number, run_id, key, digest in ended:
                db.execute("INSERT INTO pruned VALUES (?, ?, ?)", (run_id, key, digest))
                db.execute("DELETE FROM tags WHERE number = ?", (number,))
                for table in ("runs", "records", "blobs"):
                    db.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
            return len(ended)

        return await self._engine.write(work)

    async def blob_put(self, run_id: str, digest: str, data: bytes) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (run_id, digest, data))

        await self._engine.write(work)

    async def blob_get(self, run_id: str, digest: str) -> bytes:
        sql = "SELECT data FROM blobs WHERE run_id = ? AND digest = ?"
        row = await self._engine.read(lambda db: db.execute(sql, (run_id, digest)).fetchone())
        if row is None:
            raise BlobNotFound(run_id, digest)
        return bytes(row[0])

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

    async def draw(self, holder: str, draws: Sequence[Draw], *, lease_s: float) -> list[Grant]:
        def work(db: sqlite3.Connection) -> list[Grant]:
            now = self._clock()
            grants: list[Grant] = []
            for one in draws:
                reservoir = reservoir_of(db, one.reservoir)
                grants.append(draw(reservoir, one, holder, now, lease_s))
                keep_reservoir(db, one.reservoir, reservoir)
            return grants

        return await self._engine.write(work) if draws else []

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
        watched = self._board.watched
        async with self._board.watch(*topics) as watch:
            if not watched:
                self._engine.look()
            yield watch


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
    engine = Engine(path, board, WORDS)
    try:
        yield SqliteTransport(engine, board, url, clock)
    finally:
        await engine.close()
