"""DBOS on SQLite as it comes, under the load: `python -m benchmarks.runs.dbos_sqlite FILE ROUNDS`."""

from __future__ import annotations

import asyncio
import sys
import time

from dbos import DBOS, DBOSConfig, SetWorkflowID

from .load import PAYLOAD, STEPS, began, gaps, loaded, report

times: list[float] = []


@DBOS.step()
async def step(name: str, n: int) -> str:
    """Note the time."""
    if n == 0:
        began.setdefault(name, time.perf_counter())
    elif name == "sequence":
        times.append(time.perf_counter())
    return PAYLOAD


@DBOS.workflow()
async def ten(name: str) -> int:
    """STEPS steps."""
    return sum([len(await step(name, n)) for n in range(STEPS)])


@DBOS.workflow()
async def sequence(count: int) -> int:
    """As many steps."""
    return sum([len(await step("sequence", n + 1)) for n in range(count)])


async def main(file: str, rounds: int) -> None:
    """Measure."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{file}",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:

        async def flow(name: str) -> object:
            with SetWorkflowID(name):
                handle = await DBOS.start_workflow_async(ten, name)
            return await handle.get_result()

        async def steps(count: int) -> list[float]:
            times.clear()
            handle = await DBOS.start_workflow_async(sequence, count)
            await handle.get_result()
            return gaps(times)

        report(await loaded(flow, steps, rounds))
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
