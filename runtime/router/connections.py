"""Connections to providers: HTTP/1.1 with keep-alive, and no more of it than a router needs.

Why no HTTP client: with a hundred idle connections one spends more on looking through its pool, on its layers and on
parsing than all of the router does. Here a request is one write, and an answer is parsed where it arrives. What a
client adds (redirects, cookies, the environment's proxies and keys) is what a router must not do.

Laws kept here: 11 (a head is bounded; a body is read from the socket no faster than its reader takes it), 7 (closing
ends every connection; one whose answer was not read to its end is not used again).
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from types import TracebackType
from typing import Self

import httpx2

IDLE_S = 4.0
"""How long an unused connection is kept: servers close theirs after five seconds and more."""

MOST_IDLE = 100
"""Unused connections to one address."""

LONGEST_HEAD = 64 * 1024
"""Bytes of a status line with its headers."""

HIGH_WATER = 256 * 1024
"""Bytes of a body that wait for their reader before the socket is read no further."""

AFTER = -1
"""What is left of a chunk of which all came but the line's end."""

Address = tuple[str, str, int]
Headers = list[tuple[bytes, bytes]]


class Connections(httpx2.AsyncBaseTransport):
    """Carries requests over connections of its own. Redirects, proxies and compression are not its affair.

    A request's `timeout` extension gives `connect`; its `sent` extension is called when it is on its way.
    """

    def __init__(self) -> None:
        self._idle: dict[Address, deque[_Connection]] = {}
        self._all: set[_Connection] = set()
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
        url = request.url
        address = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        written = _written(request)
        sent = request.extensions.get("sent")
        while True:
            connection = self._unused(address)
            used = connection is not None
            if connection is None:
                connection = await self._connect(address, request)
            try:
                connection.send(written)
                if sent is not None:
                    sent()
                status, headers = await connection.head()
            except _Gone:
                if used:  # closed while it was idle, before the request came
                    continue
                raise httpx2.RemoteProtocolError("the server hung up without an answer", request=request) from None
            except httpx2.TransportError as error:
                connection.close()
                error.request = request
                raise
            except BaseException:
                connection.close()
                raise
            return httpx2.Response(status, headers=headers, stream=_Body(connection))

    def _unused(self, address: Address) -> _Connection | None:
        """Return the connection that was used last, if any is still fresh."""
        idle = self._idle.get(address)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.since < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, address: Address, request: httpx2.Request) -> _Connection:
        scheme, host, port = address
        if scheme == "https" and self._tls is None:
            self._tls = httpx2.create_ssl_context(trust_env=False)
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, address),
                    host,
                    port,
                    ssl=self._tls if scheme == "https" else None,
                    happy_eyeballs_delay=None if _literal(host) else 0.25,
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout(f"no connection within {timeout_s:g} s", request=request) from None
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        return connection

    def opened(self, connection: _Connection) -> None:
        """A connection is there."""
        self._all.add(connection)

    def free(self, connection: _Connection) -> None:
        """A connection can be used again."""
        idle = self._idle.setdefault(connection.address, deque())
        connection.since = now = asyncio.get_running_loop().time()
        idle.append(connection)
        while idle and (len(idle) > MOST_IDLE or now - idle[0].since >= IDLE_S):
            idle.popleft().close()

    def gone(self, connection: _Connection) -> None:
        """A connection is lost."""
        self._all.discard(connection)
        idle = self._idle.get(connection.address)
        if idle is not None and connection in idle:
            idle.remove(connection)


class _Gone(Exception):
    """The connection ended before an answer began."""


class _Connection(asyncio.Protocol):
    """One connection, with one request on it at a time."""

    def __init__(self, owner: Connections, address: Address) -> None:
        self.address = address
        self.since = 0.0
        self.lost = asyncio.Event()
        self.done = True
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._bytes = b""
        self._answer: tuple[int, Headers] | None = None
        self._blocks: list[bytes] = []
        self._held = 0
        self._left: int | None = None
        self._chunked = False
        self._in_body = False
        self._keep = True
        self._paused = False
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return self.done and self._keep and self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """End it at once."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()

    # --- the request's side

    def send(self, written: bytes) -> None:
        """Send a request; whatever came before it belongs to no answer."""
        if not self.usable or self._transport is None:
            raise _Gone
        self.done, self._in_body, self._answer, self._bytes = False, False, None, b""
        self._transport.write(written)

    async def head(self) -> tuple[int, Headers]:
        """Wait for the status and the headers."""
        while self._answer is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._answer

    async def block(self) -> bytes | None:
        """Wait for a piece of the body; None at its end."""
        while not self._blocks:
            if self.done:
                return None
            if self._error is not None:
                raise self._error
            await self._wait()
        block = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return block

    def finish(self) -> None:
        """The answer's reader has gone: whole or not at all, a connection is used again."""
        if self.done and not self._blocks and self.usable:
            self._owner.free(self)
        else:
            self._blocks.clear()
            self.close()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._keep = False
        if not self.done:
            if self._in_body and self._left is None and not self._chunked and error is None:
                self.done = True
            elif self._error is None and self._answer is None and not self._bytes:
                self._error = _Gone()
            elif self._error is None:
                said = type(error).__name__ if error is not None else "the server hung up in the middle of an answer"
                self._error = httpx2.RemoteProtocolError(said) if error is None else httpx2.ReadError(said)
        self._owner.gone(self)
        self.lost.set()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self.done:
            self.close()  # nothing was asked
            return
        try:
            self._take(self._bytes + data if self._bytes else data)
        except (httpx2.RemoteProtocolError, ValueError) as error:
            self._error = error if isinstance(error, httpx2.RemoteProtocolError) else _malformed(error)
            self.close()
        if self._held > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _take(self, data: bytes) -> None:
        """Take what came, and keep of it what is not complete."""
        while not self._in_body:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > LONGEST_HEAD:
                    raise httpx2.RemoteProtocolError(f"the head of an answer is longer than {LONGEST_HEAD} bytes")
                self._bytes = data
                return
            self._begin(data[:end])
            data = data[end + 4 :]
        self._bytes = b""
        if self.done:
            self._bytes = data
        elif self._chunked:
            self._chunks(data)
        else:
            self._plain(data)
        if self.done and self._bytes:
            self._keep = False  # more came than was asked for

    def _begin(self, head: bytes) -> None:
        """Read a head, and find out where its body ends."""
        first, *lines = head.split(b"\r\n")
        if not first.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or not first[9:12].isdigit():
            raise httpx2.RemoteProtocolError("what came is not HTTP")
        status = int(first[9:12])
        if status < 200:
            if status == 101:
                raise httpx2.RemoteProtocolError("the server speaks another protocol now")
            return
        headers: Headers = []
        length: int | None = None
        keep, chunked = first.startswith(b"HTTP/1.1"), False
        for line in lines:
            name, colon, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            if not colon or not name or name.strip() != name:
                raise httpx2.RemoteProtocolError("a header is malformed")
            if name == b"content-length":
                if not value.isdigit() or length not in (None, int(value)):
                    raise httpx2.RemoteProtocolError("the length of an answer is no number, or two")
                length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise httpx2.RemoteProtocolError("the transfer encoding is not known")
                chunked = True
            elif name == b"connection":
                keep = value.lower() != b"close" and (keep or value.lower() == b"keep-alive")
            headers.append((name, value))
        self._in_body, self._chunked = True, chunked
        self._left = None if chunked else 0 if status in (204, 304) else length
        self._keep = keep and (chunked or self._left is not None)
        self._answer = status, headers
        self.done = self._left == 0

    def _plain(self, data: bytes) -> None:
        """Take a piece of a body whose length is known, or that goes on until the server hangs up."""
        if self._left is not None:
            data, self._bytes = data[: self._left], data[self._left :]
            self._left -= len(data)
            self.done = self._left == 0
        self._keep_block(data)

    def _chunks(self, data: bytes) -> None:
        """Take what is complete of a body that comes in chunks, and parts of a chunk as they come."""
        at = 0
        while at < len(data):
            if self._left == AFTER:  # the line's end after a chunk
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise httpx2.RemoteProtocolError("a chunk does not end where it should")
                at += 2
                self._left = None
                continue
            if self._left:
                block = data[at : at + self._left]
                self._keep_block(block)
                self._left -= len(block)
                at += len(block)
                self._left = self._left or AFTER
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > LONGEST_HEAD:
                    raise httpx2.RemoteProtocolError("the size of a chunk is malformed")
                break
            if self._left == 0:  # the trailer: an empty line ends it
                if end == at:
                    self.done, at = True, end + 2
                    break
                at = end + 2
                continue
            self._left = _size(data[at:end])
            at = end + 2
        self._bytes = data[at:]

    def _keep_block(self, block: bytes) -> None:
        if block:
            self._blocks.append(block)
            self._held += len(block)


class _Body(httpx2.AsyncByteStream):
    """The body of an answer. Closed before its end, it takes its connection along."""

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise StopAsyncIteration
        block = await self._connection.block()
        if block is None:
            await self.aclose()
            raise StopAsyncIteration
        return block

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()


def _written(request: httpx2.Request) -> bytes:
    """Write a request down."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join((*lines, b"", request.content))


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _size(line: bytes) -> int:
    size = line.partition(b";")[0].strip()
    if not size or len(size) > 16 or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
        raise httpx2.RemoteProtocolError("the size of a chunk is no number")
    return int(size, 16)


def _malformed(error: ValueError) -> httpx2.RemoteProtocolError:
    return httpx2.RemoteProtocolError(f"an answer is malformed: {error}")
