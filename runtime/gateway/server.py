"""The gateway on a socket, for as long as a block of code.

Laws kept here: 7 (it stops with its block, streams and all), 10 (nothing listens beyond loopback without keys).
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import uvicorn

from ..errors import ConfigInvalid
from ..listener import listen
from ..router import Router
from .app import gateway_app
from .keys import Keys


@asynccontextmanager
async def serve_gateway(
    router: Router, keys: Keys | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve an open router while the block runs; gives the base URL for OpenAI clients. Port 0: a free one.

    Raises:
        ConfigInvalid: the host is not loopback and there are no keys.
        AddressUnavailable: somebody else listens there.
    """
    keys = keys or Keys()
    if keys.open and not _loopback(host):
        raise ConfigInvalid(f"host: {host} can be reached from other machines and there are no keys: give --keys")
    with listen(host, port) as listener:
        config = uvicorn.Config(
            gateway_app(router, keys),
            log_config=None,
            log_level=logging.CRITICAL + 1,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(server.run_until_told, listener)
            await server.up.wait()
            try:
                shown = f"[{host}]" if ":" in host else host
                yield f"http://{shown}:{listener.getsockname()[1]}/v1"
            finally:
                server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server inside a block of code: signals are the block's affair."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def run_until_told(self, listener: socket.socket) -> None:
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
