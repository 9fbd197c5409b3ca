"""One HTTP/1.1 connection to a provider: a request is one write, and its answer is parsed where it arrives.

Laws kept here: 11 (a head is bounded; a body is read from the socket no faster than its reader takes it), 7 (an answer
that was not read to its end ends its connection).
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, Self, cast

import httpx2

LONGEST_HEAD = 64 * 1024
"""Bytes of a status line with its headers."""

HIGH_WATER = 256 * 1024
"""Bytes of a body that wait for their reader before the socket is read no further."""

AFTER = -1
"""What is left of a chunk of which all came but the line's end."""

Address = tuple[str, str, int]
"""Scheme, host and port."""

Headers = list[tuple[bytes, bytes]]


class Owner(Protocol):
    """Who keeps connections."""

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        ...

    def free(self, connection: Connection) -> None:
        """A connection can be used again."""
        ...

    def gone(self, connection: Connection) -> None:
        """A connection is lost."""
        ...


class Answer(httpx2.AsyncByteStream):
    """The answer to a request that was sent: its head, and its body as it comes. Its reader closes it.

    Attributes:
        head: status and headers, when they are there.
        ended: all of it is there.
    """

    def __init__(self, connection: Connection) -> None:
        self.head: tuple[int, Headers] | None = None
        self.ended = False
        self._connection = connection
        self._waiter: asyncio.Future[None] | None = None
        self._blocks: list[bytes] = []
        self._held = 0
        self._error: Exception | None = None

    async def response(self) -> httpx2.Response | None:
        """Wait for the head; None: the connection was closed before anything came.

        Raises:
            httpx2.TransportError: what came is no answer.
        """
        try:
            await self._connection.ready()
            while self.head is None:
                if self._error is not None:
                    raise self._error
                if self.ended:
                    return None
                await self._wait()
        except BaseException:
            self.close()
            raise
        return httpx2.Response(self.head[0], headers=self.head[1], stream=self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._blocks:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            await self._wait()
        block = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks.clear()
        self._held = 0
        if not self.ended:
            self._connection.resume()
        return block

    async def aclose(self) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Its reader goes away. Before the end that ends the connection too."""
        self._blocks.clear()
        if not self.ended:
            self.end()
            self._connection.close()

    def add(self, block: bytes) -> None:
        """A piece of the body came."""
        if block:
            self._blocks.append(block)
            self._held += len(block)
            self.wake()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes."""
        self.ended = True
        self._error = error
        self.wake()

    @property
    def full(self) -> bool:
        """Whether more waits for the reader than may."""
        return self._held > HIGH_WATER

    def wake(self) -> None:
        """Something came: let its reader look."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.Protocol):
    """One connection, with one request on it at a time.

    Args:
        owner: whose it is.
        address: of the server.
        near: its socket, where it was connected before the event loop knows of it. A request can be sent already.
    """

    def __init__(self, owner: Owner, address: Address, near: socket.socket | None = None) -> None:
        self.address = address
        self.since = 0.0
        self.lost = asyncio.Event()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._bytes = b""
        self._left: int | None = None
        self._chunked = False
        self._keep = True
        self._paused = False
        self._near = near
        self._unsent = b""
        if near is not None:
            owner.opened(self)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return self._answer is None and self._keep and self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """End it at once."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()
        elif self._near is not None:
            self._near.close()
            self.connection_lost(None)

    async def ready(self) -> None:
        """Let the event loop know of it."""
        if self._near is not None:
            near, self._near = self._near, None
            await asyncio.get_running_loop().create_connection(lambda: self, sock=near)

    def send(self, written: bytes) -> Answer:
        """Send a request."""
        self._answer = answer = Answer(self)
        if self._transport is not None:
            self._transport.write(written)
        elif self._near is not None:
            try:
                self._unsent = written[self._near.send(written) :]
            except OSError:  # it will say so again when the event loop asks
                self._unsent = written
        return answer

    def resume(self) -> None:
        """The reader has taken what was there."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: it is made; what waited is sent."""
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._owner.opened(self)  # not before: where none is made, nobody says that it is lost
        if not self._keep:
            made.abort()
        elif self._unsent:
            made.write(self._unsent)
            self._unsent = b""

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio: it is lost, and with it what of its answer has not come."""
        self._keep = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.ended:
            until_now = answer.head is not None and self._left is None and not self._chunked
            nothing = answer.head is None and not self._bytes
            if error is not None and not nothing:
                answer.end(httpx2.ReadError(type(error).__name__))
            else:
                answer.end(None if until_now or nothing else broken("the server hung up in the middle of an answer"))
        self._owner.gone(self)
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        """Asyncio: a piece of the answer came."""
        answer = self._answer
        if answer is None:
            self.close()  # nothing was asked
            return
        try:
            self._take(answer, self._bytes + data if self._bytes else data)
        except (httpx2.RemoteProtocolError, ValueError) as error:
            self._answer = None
            answer.end(error if isinstance(error, httpx2.RemoteProtocolError) else broken(f"malformed: {error}"))
            self.close()
            return
        if answer.ended:
            self._answer = None
            self._owner.free(self)
        elif answer.full and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _take(self, answer: Answer, data: bytes) -> None:
        """Take what came, and keep of it what is not complete."""
        while answer.head is None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > LONGEST_HEAD:
                    raise broken(f"the head of an answer is longer than {LONGEST_HEAD} bytes")
                self._bytes = data
                return
            answer.head = self._begin(data[:end])
            data = data[end + 4 :]
        answer.wake()
        if self._chunked:
            self._bytes, ended = self._chunks(answer, data)
        else:
            self._bytes, ended = self._plain(answer, data)
        if ended:
            self._keep = self._keep and not self._bytes  # more came than was asked for
            self._bytes = b""
            answer.end()

    def _begin(self, head: bytes) -> tuple[int, Headers] | None:
        """Read a head, and find out where its body ends; None: it is not the answer yet."""
        first, *lines = head.split(b"\r\n")
        if not first.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or not first[9:12].isdigit():
            raise broken("what came is not HTTP")
        status = int(first[9:12])
        if status < 200:
            if status == 101:
                raise broken("the server speaks another protocol now")
            return None
        headers: Headers = []
        length: int | None = None
        keep, chunked = first.startswith(b"HTTP/1.1"), False
        for line in lines:
            name, colon, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            if not colon or not name or name.strip() != name:
                raise broken("a header is malformed")
            if name == b"content-length":
                if not value.isdigit() or length not in (None, int(value)):
                    raise broken("the length of an answer is no number, or two")
                length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise broken("the transfer encoding is not known")
                chunked = True
            elif name == b"connection":
                keep = value.lower() != b"close" and (keep or value.lower() == b"keep-alive")
            headers.append((name, value))
        self._chunked = chunked
        self._left = None if chunked else 0 if status in (204, 304) else length
        self._keep = keep and (chunked or self._left is not None)
        return status, headers

    def _plain(self, answer: Answer, data: bytes) -> tuple[bytes, bool]:
        """Take a piece of a body whose length is known, or that goes on until the server hangs up."""
        if self._left is None:
            answer.add(data)
            return b"", False
        answer.add(data[: self._left])
        over = data[self._left :]
        self._left -= len(data) - len(over)
        return over, self._left == 0

    def _chunks(self, answer: Answer, data: bytes) -> tuple[bytes, bool]:
        """Take what is complete of a body that comes in chunks, and parts of a chunk as they come."""
        at = 0
        while at < len(data):
            if self._left == AFTER:
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise broken("a chunk does not end where it should")
                self._left = None
                at += 2
            elif self._left:
                block = data[at : at + self._left]
                answer.add(block)
                self._left = self._left - len(block) or AFTER
                at += len(block)
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    if len(data) - at > LONGEST_HEAD:
                        raise broken("the size of a chunk is malformed")
                    break
                if self._left is None:
                    self._left = _size(data[at:end])
                elif end == at:  # an empty line ends the trailer, and the body
                    return data[end + 2 :], True
                at = end + 2
        return data[at:], False


def _size(line: bytes) -> int:
    size = line.partition(b";")[0].strip()
    if not size or len(size) > 16 or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
        raise broken("the size of a chunk is no number")
    return int(size, 16)


def broken(message: str) -> httpx2.RemoteProtocolError:
    """Return the error of an answer that is none."""
    return httpx2.RemoteProtocolError(message)
