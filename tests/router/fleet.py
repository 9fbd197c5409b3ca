"""Routers of several workers on one store that can be cut off, before one simulator, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio

from greenroom.runtime.router import Limits, Router, RouterConfig
from greenroom.runtime.simulator import Fault, Latency, Simulator, SimulatorTransport
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.transports import StoreUnavailable, Transport, open_transport

from .conftest import NONE, STEADY, UNKNOWN, Rig, deployment, plans


class Cut:
    """A store that can be out of reach."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.down = False
        self.draws = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def draw(self, holder: str, draws: Any, *, lease_s: float) -> Any:
        if self.down:
            raise StoreUnavailable("the store is being moved: wait")
        self.draws += 1
        return await self.inner.draw(holder, draws, lease_s=lease_s)


@asynccontextmanager
async def cut_store() -> AsyncIterator[Cut]:
    clock = asyncio.get_running_loop().time
    async with open_transport("memory://", clock=lambda: 1_700_000_000.0 + clock()) as store:
        yield Cut(store)


class Fleet:
    """Routers of several workers, the store that they share, and the simulator behind them all."""

    def __init__(self, rigs: list[Rig], sim: Simulator, store: Transport, tasks: list[anyio.CancelScope]) -> None:
        self.rigs = rigs
        self.sim = sim
        self.store = store
        self.tasks = tasks

    def statuses(self, provider: str | None = None) -> list[int]:
        return [seen.status for seen in self.sim.seen if provider in (None, seen.provider)]


@asynccontextmanager
async def fleet(
    workers: int,
    *faults: str,
    limits: Limits = UNKNOWN,
    enforced: Enforced = NONE,
    latency: Latency = STEADY,
    providers: tuple[str, ...] = ("openai", "gemini"),
    store: Cut | None = None,
    fields: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Fleet]:
    clock = asyncio.get_running_loop().time
    sim = Simulator(plans(enforced, latency), faults=map(Fault.parse, faults), clock=clock)
    models = {"smart": tuple(deployment(name, limits=limits, **(fields or {})) for name in providers)}
    async with AsyncExitStack() as stack:
        shared = cast("Transport", store or await stack.enter_async_context(cut_store()))
        group = await stack.enter_async_context(anyio.create_task_group())
        rigs, scopes = [], []
        for number in range(workers):
            router = Router(RouterConfig(models=models, **settings), transport=SimulatorTransport(sim), seed=number)
            await stack.enter_async_context(router)
            shares, scope = router.share(shared, f"worker-{number}"), anyio.CancelScope()

            async def run(shares: Any = shares, scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await shares.run()

            group.start_soon(run)
            rigs.append(Rig(router, sim))
            scopes.append(scope)
        yield Fleet(rigs, sim, shared, scopes)
        for scope in scopes:
            scope.cancel()
