"""What the size of a SQLite store costs: `python -m benchmarks.runs.sizes FOLDER RUNS [RUNS ...]`.

Half of the runs in the store have ended, half wait for a signal. Claims, appends and lists of few runs are timed
among them; they should cost what they cost in an empty store.
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
    open_transport,
)
from greenroom.transports.sqlite_rows import RUN, insert, values_of
from greenroom.transports.sqlite_schema import connect
from greenroom.transports.transitions import appended, claimed, queued
from greenroom.transports.values import Finish, Park

from .load import Figure, gaps, report

REPEATS = 200
WARM = 10
LANE = Lane(workflow="w")
TERMS = {"w": Terms()}
RECORD = (Entry("record", b"{}" * 50),)


async def main(folder: str, sizes: list[int]) -> None:
    """Measure: all stores in turn, so that a busy disk slows all of them."""
    took: dict[tuple[str, int], list[float]] = {}
    async with AsyncExitStack() as stack:
        stores: list[tuple[int, Transport]] = []
        for size in sizes:
            file = Path(folder) / f"{size}.db"
            stores.append((size, await stack.enter_async_context(open_transport(f"sqlite:///{file}"))))
            await anyio.to_thread.run_sync(fill, file, size)
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
    """Write runs as the transport does, without its pace."""
    db = connect(file)
    now = time.time()
    sql = f"INSERT INTO runs ({RUN}, digest, ended) VALUES ({', '.join('?' * 17)})"
    while count > 0:
        db.execute("BEGIN IMMEDIATE")
        for n in range(min(count, 10_000)):
            one(db, sql, now, Finish(RunState.COMPLETED) if n % 2 else Park(None, "signal", 0))
        db.execute("COMMIT")
        count -= 10_000
    db.close()


def one(db: sqlite3.Connection, sql: str, now: float, to: Finish | Park) -> None:
    """Write a run that has come so far, with three records."""
    new = NewRun(run_id=secrets.token_hex(16), lane=LANE, entries=RECORD)
    run = appended(claimed(queued(new, now), "bench", now, 60), 2, to, now)
    db.execute(sql, (*values_of(run), "digest", now if run.state.terminal else None))
    insert(db, run.run_id, 1, now, RECORD * 3, control=False)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], [int(size) for size in sys.argv[2:]])
