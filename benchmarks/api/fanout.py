"""Many readers of runs that go on: how long an event takes to them, and what that costs the server.

The records are appended by this process through the store, as a worker does, and reach the API as a worker's do.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from greenroom.runtime.records import LeaseTaken, OutputDelta, RunCompleted, RunStarted, encode
from greenroom.transports import Finish, Lease, RunState, Terms, Transport, open_transport

from .processes import Server
from .wire import Reader, Story, at_once, caller, get, post

TEXT = "a few words of what a model says, "
ADDRESSES = 50
"""Loopback addresses that readers come from: no client may open all streams."""


@dataclass(frozen=True)
class Cost:
    """What a round of events has cost: seconds from append to reader, CPU microseconds of the server a delivery."""

    p50_ms: float
    p99_ms: float
    cpu_us: float


class Author:
    """Appends to runs, each with its story."""

    def __init__(self, store: Transport, leases: list[Lease]) -> None:
        self.stories = [Story() for _ in leases]
        self._store = store
        self._leases = leases
        self._seqs = [3] * len(leases)

    async def say(self, number: int) -> None:
        """Append a few words to a run."""
        self._seqs[number] += 1
        self.stories[number].appended[self._seqs[number]] = time.perf_counter()
        await self._store.append(self._leases[number], [encode(OutputDelta(step="write", attempt=1, text=TEXT))])

    async def write(self, number: int, count: int) -> None:
        """Append many records at once."""
        delta = encode(OutputDelta(step="write", attempt=1, text=TEXT))
        for _ in range(0, count, 500):
            await self._store.append(self._leases[number], [delta] * min(500, count))

    async def end(self, number: int) -> None:
        """End a run."""
        done = encode(RunCompleted(result=b"null"))  # type: ignore[arg-type]
        await self._store.append(self._leases[number], [done], Finish(RunState.COMPLETED))

    def run_id(self, number: int) -> str:
        """The id of a run."""
        return self._leases[number].run_id


@asynccontextmanager
async def authored(server: Server, store_url: str, runs: int) -> AsyncIterator[Author]:
    """Start runs over the API and hold their leases."""
    asking = await caller(server.port)
    ids = []
    for number in range(runs):
        ids.append(f"told-{time.time_ns():x}-{number}")
        body = f'{{"input":{{"topic":"tea"}},"run_id":"{ids[-1]}"}}'.encode()
        status, answer = await asking.call(post("/v1/workflows/told/runs", body))
        if status != 202:
            raise RuntimeError(answer.decode())
    asking.close()
    async with open_transport(store_url) as store:
        leases: dict[str, Lease] = {}
        while len(leases) < runs:
            for claim in await store.claim("author", {"told": Terms()}, limit=runs, lease_s=600):
                leases[claim.run.run_id] = claim.lease
                taken = LeaseTaken(worker="author", build="b", fence=claim.lease.fence)
                await store.append(claim.lease, [encode(taken), encode(RunStarted())])
        yield Author(store, [leases[run_id] for run_id in ids])


async def followed(port: int, path: str, story: Story, readers: int) -> list[Reader]:
    """Connect readers."""
    loop = asyncio.get_running_loop()
    request, opened = get(path, "text/event-stream"), []

    async def connect(number: int) -> None:
        source = (f"127.0.0.{2 + number % ADDRESSES}", 0)
        _, reader = await loop.create_connection(lambda: Reader(story, request), "127.0.0.1", port, local_addr=source)
        opened.append(reader)

    await at_once(readers, connect, 100)
    return opened


async def tell(
    server: Server,
    stories: list[Story],
    say: Callable[[int], Awaitable[None]],
    readers: int,
    *,
    events: int,
    per_s: float,
) -> Cost:
    """Tell every reader of every story so many events at a pace.

    Args:
        server: what is measured.
        stories: each with `readers` readers that have what there is.
        say: appends to a story.
        readers: of each story.
        events: of each story.
        per_s: of each story.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    before = [story.delivered for story in stories]
    for story in stories:
        story.latencies.clear()
    cpu, start = server.cpu_s(), time.perf_counter()
    try:
        for event in range(events):
            for number in range(len(stories)):
                due = start + (event + number / len(stories)) / per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await say(number)
        for story, known in zip(stories, before, strict=True):
            await asyncio.wait_for(story.deliveries(known + events * readers), 60)
    finally:
        gc.enable()
    used = server.cpu_s() - cpu
    faults = [fault for story in stories for fault in story.faults]
    if faults:
        raise RuntimeError(f"{len(faults)} faults: {faults[:3]}")
    latencies = sorted(latency for story in stories for latency in story.latencies)
    return Cost(at(latencies, 0.5) * 1e3, at(latencies, 0.99) * 1e3, used / (events * readers * len(stories)) * 1e6)


def at(ordered: list[float], quantile: float) -> float:
    """A quantile of samples in order: the smallest one that so many are not above."""
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
