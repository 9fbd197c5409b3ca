"""The clients that a burst goes through: python -m benchmarks.routing.clients SYSTEM CASE URLS CONTROL -> JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiolimiter import AsyncLimiter
from openai import APIError, AsyncOpenAI

from greenroom.runtime.router import Deployment, Limits, Router, RouterConfig, Secret

from .bursts import PER_S, QUESTION, Ask, Case, measure


def config(urls: list[str], *, known: bool) -> RouterConfig:
    """All providers as the model smart."""
    limits = Limits(requests_per_min=PER_S * 60, burst_s=1.0) if known else Limits()
    return RouterConfig(
        models={
            "smart": tuple(
                Deployment(name=name, provider=name, model="m", base_url=url, key=Secret("simulator"), limits=limits)
                for name, url in zip(("openai", "gemini"), urls, strict=False)
            )
        }
    )


@asynccontextmanager
async def greenroom(urls: list[str], case: Case) -> AsyncIterator[Ask]:
    """The router, through its `llm` face."""
    async with Router(config(urls, known=case.known), seed=1) as router, router.client() as client:

        async def ask(number: int) -> None:
            await client.chat.completions.create(model="smart", messages=QUESTION, max_completion_tokens=16)

        yield ask


@asynccontextmanager
async def plain(urls: list[str], case: Case) -> AsyncIterator[Ask]:
    """The SDK as it is, which retries twice; calls in turns to both providers."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncOpenAI(api_key="simulator", base_url=url, max_retries=2))
            for url in urls
        ]

        async def ask(number: int) -> None:
            client = clients[number % 2]
            await client.chat.completions.create(model="m", messages=QUESTION, max_completion_tokens=16)

        yield ask


@asynccontextmanager
async def careful(urls: list[str], case: Case) -> AsyncIterator[Ask]:
    """Thirty careful lines: a limiter for each provider, retries, and the next provider where they do not help."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncOpenAI(api_key="simulator", base_url=url, max_retries=2))
            for url in urls
        ]
        limiters = [AsyncLimiter(PER_S, 1.0) for _ in clients]

        async def ask(number: int) -> None:
            for attempt in range(60):
                which = (number + attempt) % 2
                try:
                    async with limiters[which]:
                        await clients[which].chat.completions.create(
                            model="m", messages=QUESTION, max_completion_tokens=16
                        )
                    return
                except APIError:
                    if attempt == 59:
                        raise
                    await asyncio.sleep(min(2.0, 0.1 * 2**attempt))

        yield ask


SYSTEMS = {"greenroom": greenroom, "openai SDK": plain, "aiolimiter": careful}

if __name__ == "__main__":
    measure(SYSTEMS[sys.argv[1]], APIError)
