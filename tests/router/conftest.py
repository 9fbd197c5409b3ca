"""A router before an in-process simulator, on virtual time: the real SDK above, the real protocol below, no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from openai import AsyncOpenAI

from greenroom.runtime.router import (
    BreakerPolicy,
    CallRecord,
    Deployment,
    Limits,
    Router,
    RouterConfig,
    Secret,
    Timeouts,
    observer,
)
from greenroom.runtime.simulator import Fault, Latency, ProviderPlan, Simulator, SimulatorTransport
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.runtime.testing.clock import virtual_backend

KEY = "sk-canary-5e3f9a"
STEADY = Latency(first_token_s=0.02, tokens_per_s=0, jitter=0)
UNKNOWN = Limits()
NONE = Enforced()
QUESTION: Any = [{"role": "user", "content": "Where do lighthouse keepers sleep?"}]


LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(
        ("asyncio", {"use_uvloop": True}),
        id="uvloop",
        marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is in the extra 'fast'"),
    ),
]
"""`greenroom serve` runs on uvloop where it is installed."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


def deployment(provider: str, model: str = "m", **fields: Any) -> Deployment:
    path = {"openai": "openai/v1", "gemini": "gemini/v1beta/openai"}[provider]
    defaults: dict[str, Any] = {
        "name": f"{provider}/{model}",
        "timeouts": Timeouts(connect=1, first_token=5, between_tokens=5, total=20),
        "breaker": BreakerPolicy(failures=3, pause_s=2, longest_pause_s=8),
    }
    return Deployment(
        provider=provider,
        model=model,
        base_url=f"http://simulator.invalid/{path}",
        key=Secret(KEY),
        **{**defaults, **fields},
    )


class Rig:
    """A router, what it told its observer, and the simulator behind it."""

    def __init__(self, router: Router, sim: Simulator) -> None:
        self.router = router
        self.sim = sim
        self.records: list[CallRecord] = []
        self.client: AsyncOpenAI = router.client()

    def statuses(self) -> list[tuple[str, int]]:
        return [(seen.provider, seen.status) for seen in self.sim.seen]

    async def ask(self, model: str = "smart", **options: Any) -> Any:
        return await self.client.chat.completions.create(
            model=model, messages=options.pop("messages", QUESTION), **options
        )

    async def read(self, model: str = "smart", **options: Any) -> str:
        text = ""
        async for chunk in await self.ask(model, stream=True, **options):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return text


RigMaker = Callable[..., AbstractAsyncContextManager[Rig]]


def plans(limits: Enforced, latency: Latency) -> tuple[ProviderPlan, ...]:
    return tuple(
        ProviderPlan(name=name, models=("*",), limits=limits, latency=latency) for name in ("openai", "gemini")
    )


@asynccontextmanager
async def open_rig(
    *faults: str,
    models: dict[str, tuple[Deployment, ...]] | None = None,
    limits: Limits = UNKNOWN,
    enforced: Enforced = NONE,
    latency: Latency = STEADY,
    seed: int = 0,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Two providers behind the model smart, unless `models` says otherwise."""
    clock = asyncio.get_running_loop().time
    sim = Simulator(plans(enforced, latency), faults=map(Fault.parse, faults), seed=seed, clock=clock)
    both = (deployment("openai", limits=limits), deployment("gemini", limits=limits))
    config = RouterConfig(models=models or {"smart": both}, **settings)
    async with Router(config, transport=SimulatorTransport(sim), seed=seed) as router:
        rig = Rig(router, sim)
        token = observer.set(rig.records.append)
        try:
            yield rig
        finally:
            observer.reset(token)


@pytest.fixture
def rig() -> RigMaker:
    return open_rig


def busiest(times_and_amounts: Iterable[tuple[float, float]], window_s: float = 60.0) -> float:
    """The largest sum in any window."""
    points = sorted(times_and_amounts)
    return max(
        (sum(amount for at, amount in points if start <= at < start + window_s) for start, _ in points), default=0.0
    )
