"""Connections to providers: HTTP/1.1 with keep-alive, and no more of it than a router needs.

Why no HTTP client: with a hundred idle connections one spends more on looking through its pool, on its layers and on
parsing than all of the router does. `connection.py` is one connection; this is who keeps them. What a client adds
(redirects, cookies, the environment's proxies and keys) is what a router must not do.

Law kept here: 7 (closing ends every connection; none is used again whose answer was not read to its end).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import select
import socket
import ssl
from collections import deque
from types import TracebackType
from typing import Any, Self

import httpx2

from .connection import Address, Answer, Connection, broken

IDLE_S = 4.0
"""How long an unused connection is kept: servers close theirs after five seconds and more."""

MOST_IDLE = 100
"""Unused connections to one address."""

LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class Connections(httpx2.AsyncBaseTransport):
    """Carries requests over connections of its own. Redirects, proxies and compression are not its affair.

    A request's `timeout` extension gives `connect`; its `sent` extension is called when it is on its way.
    """

    def __init__(self) -> None:
        self._idle: dict[Address, deque[Connection]] = {}
        self._all: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        closing = list(self._all)
        for connection in closing:
            connection.close()
        for connection in closing:
            await connection.lost.wait()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its answer, whose body is read as it comes.

        Raises:
            httpx2.ConnectError, httpx2.ConnectTimeout: nobody is there.
            httpx2.RemoteProtocolError: what came is no answer.
        """
        address = _address(request)
        while (connection := self._unused(address)) is not None:
            response = await _send(connection, request).response()
            if response is not None:
                return response
        connection = self._near(address) or await self._connect(address, request)
        response = await _send(connection, request).response()
        if response is None:
            raise broken("the server hung up without an answer")
        return response

    def begin(self, request: httpx2.Request) -> Answer | None:
        """Send a request now, if a connection is free or the server is on this machine; None: it has to wait for one.

        It takes no turn of the event loop: where that is busy, a request still leaves at the moment that it may.
        """
        address = _address(request)
        connection = self._unused(address) or self._near(address)
        return None if connection is None else _send(connection, request)

    def _unused(self, address: Address) -> Connection | None:
        """Return the connection that was used last, if any is still fresh."""
        idle = self._idle.get(address)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.since < IDLE_S:
                return connection
            connection.close()
        return None

    def _near(self, address: Address) -> Connection | None:
        """Connect to a server on this machine, which takes no waiting."""
        scheme, host, port = address
        if scheme == "http" and (family := LOOPBACK.get(host)) is not None:
            near = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            near.setblocking(False)
            if near.connect_ex((host, port)) in (0, errno.EINPROGRESS):
                ready = select.poll()
                ready.register(near, select.POLLOUT)
                if ready.poll(0) and not near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return Connection(self, address, near)
            near.close()
        return None

    async def _connect(self, address: Address, request: httpx2.Request) -> Connection:
        scheme, host, port = address
        if scheme == "https" and self._tls is None:
            self._tls = httpx2.create_ssl_context(trust_env=False)
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        tls = self._tls if scheme == "https" else None
        loop: Any = asyncio.get_running_loop()
        connection: Connection
        race = {} if _digits(host) or not isinstance(loop, asyncio.BaseEventLoop) else {"happy_eyeballs_delay": 0.25}
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, address), host, port, ssl=tls, **race
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout(f"no connection within {timeout_s:g} s", request=request) from None
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        return connection

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._all.add(connection)

    def free(self, connection: Connection) -> None:
        """A connection can be used again."""
        if not connection.usable:
            connection.close()
            return
        idle = self._idle.setdefault(connection.address, deque())
        connection.since = now = asyncio.get_running_loop().time()
        idle.append(connection)
        while idle and (len(idle) > MOST_IDLE or now - idle[0].since >= IDLE_S):
            idle.popleft().close()

    def gone(self, connection: Connection) -> None:
        """A connection is lost."""
        self._all.discard(connection)
        idle = self._idle.get(connection.address)
        if idle is not None and connection in idle:
            idle.remove(connection)


def _send(connection: Connection, request: httpx2.Request) -> Answer:
    answer = connection.send(_written(request))
    if (sent := request.extensions.get("sent")) is not None:
        sent()
    return answer


def _address(request: httpx2.Request) -> Address:
    url = request.url
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _written(request: httpx2.Request) -> bytes:
    """Write a request down."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join((*lines, b"", request.content))


def _digits(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
