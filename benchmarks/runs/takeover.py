"""How long runs of a killed worker stand still: `python -m benchmarks.runs.takeover FILE ROUNDS`.

Two worker processes on one SQLite file; the one that has the runs is killed with SIGKILL in mid-step, the other has
nothing to do but to find them. What is reported is the time from the kill to the takeover, less the lease.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import anyio

from greenroom import Runtime, component, workflow
from greenroom.runtime.logs import configure_logs
from greenroom.runtime.records import LeaseTaken, StepCompleted
from greenroom.runtime.settings import WorkerSettings

from .load import Figure, report

LEASE_S = 1.0
RUNS = 20
STEP_S = 0.05


@component
async def step(n: int) -> int:
    """Take some time."""
    await asyncio.sleep(STEP_S)
    return n


@workflow
async def long(name: str) -> int:
    """Run until the round is over."""
    return sum([await step(n) for n in range(2000)])


def runtime(store: str) -> Runtime:
    """Return what both workers run."""
    return Runtime(long, store=store, settings=WorkerSettings(lease_s=LEASE_S))


async def work(store: str) -> None:
    """Be a worker, until killed."""
    configure_logs("error")
    home = runtime(store)
    async with home, home.worker():
        print("ready", flush=True)
        await anyio.sleep_forever()


async def main(store: str, rounds: int) -> None:
    """Measure."""
    configure_logs("error")
    first: list[float] = []
    last: list[float] = []
    async with runtime(store) as home:
        for _ in range(rounds):
            waits = sorted(await fail_over(home, store))
            first.append(waits[0] - LEASE_S)
            last.append(waits[-1] - LEASE_S)
    figures: list[Figure] = [
        ("takeover of the first run less its lease", "s", first),
        (f"takeover of all {RUNS} runs less their lease", "s", last),
    ]
    report(figures)


async def fail_over(home: Runtime, store: str) -> list[float]:
    """Kill a worker; the seconds until each of its runs was taken over."""
    async with await worker(store) as one:
        handles = [await home.start(long, str(n)) for n in range(RUNS)]
        for handle in handles:
            async for event in handle.events():
                if isinstance(event.record, StepCompleted):
                    break
        async with await worker(store) as two:
            os.kill(one.pid, signal.SIGKILL)
            killed = time.time()
            takeovers: list[float] = []
            for handle in handles:
                async for event in handle.events():
                    if isinstance(event.record, LeaseTaken) and event.record.takeover:
                        takeovers.append(event.ts - killed)
                        break
            for handle in handles:
                await handle.cancel()
            for handle in handles:
                await home.runs.wait(handle.run_id)
            two.kill()
    return takeovers


async def worker(store: str) -> anyio.abc.Process:
    """Start a worker process and wait until it works."""
    command = [sys.executable, "-m", "benchmarks.runs.takeover", store]
    process = await anyio.open_process(command, stdin=None, stderr=None)
    assert process.stdout is not None
    await process.stdout.receive()
    return process


if __name__ == "__main__":
    if len(sys.argv) > 2:
        anyio.run(main, sys.argv[1], int(sys.argv[2]))
    else:
        anyio.run(work, sys.argv[1])
