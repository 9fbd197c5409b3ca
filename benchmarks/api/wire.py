"""HTTP from the other side, as lean as asyncio allows: what is measured is the server, not its clients.

A reader looks at ids alone: that they follow each other without a gap, and when each came. A caller sends one request
after the other over a connection that is kept.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

ID = re.compile(rb"id: (\d+)\S*\nevent")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Story:
    """A run that is followed: when its records were appended, and how long each took to each reader.

    Attributes:
        appended: seq -> when its append began, seconds of `time.perf_counter`.
        latencies: of every delivery whose append is known, seconds.
        delivered: how many records have come to readers.
        faults: what a reader saw that it should not have.
    """

    def __init__(self) -> None:
        self.appended: dict[int, float] = {}
        self.latencies: list[float] = []
        self.delivered = 0
        self.faults: list[str] = []
        self._goal = 0
        self._met = asyncio.Event()

    def deliver(self, seq: int, now: float) -> None:
        """Note that a record has come to a reader."""
        self.delivered += 1
        began = self.appended.get(seq)
        if began is not None:
            self.latencies.append(now - began)
        if self.delivered == self._goal:
            self._met.set()

    async def deliveries(self, count: int) -> None:
        """Wait until so many records have come, all in all."""
        self._goal = count
        self._met.clear()
        if self.delivered < count:
            await self._met.wait()


class Reader(asyncio.Protocol):
    """One reader of a run's events, from seq 1 on."""

    def __init__(self, story: Story, request: bytes) -> None:
        self.story = story
        self.cursor = 0
        self.ended = asyncio.Event()
        self.told = False
        self._request = request
        self._rest = b""
        self._accepted = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        whole = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        for match in ID.finditer(data, 0, whole):
            seq = int(match[1])
            if seq != self.cursor + 1:
                self.story.faults.append(f"{seq} after {self.cursor}")
            self.cursor = seq
            self.story.deliver(seq, now)
        self.told = self.told or b"event: server-shutdown" in data
        if not self._accepted and b"\r\n" in data:
            self._accepted = True
            if not data.startswith(b"HTTP/1.1 200 "):
                self.story.faults.append(data[:200].decode("latin-1"))
        self._rest = data[whole:]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()

    def leave(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Caller(asyncio.Protocol):
    """One connection that is kept, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        length = LENGTH.search(self._data, 0, head) if head >= 0 else None
        if length is None:
            return
        whole = head + 4 + int(length[1])
        if len(self._data) >= whole and self._answer is not None:
            answer, self._answer = self._answer, None
            body, status = self._data[head + 4 : whole], int(self._data[9:12])
            self._data = self._data[whole:]
            if not answer.done():
                answer.set_result((status, body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server hung up"))

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; its status and body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def caller(port: int) -> Caller:
    """Connect a caller."""
    _, made = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
    return made


def get(path: str, accept: str = "*/*") -> bytes:
    """Make a GET request."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """Make a POST request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def at_once(count: int, each: Callable[[int], Awaitable[object]], width: int) -> None:
    """Do something so many times, at most `width` of them at once."""
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            await each(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(width, count)):
            group.create_task(lane())
