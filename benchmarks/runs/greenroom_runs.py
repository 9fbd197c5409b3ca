"""greenroom under the load: `python -m benchmarks.runs.greenroom_runs STORE ROUNDS`. All features on."""

from __future__ import annotations

import sys
import time

import anyio

from greenroom import Runtime, component, workflow
from greenroom.runtime.logs import configure_logs

from .load import PAYLOAD, STEPS, began, gaps, loaded, report

times: list[float] = []


@component
async def step(name: str, n: int) -> str:
    """Note the time."""
    if n == 0:
        began.setdefault(name, time.perf_counter())
    elif name == "sequence":
        times.append(time.perf_counter())
    return PAYLOAD


@workflow
async def ten(name: str) -> int:
    """STEPS steps."""
    return sum([len(await step(name, n)) for n in range(STEPS)])


@workflow
async def sequence(count: int) -> int:
    """As many steps."""
    return sum([len(await step("sequence", n + 1)) for n in range(count)])


async def main(store: str, rounds: int) -> None:
    """Measure."""
    configure_logs("error")
    runtime = Runtime(ten, sequence, store=store)
    async with runtime, runtime.worker():

        async def flow(name: str) -> object:
            return await (await runtime.start(ten, name)).result()

        async def steps(count: int) -> list[float]:
            times.clear()
            await (await runtime.start(sequence, count)).result()
            return gaps(times)

        report(await loaded(flow, steps, rounds))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
