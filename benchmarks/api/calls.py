"""Requests that are answered at once: how many runs a second, and how long answers take while workers are busy."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import count
from typing import NamedTuple

from .fanout import at
from .wire import Caller, caller, get, post

WIDTH = 64
"""Connections that create runs at once."""

START = b'{"input":{"topic":"tea"}}'


class Work(NamedTuple):
    """What the workers are given to do: more than they can in the seconds that follow."""

    runs: int
    steps: int
    pause_s: float


BUSY = Work(runs=200, steps=2000, pause_s=0.0)
"""It uses up the worker's core: each of its places takes the next step at once."""

FULL = Work(runs=600, steps=100, pause_s=0.2)
"""It takes all of the worker's places, and as many runs again wait twice over; steps wait, as if for a provider."""


async def created(port: int, path: str, seconds: float) -> float:
    """Create what a POST creates, on all connections as fast as answers come; how many a second."""
    callers = [await caller(port) for _ in range(WIDTH)]
    request, made = post(path, START), 0
    end = time.perf_counter() + seconds

    async def lane(calling: Caller) -> None:
        nonlocal made
        while time.perf_counter() < end:
            status, answer = await calling.call(request)
            if status != 202:
                raise RuntimeError(answer.decode())
            made += 1

    start = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for calling in callers:
                group.create_task(lane(calling))
    finally:
        for calling in callers:
            calling.close()
    return made / (time.perf_counter() - start)


class Answers(NamedTuple):
    """The 99th percentiles of the times that answers took, milliseconds: of all, and of those that only read."""

    p99_ms: float
    read_p99_ms: float


class Probe:
    """Looks at a run, and starts one, at a pace that does not load the API."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, seconds: float, per_s: float = 200.0) -> Answers:
        """Ask for so long: three looks, and one run started, and so on."""
        calling = await caller(self._port)
        body = b'{"input":{"topic":"tea"},"delay_s":3600}'  # never due while this is measured
        _, answer = await calling.call(post("/v1/workflows/told/runs", body))
        run_id = answer.partition(b'"id":"')[2].partition(b'"')[0].decode()
        requests = (get(f"/v1/runs/{run_id}"), get(f"/v1/runs/{run_id}/events?after=0", "application/json"))
        reads: list[float] = []
        creates: list[float] = []
        start = time.perf_counter()
        for number in count():
            due = start + number / per_s
            if due > start + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked = time.perf_counter()
            creating = number % 4 == 3
            request = post("/v1/workflows/told/runs", body) if creating else requests[number % 2]
            status, answer = await calling.call(request)
            (creates if creating else reads).append(time.perf_counter() - asked)
            if status not in (200, 202):
                raise RuntimeError(answer.decode())
        calling.close()
        return Answers(at(sorted(reads + creates), 0.99) * 1e3, at(sorted(reads), 0.99) * 1e3)

    async def give(self, work: Work) -> None:
        """Give the workers something to do."""
        calling = await caller(self._port)
        asked = {"input": {"steps": work.steps, "pause_s": work.pause_s}, "tags": ["busy"]}
        for _ in range(work.runs):
            await calling.call(post("/v1/workflows/busy/runs", json.dumps(asked).encode()))
        calling.close()

    async def relieve(self) -> bool:
        """Stop what the workers do; whether they still had something to do."""
        calling = await caller(self._port)
        busy = False
        for status in ("queued", "running"):
            _, answer = await calling.call(post(f"/v1/runs/cancel?tag=busy&status={status}", b'{"limit":1000}'))
            busy = b'"done":0' not in answer
        for status in ("queued", "running", "waiting"):
            left = get(f"/v1/runs?tag=busy&limit=1&status={status}")
            while b'"data":[]' not in (await calling.call(left))[1]:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)
        calling.close()
        return busy
