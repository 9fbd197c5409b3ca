"""Four worker processes that share the limits of both providers: as near to the optimum as one, and no 429.

Each worker is a process with a router and the store, as a worker of the runtime has them; a quarter of the calls each.
`python -m benchmarks.routing.workers [URL]` runs it alone; without a URL on a SQLite file of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
from openai import APIError

from greenroom.runtime.router import Router
from greenroom.transports import open_transport

from .bursts import CALLS, CASES, LONGEST, PER_S, QUESTION, Control, Outcome
from .clients import config
from .providers import providers

WORKERS = 4
MODULE = "benchmarks.routing.workers"


def worker_command(urls: list[str], url: str, name: str, calls: int) -> list[str]:
    """Return how a worker process is started: it says when it is ready, waits for a line, and reports."""
    return [sys.executable, "-m", MODULE, "--worker", url, name, str(calls), json.dumps(urls)]


def four_workers(urls: list[str], control: Control, url: str, calls: int = CALLS, workers: int = WORKERS) -> Outcome:
    """Have workers make calls within a second, each its part; `url` is of a store that none of them has used yet."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    worker_command(urls, url, f"worker-{number}", calls // workers),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(workers)
        ]
        for process in processes:
            read(process)
        control.begin([])
        started = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answered = sum(read(process)["answered"] for process in processes)
        makespan_s = time.perf_counter() - started
    return control.outcome(makespan_s, calls - answered, 0.0)


def read(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Read a line that a worker says."""
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


async def work(url: str, name: str, calls: int, urls: list[str]) -> None:
    """Be a worker."""
    answered = 0
    holder = f"{name}#{os.getpid()}"
    async with (
        open_transport(url) as store,
        Router(config(urls, known=True), seed=1) as router,
        router.client() as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(router.share(store, holder).run)

        async def one(number: int) -> None:
            nonlocal answered
            await anyio.sleep(number / calls)
            with suppress(APIError):
                await client.chat.completions.create(model="smart", messages=QUESTION, max_completion_tokens=16)
                answered += 1

        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        with anyio.move_on_after(LONGEST * CASES["burst"].optimum_s):
            async with anyio.create_task_group() as burst:
                for number in range(calls):
                    burst.start_soon(one, number)
        print(json.dumps({"answered": answered}), flush=True)
        group.cancel_scope.cancel()


def main(url: str) -> None:
    """Run it alone, and print what came of it."""
    with tempfile.TemporaryDirectory() as folder, providers(PER_S, 1) as (urls, control):
        outcome = four_workers(urls, Control(control), url or f"sqlite:///{Path(folder) / 'limits.db'}")
    ratio = outcome.makespan_s / CASES["burst"].optimum_s if not outcome.failed else math.inf
    found = {"four_workers_makespan/optimum": ratio, "four_workers_429": outcome.refused}
    print(json.dumps({**found, "failed": outcome.failed, "makespan_s": outcome.makespan_s}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        url, name, calls, env = sys.argv[2:6]
        anyio.run(work, url, name, int(calls), json.loads(env))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
