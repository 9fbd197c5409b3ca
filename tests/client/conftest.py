"""What the client's tests share: a house with a worker moved by hand, and a proxy that cuts connections."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from greenroom.client import Client

from ..http.conftest import House, open_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest.fixture
async def client(house: Any) -> AsyncIterator[Client]:
    async with Client(house.url) as client:
        yield client


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cutter:
    """A proxy that cuts each connection after so many bytes of answer; None: never."""

    def __init__(self, port: int, allow: Callable[[], int | None]) -> None:
        self._port = port
        self._allow = allow
        self.cuts = 0

    async def carry(self, client: SocketStream) -> None:
        """Carry one connection."""
        allowed = self._allow()
        server = await anyio.connect_tcp("127.0.0.1", self._port)
        async with client, server, anyio.create_task_group() as group:
            group.start_soon(self._pass, client, server, None, group.cancel_scope)
            group.start_soon(self._pass, server, client, allowed, group.cancel_scope)

    async def _pass(
        self, source: ByteStream, target: ByteStream, allowed: int | None, scope: anyio.CancelScope
    ) -> None:
        try:
            async for data in source:
                if allowed is not None and len(data) >= allowed:
                    await target.send(data[:allowed])
                    self.cuts += 1
                    break
                allowed = None if allowed is None else allowed - len(data)
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def cutting(url: str, allow: Callable[[], int | None]) -> AsyncIterator[tuple[str, Cutter]]:
    """Run a proxy to a URL; its own."""
    cutter = Cutter(int(url.rpartition(":")[2]), allow)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, cutter.carry)
        port = listener.extra(SocketAttribute.local_port)
        yield f"http://127.0.0.1:{port}", cutter
        group.cancel_scope.cancel()
