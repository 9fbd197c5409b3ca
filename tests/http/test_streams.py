"""Streams on virtual time, spoken to in bare ASGI: silence, stalled clients, limits, draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette

from greenroom import workflow
from greenroom.runtime.http import ApiOptions, api
from greenroom.runtime.http.connection import PING_S, STALL_S
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.clock import virtual_backend
from greenroom.transports import Transport, open_transport

from .conftest import Faulty


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@workflow
async def newsroom(topic: str) -> str:
    """Write."""
    return topic


class Client:
    """The other end of one ASGI request."""

    def __init__(self, app: Starlette, path: str, *headers: tuple[bytes, bytes]) -> None:
        self.app = app
        self.path = path
        self.headers = list(headers)
        self.status = 0
        self.chunks: list[bytes] = []
        self.closed = False
        self.leaves = anyio.Event()
        self.reads = anyio.Event()
        self.reads.set()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.chunks.append(message.get("body", b""))
        self.closed = not message.get("more_body", False)

    async def run(self) -> None:
        """Make the request, to its end."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": self.path,
            "root_path": "",
            "query_string": b"",
            "headers": self.headers,
            "server": ("testserver", 80),
        }
        await self.app(scope, self.receive, self.send)


@pytest.fixture
async def store() -> AsyncIterator[Transport]:
    async with open_transport("memory://") as transport:
        yield transport


async def started(store: Transport, options: ApiOptions | None = None) -> tuple[Starlette, Client]:
    """An app, and a client about to follow a queued run that never moves."""
    runs = Runs(store, {"newsroom": newsroom})
    run, _ = await runs.start("newsroom", b'{"topic": "tea"}')
    app = api(runs, options=options)
    return app, Client(app, f"/v1/runs/{run.run_id}/events")


async def test_silence_is_filled_with_comments(store: Transport) -> None:
    """One every 15 s: a proxy that cuts silent connections has no reason to."""
    _, client = await started(store)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(PING_S * 3 + 1)
        assert client.chunks[-3:] == [b": ping\n\n"] * 3
        assert client.chunks.count(b": ping\n\n") == 3
        client.leaves.set()
    assert asyncio.get_running_loop().time() == PING_S * 3 + 1


async def test_a_client_that_takes_nothing_is_cut(store: Transport) -> None:
    """Its place is free again; it can resume with its cursor."""
    app, client = await started(store)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        client.reads = anyio.Event()
        await anyio.sleep(PING_S + STALL_S - 2)
        assert len(app.state.streams) == 1
        await anyio.sleep(3)
        assert len(app.state.streams) == 0


async def test_draining_ends_streams_with_a_word(store: Transport) -> None:
    app, client = await started(store)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        app.state.streams.drain()
    assert client.chunks[-1].startswith(b"event: server-shutdown\ndata: {")
    assert client.closed
    assert asyncio.get_running_loop().time() == 1
    late = Client(app, client.path)
    await late.run()
    assert late.status == 503
    ready = Client(app, "/readyz")
    await ready.run()
    assert ready.status == 503


async def test_draining_does_not_wait_for_a_client_that_takes_nothing(store: Transport) -> None:
    app, client = await started(store)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        client.reads = anyio.Event()
        app.state.streams.drain()
    assert asyncio.get_running_loop().time() < 2


async def test_streams_are_limited(store: Transport) -> None:
    app, client = await started(store, ApiOptions(max_streams=1))
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        second = Client(app, client.path)
        await second.run()
        assert (second.status, b"max_streams" in second.chunks[0]) == (503, True)
        client.leaves.set()


async def test_a_client_that_leaves_gets_no_last_words(store: Transport) -> None:
    _, client = await started(store)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        client.leaves.set()
    assert client.chunks == [b"retry: 2000\n\n", client.chunks[1]]
    assert not client.closed


async def test_draining_ends_a_wait_with_what_is_known(store: Transport) -> None:
    """The run was accepted and goes on: 202, and the client asks again elsewhere."""
    app, client = await started(store)
    waiting = Client(app, client.path.replace("/events", "/result"), (b"prefer", b"wait=50"))
    async with anyio.create_task_group() as group:
        group.start_soon(waiting.run)
        await anyio.sleep(1)
        assert waiting.status == 0
        app.state.streams.drain()
    assert (waiting.status, asyncio.get_running_loop().time()) == (202, 1)


async def test_a_store_that_fails_in_mid_stream_ends_it_without_a_terminal_event(store: Transport) -> None:
    """The client comes back with its cursor and is told why; nothing is made up for it."""
    faulty: Any = Faulty(store)
    app, client = await started(faulty)
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await anyio.sleep(1)
        faulty.gone = True
    assert client.closed
    assert b"".join(client.chunks).count(b"event: ") == 1
    again = Client(app, client.path)
    await again.run()
    assert (again.status, b"disk is full" in again.chunks[0]) == (503, True)
