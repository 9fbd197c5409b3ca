"""Workers that share limits through their store: no window sees more, nobody hoards, and what one knows all know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from greenroom.runtime.router import Limits, Router, RouterConfig
from greenroom.runtime.simulator import Fault, Latency, Simulator, SimulatorTransport
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.transports import Transport, open_transport

from .conftest import NONE, STEADY, UNKNOWN, Rig, deployment, plans


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
    store: Transport | None = None,
    fields: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Fleet]:
    clock = asyncio.get_running_loop().time
    sim = Simulator(plans(enforced, latency), faults=map(Fault.parse, faults), clock=clock)
    models = {"smart": tuple(deployment(name, limits=limits, **(fields or {})) for name in providers)}
    async with AsyncExitStack() as stack:
        store = store or await stack.enter_async_context(
            open_transport("memory://", clock=lambda: 1_700_000_000.0 + clock())
        )
        group = await stack.enter_async_context(anyio.create_task_group())
        rigs, scopes = [], []
        for number in range(workers):
            router = Router(RouterConfig(models=models, **settings), transport=SimulatorTransport(sim), seed=number)
            await stack.enter_async_context(router)
            shares, scope = router.share(store, f"worker-{number}"), anyio.CancelScope()

            async def run(shares: Any = shares, scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await shares.run()

            group.start_soon(run)
            rigs.append(Rig(router, sim))
            scopes.append(scope)
        yield Fleet(rigs, sim, store, scopes)
        for scope in scopes:
            scope.cancel()


BURST = Limits(requests_per_min=3600, burst_s=1.0)
ENFORCED = Enforced(requests_per_min=3600, burst_s=1.0)


async def test_workers_drain_a_burst_at_the_sum_of_shared_limits(anyio_backend: Any) -> None:
    """4 workers, 800 calls at once, two providers of 60/s with a burst of 60."""
    async with fleet(4, limits=BURST, enforced=ENFORCED) as one:
        await asyncio.gather(*(one.rigs[n % 4].ask(max_completion_tokens=6) for n in range(800)))
        assert set(one.statuses()) == {200}
        assert asyncio.get_running_loop().time() <= ((800 - 120) / 120 + 0.02) * 1.05
        assert one.sim.over_limit_windows() == 0


async def test_a_worker_gets_all_that_others_do_not_use(anyio_backend: Any) -> None:
    async with fleet(4, limits=BURST, enforced=ENFORCED) as one:
        await asyncio.gather(*(one.rigs[0 if n % 8 else 1].ask(max_completion_tokens=6) for n in range(800)))
        assert set(one.statuses()) == {200}
        assert asyncio.get_running_loop().time() <= ((800 - 120) / 120 + 0.02) * 1.07
