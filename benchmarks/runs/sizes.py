"""What a store's size costs: `python -m benchmarks.runs.sizes FILE RUNS [RUNS ...]`.

Half of the runs in the store have ended, half wait for a signal. Claims, appends and lists of few runs are timed
among them; they should cost what they cost in an empty store.
"""

from __future__ import annotations

import secrets
import sqlite3
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
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
from greenroom.transports.transitions import claimed, queued
from greenroom.transports.values import Finish, Park

from .load import Figure, report

REPEATS = 200
LANE = Lane(workflow="w")
TERMS = {"w": Terms()}
RECORD = (Entry("record", b"{}" * 50),)


async def main(file: str, sizes: list[int]) -> None:
    """Measure."""
    figures: list[Figure] = []
    async with open_transport(f"sqlite:///{file}") as store:
        there = 0
        for size in sizes:
            await anyio.to_thread.run_sync(fill, file, size - there)
            there = size
            for case, samples in (await timed(store)).items():
                figures.append((f"{case} among {size:,} runs", "ms", [statistics.median(samples)]))
    report(figures)


async def timed(store: Transport) -> dict[str, list[float]]:
    """Time each act in milliseconds."""
    took: dict[str, list[float]] = {"claim": [], "append": [], "list": []}

    async def time_it(case: str, act: Callable[[], Awaitable[object]]) -> None:
        start = time.perf_counter()
        await act()
        took[case].append((time.perf_counter() - start) * 1e3)

    for _ in range(REPEATS):
        await store.create(NewRun(run_id=secrets.token_hex(16), lane=LANE, entries=RECORD))
        start = time.perf_counter()
        (claim,) = await store.claim("bench", TERMS, limit=10, lease_s=60)
        took["claim"].append((time.perf_counter() - start) * 1e3)
        lease = claim.lease
        await time_it("append", lambda lease=lease: store.append(lease, RECORD))  # type: ignore[misc]
        await store.append(lease, RECORD, Finish(RunState.COMPLETED))
        await time_it("list", lambda: store.runs(RunFilter(state=RunState.WAITING), limit=50))
    return took


def fill(file: str, count: int) -> None:
    """Write runs as the transport does, without its pace."""
    db = connect(Path(file))
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
    from greenroom.transports.transitions import appended

    new = NewRun(run_id=secrets.token_hex(16), lane=LANE, entries=RECORD)
    run = appended(claimed(queued(new, now), "bench", now, 60), 2, to, now)
    db.execute(sql, (*values_of(run), "digest", now if run.state.terminal else None))
    insert(db, run.run_id, 1, now, RECORD * 3, control=False)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], [int(size) for size in sys.argv[2:]])
