"""A listening socket, or one sentence about why it cannot be had; and an app served on one while a block runs.

Laws kept here: 9 (a port that is taken is said at once, with what to do about it), 7 (a server stops with its block).
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn

from .errors import GreenroomError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BACKLOG = 2048
"""Connections that may wait to be accepted."""


class AddressUnavailable(GreenroomError):
    """The address cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    It is a TCP socket by name: asyncio sets TCP_NODELAY only on those, and without it each small response that
    is written in two parts waits 40 ms for the client's acknowledgement of the first.

    Raises:
        AddressUnavailable: the port is in use, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise AddressUnavailable(
            f"cannot listen on {host}:{port} ({reason}): stop what listens there, or choose another port"
        ) from None
    return listener


@asynccontextmanager
async def served(app: ASGIApp, listener: socket.socket, *, grace_s: int) -> AsyncIterator[None]:
    """Serve an app while the block runs, without a word to the log; signals are the block's affair.

    Args:
        app: has no lifespan of its own.
        listener: from `listen`.
        grace_s: how long responses may take to finish at the end, seconds; 0: they are cut.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.CRITICAL + 1,  # connections are dropped on purpose here
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=max(1, grace_s),
    )
    server = _BlockServer(config)
    async with anyio.create_task_group() as group:
        group.start_soon(server.run_until_told, listener)
        await server.up.wait()
        try:
            yield
        finally:
            server.should_exit = True
            server.force_exit = grace_s == 0


class _BlockServer(uvicorn.Server):
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
