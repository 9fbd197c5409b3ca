"""What the runtime's tests share: virtual time, and a store with a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from greenroom import WorkerSettings, Workflow
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.clock import virtual_backend
from greenroom.runtime.worker import Worker, open_worker
from greenroom.transports import Transport, open_transport


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@pytest.fixture
async def store() -> AsyncIterator[Transport]:
    loop = asyncio.get_running_loop()
    async with open_transport("memory://", clock=loop.time) as transport:
        yield transport


class House:
    """A store, some workflows, and workers when a test wants them."""

    def __init__(self, store: Transport, *workflows: Workflow[..., Any]) -> None:
        self.store = store
        self.runs = Runs(store, {workflow.name: workflow for workflow in workflows})

    @asynccontextmanager
    async def worker(self, name: str = "w", *, lease_s: float = 3.0, **settings: Any) -> AsyncIterator[Worker]:
        opts = WorkerSettings(name=name, lease_s=lease_s, seed=0, build="test", **settings)
        async with open_worker(self.store, self.runs.workflows, opts, RouterConfig(models={})) as worker:
            yield worker


@pytest.fixture
def house(store: Transport) -> Callable[..., House]:
    return lambda *workflows: House(store, *workflows)


WorkerMaker = Callable[..., AbstractAsyncContextManager[Worker]]
