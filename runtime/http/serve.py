"""Serving the app on a socket: refuses what is unsafe, says why a port cannot be had, and stops in order.

Why: an event stream never ends by itself, so a server that waits for its responses never stops. Here a signal
first drains the streams and then the server; and ending `serve` by cancellation does the same.

Laws kept here: 7 (shutdown is in order and bounded), 10 (nothing listens beyond loopback without a token).
"""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigInvalid
from ..listener import listen
from .connection import AT_ONCE
from .options import TOKEN_VARIABLE, ApiOptions
from .problems import Shield
from .streams import Streams


async def serve(
    app: Starlette,
    *,
    host: str = "127.0.0.1",
    port: int = 8800,
    insecure: bool = False,
    grace_s: int = 5,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve an app that `api` made until SIGTERM or SIGINT, or until canceled.

    Args:
        app: from `api` or `Runtime.asgi`.
        host: where to listen.
        port: 0 for any free one.
        insecure: listen beyond loopback though no token is set.
        grace_s: how long responses may take to finish when it stops, seconds.
        ready: called with the URL once requests are answered.

    Raises:
        ConfigInvalid: the host is not loopback, and neither is a token set nor `insecure`.
        AddressUnavailable: the port is in use, or the host is not one of this machine.
    """
    options: ApiOptions = app.state.options
    streams: Streams = app.state.streams
    if not options.secured and not insecure and beyond_loopback(host):
        raise ConfigInvalid(
            f"host: {host} can be reached from other machines and no token is set: set {TOKEN_VARIABLE}, "
            "serve on 127.0.0.1, or say insecure"
        )
    with listen(host, port) as listener:
        config = uvicorn.Config(
            _direct(app),
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=grace_s,
        )
        server = _Server(config, lambda: ready(_url(host, listener)) if ready is not None else None)
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_when_canceled, server, streams)
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[listener])
            group.cancel_scope.cancel()


def _direct(app: Starlette) -> ASGIApp:
    """Offer uvicorn's own `send` to streams (`AT_ONCE`), unless something that was added to the app comes between."""
    outermost: object = next((middleware.cls for middleware in app.user_middleware), None)
    if outermost is not Shield:
        return app

    def begin(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope[AT_ONCE] = send
        return app(scope, receive, send)

    return begin


class _Server(uvicorn.Server):
    """uvicorn's server, but a signal that stopped it is not raised again: whoever serves goes on to clean up."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)


async def _stop_when_canceled(server: uvicorn.Server, streams: Streams) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        streams.drain()
        server.should_exit = True


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def beyond_loopback(host: str) -> bool:
    """Whether other machines could reach what listens there."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
