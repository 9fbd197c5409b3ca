"""What the router costs: processor time that it adds to a call and to a chunk, and calls a second.

python -m benchmarks.routing.cost URL -> JSON. The provider is `bare`: it costs less than any client.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI

from greenroom.runtime.router import Router

from .bursts import QUESTION
from .clients import config

ROUNDS = 9
CALLS = 100
STREAMS = 5
RATE_CALLS = 1000
IN_FLIGHT = 64


async def calls(once: Callable[[], Awaitable[Any]], count: int, in_flight: int) -> None:
    """Make so many calls, so many at once."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await once()

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())


async def cpu_us(once: Callable[[], Awaitable[int]], count: int) -> float:
    """Return the processor time of one unit, where `once` says how many it did."""
    units = 0
    gc.collect()
    began = time.process_time()
    for _ in range(count):
        units += await once()
    return (time.process_time() - began) / units * 1e6


async def costs(url: str) -> dict[str, dict[str, list[float]]]:
    """Measure plain SDK and router in turns: us a call, us a chunk, calls a second."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ("call", "chunk", "rate")}
    async with (
        AsyncOpenAI(api_key="simulator", base_url=url, max_retries=0) as sdk,
        Router(config([url], known=False)) as router,
        router.client() as client,
    ):

        def whole(by: AsyncOpenAI, model: str) -> Callable[[], Awaitable[int]]:
            async def once() -> int:
                await by.chat.completions.create(model=model, messages=QUESTION)
                return 1

            return once

        def streamed(by: AsyncOpenAI, model: str) -> Callable[[], Awaitable[int]]:
            async def once() -> int:
                stream: Any = await by.chat.completions.create(model=model, messages=QUESTION, stream=True)
                return len([chunk async for chunk in stream])

            return once

        async def direct() -> int:
            response = await router.request("/chat/completions", {"model": "smart", "messages": QUESTION})
            assert response.status_code == 200
            return 1

        ways = {"openai": (sdk, "m"), "router": (client, "smart")}
        await calls(direct, 2000, IN_FLIGHT)  # the pace has found that there is no limit
        for number in range(ROUNDS + 1):
            for name, (by, model) in ways.items():
                call = await cpu_us(whole(by, model), CALLS)
                chunk = await cpu_us(streamed(by, model), STREAMS)
                if number:
                    found["call"].setdefault(name, []).append(call)
                    found["chunk"].setdefault(name, []).append(chunk)
        for _ in range(3):
            for name, once in (
                ("openai", whole(sdk, "m")),
                ("router", whole(client, "smart")),
                ("Router.request", direct),
            ):
                began = time.perf_counter()
                await calls(once, RATE_CALLS, IN_FLIGHT)
                found["rate"].setdefault(name, []).append(RATE_CALLS / (time.perf_counter() - began))
    return found


def added_us(samples: dict[str, list[float]]) -> float:
    """Return the median of what the router adds, round by round."""
    return statistics.median(routed - plain for routed, plain in zip(samples["router"], samples["openai"], strict=True))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(costs(sys.argv[1]))), flush=True)
