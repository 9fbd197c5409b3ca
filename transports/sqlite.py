"""The SQLite transport: the embedded default. One file, zero set-up, several processes on one host.

Why: runs must be durable with nothing installed. Here is what each call of the contract says to the database; how
that is said durably, by which thread, and in whose company is the engine's affair (`sqlite_engine.py`).

Laws kept here: 1, 2, 4 (an operation's checks and writes are one function, and so in one transaction; checks come
first, so that a refused operation has written nothing).
"""

from __future__ import annotations

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
    ControlPending,
    Fenced,
    InvalidCursor,
    KeyConflict,
    RunEnded,
    RunNotFound,
    RunPruned,
    StoreUnavailable,
    TransportError,
)
from .hints import Board
from .reservoirs import draw
from .sqlite_engine import Engine, Statistics
from .sqlite_rows import (
    CONTROL,
    LIVE,
    RUN,
    Head,
    advance,
    decode_lane,
    encode_lane,
    get,
    heads,
    insert,
    insert_rows,
    keep_buckets,
    keep_reservoir,
    lanes_due,
    move,
    read_heads,
    reservoir_of,
    run_of,
    soonest,
    turns_of,
    update,
    values_of,
)
from .transitions import appended, claimed, posted, queued
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

    def statistics(self) -> Statistics:
        """Return how many operations have shared how many commits."""
        return self._engine.statistics()

    async def now(self) -> float:
        return self._clock()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        def work(db: sqlite3.Connection) -> tuple[Run, bool]:
            if new.key is not None:
                known = db.execute(f"SELECT digest, {RUN} FROM runs WHERE key = ?", (new.key,)).fetchone()
                if known is not None:
                    if known[0] != new.digest:
                        raise KeyConflict(new.key, known[1])
                    return run_of(known[1:]), False
                gone = db.execute("SELECT digest, run_id FROM pruned WHERE key = ?", (new.key,)).fetchone()
                if gone is not None:
                    raise RunPruned(gone[1]) if gone[0] == new.digest else KeyConflict(new.key, gone[1])
            for table in ("runs", "pruned"):
                if db.execute(f"SELECT 1 FROM {table} WHERE run_id = ?", (new.run_id,)).fetchone():
                    raise KeyConflict(new.run_id, new.run_id)
            now = self._clock()
            run = queued(new, now)
            values = [*values_of(run), new.digest]
            places = ", ".join("?" * len(values))
            number = db.execute(f"INSERT INTO runs ({RUN}, digest) VALUES ({places})", values).lastrowid
            db.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, number) for tag in new.tags])
            insert(db, new.run_id, 1, now, new.entries, control=False)
            self._engine.touch(READY, log_topic(new.run_id))
            return run, True

        return await self._engine.write(work)

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            (refusal,) = self._append(db, [Append(lease, entries, to, seen)])
            if refusal is not None:
                raise refusal
            return get(db, lease.run_id)

        return await self._engine.write(work)

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        return await self._engine.write(lambda db: self._append(db, appends))

    def _append(self, db: sqlite3.Connection, appends: Sequence[Append]) -> list[TransportError | None]:
        """Check all of them by one statement, and write what passes by two: each statement costs the thread a wait."""
        now = self._clock()
        heads = read_heads(db, [append.lease.run_id for append in appends])
        refusals = [_refusal(db, append, heads.get(append.lease.run_id)) for append in appends]
        topics: list[str] = []
        rows: list[Any] = []
        seqs: list[Any] = []
        for append, refusal in zip(appends, refusals, strict=True):
            if refusal is not None:
                continue
            run_id = append.lease.run_id
            seq = heads[run_id].seq
            for entry in append.entries:
                seq += 1
                rows += (run_id, seq, now, entry.kind, 0, entry.body)
            topics.append(log_topic(run_id))
            if append.to is None:
                seqs += (run_id, seq, now)
            else:
                update(db, appended(get(db, run_id), len(append.entries), append.to, now))
                topics += (READY, end_topic(run_id))
        insert_rows(db, rows)
        advance(db, seqs)
        self._engine.touch(*topics)
        return refusals

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
        row = self._engine.glance(CONTROL, (lease.run_id, lease.owner, lease.fence))
        return row is not None and row[0] <= seen

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        def work(db: sqlite3.Connection) -> Run:
            run = get(db, run_id)
            if run.state.terminal:
                raise RunEnded(run_id, run.state)
            now = self._clock()
            insert(db, run_id, run.seq + 1, now, entries, control=True)
            run = posted(run, len(entries), now)
            update(db, run)
            self._engine.touch(READY, log_topic(run_id), control_topic(run_id))
            return run

        return await self._engine.write(work)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        only = "AND control = 1" if control else ""

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
        return await self._engine.read(lambda db: get(db, run_id))

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
            for run in turns.take(lines, limit):
                owner = f"{worker}#{secrets.token_hex(8)}"
                leased = claimed(run, owner, now, lease_s, build if terms[run.workflow].pinned else "")
                update(db, leased)
                if leased.lane != run.lane:
                    move(db, leased)
                claims.append(Claim(Lease(run_id=run.run_id, owner=owner, fence=leased.fence), leased))
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
        async with self._board.watch(*topics) as watch:
            self._engine.look()
            yield watch


def _refusal(db: sqlite3.Connection, append: Append, head: Head | None) -> TransportError | None:
    lease, seen = append.lease, append.seen
    if head is None:
        try:
            get(db, lease.run_id)
        except RunNotFound as missing:
            return missing
    if head is None or (head.state, head.owner, head.fence) != ("running", lease.owner, lease.fence):
        return Fenced(lease.run_id)
    if seen is not None and head.control_seq > seen:
        return ControlPending(lease.run_id, head.control_seq)
    return None


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
