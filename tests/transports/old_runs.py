"""The workflows of the runs in `schema_*.sql`: files that older versions wrote, and that newer ones have to go on with.

`python -m tests.transports.old_runs FILE` writes such a file with the version that runs it, as SQL: one run that has
ended, one that was canceled, one at work in mid-step, one that waits for a signal and one for a time.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio

from greenroom import Runtime, Signal, WorkerSettings, component, emit, idempotency_key, sleep, workflow
from greenroom.transports import RunState

go = Signal("go", str)
hold = asyncio.Event()
"""Keeps a step from ending."""
made: list[str] = []
"""The idempotency keys of the steps that were made in this process."""


@component
async def plus(number: int) -> int:
    made.append(idempotency_key())
    await emit(f"{number}+1 ")
    return number + 1


@component
async def held(number: int) -> int:
    made.append(idempotency_key())
    await hold.wait()
    return number + 1


@workflow
async def quick(number: int) -> int:
    return await plus(await plus(number))


@workflow
async def long(number: int) -> int:
    return await held(await plus(number))


@workflow(signals=[go])
async def patient(number: int) -> str:
    number = await plus(number)
    return f"{await go.receive()} {await plus(number)}"


@workflow
async def sleepy(number: int) -> int:
    number = await plus(number)
    await sleep(3.0)
    return await plus(number)


WORKFLOWS = (quick, long, patient, sleepy)


async def make(store: Path, copy: Path) -> None:
    """Write a store, and copy it while runs are under way."""
    settings = WorkerSettings(name="old", build="old", lease_s=1.0, park_after_s=0.05)
    runtime = Runtime(*WORKFLOWS, store=f"sqlite:///{store}", settings=settings)
    async with runtime, runtime.worker():
        runs, one = runtime.runs, b'{"number": 1}'
        await runs.start("quick", one, run_id="ended", key="once", tags=("red",), tenant="t")
        await runs.result("ended")
        await runs.start("patient", one, run_id="canceled")
        await runs.start("long", one, run_id="at-work", priority=1)
        await runs.start("patient", one, run_id="waits", tags=("red", "blue"))
        await runs.start("sleepy", one, run_id="sleeps")
        await runs.cancel("canceled", "not needed")
        await runs.wait("canceled")
        with anyio.fail_after(10):
            for run_id in ("waits", "sleeps"):
                while (await runs.transport.run(run_id)).state is not RunState.WAITING:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            while [one for one in made if one.startswith("at-work/held")] == []:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        with closing(sqlite3.connect(store)) as database:
            database.execute("VACUUM INTO ?", (str(copy),))
        hold.set()


def told(file: Path) -> Iterator[str]:
    """A database as SQL, with what marks it as ours."""
    with closing(sqlite3.connect(file)) as database:
        for pragma in ("application_id", "user_version"):
            yield f"PRAGMA {pragma} = {database.execute(f'PRAGMA {pragma}').fetchone()[0]};"
        yield from database.iterdump()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(make, Path(folder) / "store.db", Path(folder) / "copy.db")
        Path(sys.argv[1]).write_text("\n".join(told(Path(folder) / "copy.db")) + "\n", encoding="utf-8")
