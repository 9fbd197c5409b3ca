"""What the API's tests share: a real server on a free port, a client, and a worker that moves one record at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from greenroom import Approval, Decision, Signal, Workflow, workflow
from greenroom.runtime.http import ApiOptions, api, serve
from greenroom.runtime.records import (
    LeaseTaken,
    OutputDelta,
    OutputReset,
    Record,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunStarted,
    encode,
)
from greenroom.runtime.runs import Runs
from greenroom.transports import (
    Claim,
    Finish,
    Lease,
    RunState,
    StoreUnavailable,
    Terms,
    Transition,
    Transport,
    open_transport,
)


class Article(msgspec.Struct):
    """A result with a shape."""

    title: str
    words: int = 0


words = Signal("words", str)
publish = Approval("publish", Decision)


@workflow(signals=[words], approvals=[publish])
async def newsroom(topic: str, posts: int = 3) -> Article:
    """Write an article about a topic."""
    return Article(title=topic, words=posts)


@workflow
async def idle() -> None:
    """Do nothing."""


class Faulty:
    """A store that can be taken away."""

    def __init__(self, store: Transport) -> None:
        self.gone = False
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if self.gone:
            raise StoreUnavailable("the disk is full: free some space")
        return getattr(self._store, name)


class Hand:
    """A worker moved by hand: it claims by the transport's contract and appends what a test tells it to."""

    def __init__(self, store: Transport, *workflows: str) -> None:
        self.store = store
        self._terms = dict.fromkeys(workflows, Terms())
        self._leases: dict[str, Lease] = {}

    async def claim(self, run_id: str) -> Claim:
        """Claim until this run is held."""
        while True:
            for claim in await self.store.claim("hand", self._terms, limit=100, lease_s=60):
                self._leases[claim.run.run_id] = claim.lease
                lease = LeaseTaken(worker="hand", build="test", fence=claim.lease.fence)
                await self.append(claim.run.run_id, lease, RunStarted())
                if claim.run.run_id == run_id:
                    return claim
            await asyncio.sleep(0)

    async def append(self, run_id: str, *records: Record, to: Transition | None = None) -> None:
        """Append in one act."""
        await self.store.append(self._leases[run_id], [encode(record) for record in records], to)

    async def say(self, run_id: str, *words: str, attempt: int = 1) -> None:
        """Append output, one record a word."""
        await self.append(run_id, *(OutputDelta(step="write", attempt=attempt, text=word) for word in words))

    async def reset(self, run_id: str, attempt: int = 1) -> None:
        """Take back what an attempt has said."""
        await self.append(run_id, OutputReset(step="write", attempt=attempt))

    async def complete(self, run_id: str, result: object = None) -> None:
        """End the run with a result."""
        ended = RunCompleted(result=msgspec.Raw(msgspec.json.encode(result)))
        await self.append(run_id, ended, to=Finish(RunState.COMPLETED))

    async def fail(self, run_id: str, error: Any) -> None:
        """End the run with an error."""
        await self.append(run_id, RunFailed(error=error), to=Finish(RunState.FAILED))

    async def cancel(self, run_id: str, reason: str = "") -> None:
        """End the run as canceled."""
        await self.append(run_id, RunCanceled(reason=reason), to=Finish(RunState.CANCELED))


@asynccontextmanager
async def served(app: Starlette, *, port: int = 0, **options: Any) -> AsyncIterator[str]:
    """Serve an app on a port, by default a free one; its URL."""
    started = anyio.Event()
    urls: list[str] = []

    def ready(url: str) -> None:
        urls.append(url)
        started.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: serve(app, port=port, ready=ready, **options))
        await started.wait()
        yield urls[0]
        group.cancel_scope.cancel()


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event, or a comment (`event` is then ":")."""

    event: str
    data: Any = None
    id: int | None = None


async def frames(response: httpx2.Response) -> AsyncGenerator[Frame]:
    """The events of a stream, by the rules of the WHATWG."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Frame(":")
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Frame(fields["event"], msgspec.json.decode(fields["data"]), number)
            fields = {}
        else:
            fields = {}


class House:
    """A store, its runs, the API over them on a real socket, and a client."""

    def __init__(self, store: Transport, *workflows: Workflow[..., Any]) -> None:
        self.store = store
        self.runs = Runs(store, {workflow.name: workflow for workflow in workflows})
        self.hand = Hand(store, *self.runs.workflows)
        self.app: Starlette = Starlette()
        self.url = ""
        self.client = httpx2.AsyncClient()

    async def start(self, **arguments: Any) -> str:
        """Start a run of `newsroom` beside the API; its id."""
        run, _ = await self.runs.start("newsroom", msgspec.json.encode({"topic": "tea"} | arguments))
        return run.run_id

    async def read(
        self, path: str, count: int | None = None, *, last: int | None = None, accept: str = "text/event-stream"
    ) -> list[Frame]:
        """Follow a stream for `count` events, or to its end, from the event `last` on; then hang up."""
        headers = {"accept": accept} | ({} if last is None else {"last-event-id": str(last)})
        read: list[Frame] = []
        async with self.client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            async with aclosing(frames(response)) as events:
                async for frame in events:
                    read.append(frame)
                    if len(read) == count:
                        break
        return read


@asynccontextmanager
async def open_house(
    options: ApiOptions | None = None,
    *,
    workflows: Sequence[Workflow[..., Any]] = (newsroom, idle),
    url: str = "memory://",
    **serving: Any,
) -> AsyncIterator[House]:
    """Open a house."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_transport(url))
        house = House(store, *workflows)
        house.app = api(house.runs, options=options)
        house.url = await stack.enter_async_context(served(house.app, **serving))
        house.client = await stack.enter_async_context(httpx2.AsyncClient(base_url=house.url, timeout=20))
        yield house


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house
