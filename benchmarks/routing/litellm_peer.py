"""LiteLLM's Router, with a Python of its own: a burst, or calls a second.

python -m benchmarks.routing.litellm_peer burst CASE URLS CONTROL, or: rate URL CALLS IN_FLIGHT -> JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import litellm

from .bursts import PER_S, QUESTION, Ask, Case, measure


def router(urls: list[str], **options: Any) -> Any:
    """The model smart on all providers."""
    litellm.suppress_debug_info = True
    rpm = {"rpm": int(PER_S * 60)} if options else {}
    return litellm.Router(
        model_list=[
            {
                "model_name": "smart",
                "litellm_params": {"model": "openai/m", "api_base": url, "api_key": "simulator", **rpm},
            }
            for url in urls
        ],
        **options,
    )


@asynccontextmanager
async def told_of_limits(urls: list[str], case: Case) -> AsyncIterator[Ask]:
    """It knows the limits, checks them before a call, and retries as often as it does by default."""
    smart = router(urls, enable_pre_call_checks=True, num_retries=2)

    async def ask(number: int) -> None:
        await smart.acompletion(model="smart", messages=QUESTION, max_tokens=16)

    yield ask


async def rate(url: str, count: int, in_flight: int) -> None:
    """Make so many calls, so many at once, and print calls a second."""
    smart = router([url], num_retries=0)
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await smart.acompletion(model="smart", messages=QUESTION)

    await smart.acompletion(model="smart", messages=QUESTION)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    print(json.dumps(count / (time.perf_counter() - began)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "rate":
        asyncio.run(rate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        measure(told_of_limits, Exception)
