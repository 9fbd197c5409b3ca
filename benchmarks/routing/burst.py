"""A burst of calls within a second, through one client after another."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from aiolimiter import AsyncLimiter
from openai import APIError, AsyncOpenAI

from greenroom.runtime.router import Deployment, Limits, Router, RouterConfig, Secret

from .providers import LATENCY_S, Providers

CALLS = 2000
LONGEST_S = 60.0
"""What is not answered by then counts as failed."""

PER_S = 60.0
QUESTION: Any = [{"role": "user", "content": "Where do lighthouse keepers sleep?"}]
Ask = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Outage:
    """How long each provider is down, seconds, from the fifth second on."""

    name: str
    down_s: tuple[float, float] = (0.0, 0.0)

    @property
    def faults(self) -> list[str]:
        """The simulator's rules."""
        names = ("openai", "gemini")
        return [
            f"{name}:503:from=5:until={5 + down_s:g}" for name, down_s in zip(names, self.down_s, strict=True) if down_s
        ]

    @property
    def optimum_s(self) -> float:
        """The shortest time in which the burst can be answered."""
        lost = sum(max(0.0, PER_S * down_s - PER_S) for down_s in self.down_s)
        return (CALLS - 2 * PER_S + lost) / (2 * PER_S) + LATENCY_S


NONE = Outage("burst")
ONE = Outage("one_down", (10.0, 0.0))
BOTH = Outage("both_down", (5.0, 5.0))


@dataclass(frozen=True)
class Outcome:
    """What came of a burst."""

    makespan_s: float
    failed: int
    refused: int
    requests: int


async def burst(at: Providers, outage: Outage, ask: Ask) -> Outcome:
    """Make all calls within a second and wait for the last."""
    answered = 0

    async def one(number: int) -> None:
        nonlocal answered
        with contextlib.suppress(APIError):
            await ask(number)
            answered += 1

    await asyncio.to_thread(at.begin, outage.faults)
    started = time.perf_counter()
    with anyio.move_on_after(LONGEST_S):
        async with anyio.create_task_group() as group:
            for number in range(CALLS):
                if (early_s := started + number / CALLS - time.perf_counter()) > 0:
                    await anyio.sleep(early_s)
                group.start_soon(one, number)
    makespan_s = time.perf_counter() - started
    state = await asyncio.to_thread(at.state)
    requests = sum(provider["requests"] for provider in state["providers"].values())
    return Outcome(makespan_s, CALLS - answered, state["http_429"], requests)


def config(at: Providers, *, known: bool) -> RouterConfig:
    """Both providers as the model smart."""
    limits = Limits(requests_per_min=PER_S * 60, burst_s=1.0) if known else Limits()
    return RouterConfig(
        models={
            "smart": tuple(
                Deployment(name=name, provider=name, model="m", base_url=url, key=Secret("simulator"), limits=limits)
                for name, url in zip(("openai", "gemini"), at.urls(), strict=True)
            )
        }
    )


@asynccontextmanager
async def routed(at: Providers, *, known: bool = True) -> Any:
    """The router, through its `llm` face."""
    async with Router(config(at, known=known), seed=1) as router, router.client() as client:

        async def ask(number: int) -> None:
            await client.chat.completions.create(model="smart", messages=QUESTION, max_completion_tokens=16)

        yield ask


@asynccontextmanager
async def plain(at: Providers, retries: int) -> Any:
    """The SDK as it is, calls in turns to both providers."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncOpenAI(api_key="simulator", base_url=url, max_retries=retries))
            for url in at.urls()
        ]

        async def ask(number: int) -> None:
            client = clients[number % 2]
            await client.chat.completions.create(model="m", messages=QUESTION, max_completion_tokens=16)

        yield ask


@asynccontextmanager
async def careful(at: Providers) -> Any:
    """Thirty careful lines: a limiter for each provider, retries, and the next provider where they do not help."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncOpenAI(api_key="simulator", base_url=url, max_retries=2))
            for url in at.urls()
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
                    await anyio.sleep(min(2.0, 0.1 * 2**attempt))

        yield ask


def over(outcome: Outcome, outage: Outage) -> float:
    """Makespan over the optimum; infinite where calls were lost."""
    return outcome.makespan_s / outage.optimum_s if not outcome.failed else math.inf
