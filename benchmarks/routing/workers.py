"""Four worker processes that share the limits of both providers: as near to the optimum as one, and no 429.

Each worker is a process with a router and the store, as a worker of the runtime has them; a quarter of the calls each.
`python -m benchmarks.routing.workers [URL]` runs it alone; without a URL on a SQLite file of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from openai import APIError

from greenroom.runtime.router import Router
from greenroom.transports import open_transport

from ..report import Row
from .bursts import CALLS, CASES, LONGEST, PER_S, QUESTION, Control, Outcome
from .clients import config
from .providers import providers

WORKERS = 4
MODULE = "benchmarks.routing.workers"
SYSTEM = f"greenroom, {WORKERS} workers"


def four_workers(seed: int, url: str = "") -> tuple[list[Row], dict[str, float]]:
    """Have workers make calls within a second, each its part; return rows and ratios.

    Args:
        seed: of the providers' answers.
        url: of a store that none of them has used yet; by default a SQLite file.
    """
    with tempfile.TemporaryDirectory() as folder, providers(PER_S, seed) as (urls, control):
        outcome = burst(url or f"sqlite:///{Path(folder) / 'limits.db'}", urls, Control(control))
    rows = [
        Row("burst: makespan", SYSTEM, outcome.makespan_s, "s"),
        Row("burst: failed", SYSTEM, outcome.failed, "calls"),
        Row("burst: 429s", SYSTEM, outcome.refused, "answers"),
    ]
    ratios = {
        "four_workers_makespan/optimum": outcome.makespan_s / CASES["burst"].optimum_s,
        "four_workers_failed": float(outcome.failed),
        "four_workers_429": float(outcome.refused),
        "four_workers_over_limit_windows": float(outcome.over_limit_windows),
    }
    return rows, ratios


def burst(url: str, urls: list[str], control: Control, calls: int = CALLS, workers: int = WORKERS) -> Outcome:
    """Have so many workers, which share a store, make calls of the providers within a second, each its part."""
    with ExitStack() as stack:
        started = [stack.enter_context(_worker(url, f"worker-{n}", urls, calls // workers)) for n in range(workers)]
        for worker in started:
            _read(worker)
        control.begin([])
        began = time.perf_counter()
        for worker in started:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        said = [_read(worker) for worker in started]
        makespan_s = time.perf_counter() - began
    answered = sum(one["answered"] for one in said)
    return replace(control.outcome(makespan_s, answered, sum(one["cpu_s"] for one in said)), failed=calls - answered)


def _worker(url: str, name: str, urls: list[str], calls: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", MODULE, "--worker", url, name, json.dumps(urls), str(calls)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


async def _work(url: str, name: str, urls: list[str], calls: int) -> None:
    """Be a worker: say when it is ready, wait for a line, make the calls, report."""
    answered = 0
    async with (
        open_transport(url) as store,
        Router(config(urls, known=True), seed=1) as router,
        router.client() as client,
        router.share(store, f"{name}#{os.getpid()}").running(),
    ):

        async def one(number: int) -> None:
            nonlocal answered
            await anyio.sleep(number / calls)
            with suppress(APIError):
                await client.chat.completions.create(model="smart", messages=QUESTION, max_completion_tokens=16)
                answered += 1

        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        with anyio.move_on_after(LONGEST * CASES["burst"].optimum_s):
            async with anyio.create_task_group() as made:
                for number in range(calls):
                    made.start_soon(one, number)
        print(json.dumps({"answered": answered, "cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        anyio.run(_work, sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5]))
    else:
        _, found = four_workers(1, sys.argv[1] if len(sys.argv) > 1 else "")
        print(json.dumps(found, indent=2))
