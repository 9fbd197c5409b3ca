"""arq, tuned, under the load: `python -m benchmarks.runs.arq_redis PORT ROUNDS`.

arq has no workflows: a workflow is a chain of jobs, each of which enqueues the next; polled every 10 ms, not 500. arq
writes a job's result after the job, so after the next one was enqueued: what a step returned goes along to the next one
as well, so that here, too, it is durable before that begins. Answers are parsed by hiredis on both sides.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import Any

import anyio
from arq import Worker, create_pool
from arq.connections import RedisSettings

from .load import FLOWS, PAYLOAD, STEPS, began, gaps, loaded, report

POLL_S = 0.01
times: list[float] = []
ended: dict[str, asyncio.Event] = {}


async def step(ctx: dict[str, Any], name: str, n: int, count: int, before: str = "") -> str:
    """Note the time; enqueue the next."""
    if n == 0:
        began.setdefault(name, time.perf_counter())
    if name.startswith("sequence"):
        times.append(time.perf_counter())
    if n + 1 < count:
        await ctx["redis"].enqueue_job("step", name, n + 1, count, PAYLOAD, _job_id=f"{name}/{n + 1}")
    else:
        ended[name].set()
    return PAYLOAD


async def main(port: int, rounds: int) -> None:
    """Measure."""
    logging.disable(logging.CRITICAL)
    settings = RedisSettings(port=port)
    pool = await create_pool(settings)
    worker = Worker([step], redis_settings=settings, poll_delay=POLL_S, max_jobs=FLOWS, handle_signals=False)

    async def run(name: str, count: int) -> None:
        ended[name] = asyncio.Event()
        await pool.enqueue_job("step", name, 0, count, _job_id=f"{name}/0")
        await ended[name].wait()

    async def flow(name: str) -> None:
        await run(name, STEPS)

    async def steps(count: int) -> list[float]:
        times.clear()
        await run(f"sequence-{time.perf_counter()}", count)
        return gaps(times)

    async with anyio.create_task_group() as group:
        group.start_soon(worker.async_run)
        report(await loaded(flow, steps, rounds))
        group.cancel_scope.cancel()
    with suppress(asyncio.CancelledError):  # it waits for its jobs, which were canceled
        await worker.close()
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
