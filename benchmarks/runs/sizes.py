"""What the size of a SQLite store costs: `python -m benchmarks.runs.sizes FOLDER RUNS [RUNS ...]`.

Half of the runs in the store have ended, half wait for a signal. Claims, appends and lists of few runs are timed
among them; they should cost what they cost in an empty store. Nothing is synced to the disk meanwhile: that takes as
long as the disk likes, which is not what is asked here, and would hide it.
"""

from __future__ import annotations

import secrets
import sqlite3
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from greenroom.transports import (
    Entry,
    Lane,
    NewRun,
    RunFilter,
    RunState,
    Terms,
    Transport,
)
from greenroom.transports.sqlite import SqliteTransport, open_sqlite
from greenroom.transports.sqlite_rows import RUN, insert, rows_of, values_of
from greenroom.transports.sqlite_schema import connect
from greenroom.transports.transitions import appended, claimed, queued
from greenroom.transports.values import Finish, Park

from .load import Figure, gaps, report

REPEATS = 200
WARM = 10
LANE = Lane(workflow="w")
TERMS = {"w": Terms()}
RECORD = (Entry("record", b"{}" * 50),)
RECORDS = 3
"""Of each run in the store."""
COPIED = 10_000
"""Runs that are written one by one at most."""


async def main(folder: str, sizes: list[int]) -> None:
    """Measure: all stores in turn, so that a busy disk slows all of them."""
    took: dict[tuple[str, int], list[float]] = {}
    async with AsyncExitStack() as stack:
        stores: list[tuple[int, SqliteTransport]] = []
        for size in sizes:
            file = Path(folder) / f"{size}.db"
            stores.append((size, await stack.enter_async_context(open_sqlite(file, f"sqlite:///{file}"))))
            await anyio.to_thread.run_sync(fill, file, size)
            stores[-1][1]._engine._writer.execute("PRAGMA synchronous = OFF")  # not within a transaction
        for turn in range(WARM + REPEATS):
            for size, store in stores:
                for case, seconds in (await timed(store)).items():
                    if turn >= WARM:
                        took.setdefault((case, size), []).append(seconds * 1e3)
    figures: list[Figure] = [
        (f"{case} among {size:,} runs", "ms", [statistics.median(samples)]) for (case, size), samples in took.items()
    ]
    report(figures)


async def timed(store: Transport) -> dict[str, float]:
    """Time each act, in seconds."""
    await store.create(NewRun(run_id=secrets.token_hex(16), lane=LANE, entries=RECORD))
    times = [time.perf_counter()]
    (claim,) = await store.claim("bench", TERMS, limit=10, lease_s=60)
    times.append(time.perf_counter())
    await store.append(claim.lease, RECORD)
    times.append(time.perf_counter())
    await store.runs(RunFilter(state=RunState.WAITING), limit=50)
    times.append(time.perf_counter())
    await store.append(claim.lease, RECORD, Finish(RunState.COMPLETED))
    return dict(zip(("claim", "append", "list"), gaps(times), strict=True))


def fill(file: Path, count: int) -> None:
    """Write runs as the transport does, without its pace: a few by its own code, the others as copies of them."""
    db = connect(file)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -400000")
    indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    db.execute("BEGIN IMMEDIATE")
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    now = time.time()
    made = min(count, COPIED)
    for n in range(made):
        one(db, f"{n:08x}", now, Finish(RunState.COMPLETED) if n % 2 else Park(None, "signal", 0))
    columns = RUN.replace("run_id, ", "")
    for n in range(1, count // made):
        db.execute(
            f"INSERT INTO runs (run_id, {columns}, digest, ended)"
            f" SELECT printf('%08x', ?) || run_id, {columns}, digest, ended FROM runs WHERE number <= ?",
            (n, made),
        )
        db.execute(
            "INSERT INTO records (run_id, seq, ts, kind, control, body)"
            " SELECT printf('%08x', ?) || run_id, seq, ts, kind, control, body FROM records WHERE number <= ?",
            (n, made * RECORDS),
        )
    for _, sql in indexes:
        db.execute(sql)
    db.execute("COMMIT")
    db.close()


def one(db: sqlite3.Connection, run_id: str, now: float, to: Finish | Park) -> None:
    """Write a run that has come so far."""
    new = NewRun(run_id=run_id, lane=LANE, entries=RECORD)
    run = appended(claimed(queued(new, now), "bench", now, 60), RECORDS - 1, to, now)
    db.execute(
        f"INSERT INTO runs ({RUN}, digest, ended) VALUES ({', '.join('?' * 17)})",
        (*values_of(run), "digest", now if run.state.terminal else None),
    )
    insert(db, rows_of(run.run_id, 0, now, RECORD * RECORDS))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], [int(size) for size in sys.argv[2:]])
