"""What runs cost that only wait: `python -m benchmarks.runs.parked FILE RUNS`.

So many runs wait for a signal, parked; then the worker that parked them is watched while there is nothing to do.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import anyio

from greenroom import Runtime, Signal, workflow
from greenroom.runtime.logs import configure_logs
from greenroom.runtime.settings import WorkerSettings
from greenroom.transports import RunFilter, RunState

from .load import Figure, report

WATCH_S = 5.0
WARM = 500
go = Signal("go", str)


@workflow(signals=(go,))
async def waiting(n: int) -> str:
    """Wait."""
    return await go.receive()


async def main(file: str, count: int) -> None:
    """Measure."""
    configure_logs("error")
    settings = WorkerSettings(park_after_s=0.0, capacity=200)
    runtime = Runtime(waiting, store=f"sqlite:///{file}", settings=settings)
    async with runtime, runtime.worker():
        await park(runtime, WARM)
        memory, disk = used(file)
        await park(runtime, count)
        after, disk_after = used(file)
        assert (await runtime.runs.list(RunFilter(state=RunState.WAITING), limit=1)).runs
        idle = [await watched() for _ in range(3)]
    figures: list[Figure] = [
        ("parked run, in the worker", "bytes", [max(0.0, (after - memory) / count)]),
        ("parked run, in the store", "bytes", [(disk_after - disk) / count]),
        (f"idle worker, {count + WARM:,} parked runs", "cpu s/s", idle),
    ]
    report(figures)


async def park(runtime: Runtime, count: int) -> None:
    """Start so many and wait until all are parked."""
    for start in range(0, count, 500):
        await asyncio.gather(*(runtime.start(waiting, n) for n in range(start, min(start + 500, count))))
    for state in (RunState.QUEUED, RunState.RUNNING):
        while (await runtime.runs.list(RunFilter(state=state), limit=1)).runs:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)


def used(file: str) -> tuple[float, float]:
    """Memory of this process and size of the store, bytes."""
    gc.collect()
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) if os.path.exists("/proc") else 0
    return pages * resource.getpagesize(), float(os.path.getsize(file))


async def watched() -> float:
    """CPU seconds that this process takes in a second."""
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(WATCH_S / 3)
    return (time.process_time() - cpu) / (time.monotonic() - began)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
