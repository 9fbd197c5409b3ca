"""xoscar: actors in the main pool of one process, called through refs as from anywhere.

It has no mailboxes with a bound, but its tell waits until the message has gone out: it is awaited, as is its idiom.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import xoscar

from . import cases
from .cases import Cases, Memory


class Counter(xoscar.Actor):
    """Counts messages."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def receive(self, message: Any) -> int:
        """Count one."""
        self.count += 1
        return self.count


class Link(xoscar.Actor):
    """A place in the ring."""

    def follow(self, following: Any) -> None:
        """Learn who is next."""
        self.next = following

    async def receive(self, hops: int, done: Any) -> None:
        """Pass the token on, unless it has made all its hops."""
        if hops:
            await self.next.receive.tell(hops - 1, done)
        else:
            await done.receive.tell()


class Worker(xoscar.Actor):
    """Tells the collector."""

    def __init__(self, collector: Any) -> None:
        super().__init__()
        self.collector = collector

    async def receive(self, message: Any) -> None:
        """Pass it on."""
        await self.collector.receive.tell()


class Collector(xoscar.StatelessActor):
    """Counts what comes back, until all is back."""

    def expect(self, count: int) -> None:
        """Begin to count."""
        self.left = count
        self.done = asyncio.Event()

    def receive(self) -> None:
        """Count one."""
        self.left -= 1
        if not self.left:
            self.done.set()

    async def wait(self) -> None:
        """Return when all is back."""
        await self.done.wait()


class Pool:
    """The actors, ready."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def start(self) -> None:
        """Make them."""
        self._counter = await self._new(Counter, "counter")
        self._collector = await self._new(Collector, "collector")
        self._ring = [await self._new(Link, f"link {number}") for number in range(cases.RING)]
        for number, link in enumerate(self._ring):
            await link.follow(self._ring[(number + 1) % cases.RING])
        self._workers = [await self._new(Worker, f"worker {n}", self._collector) for n in range(cases.FAN)]

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                await self._counter.receive.tell(number)
            await self._counter.receive(None)

    async def ask(self, count: int) -> None:
        for _ in range(count):
            await self._counter.receive(None)

    async def ask_of_100(self, count: int) -> None:
        await cases.ask_from_many(lambda: self._counter.receive(None), count)

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            async with asyncio.timeout(cases.DEADLINE):
                await self._counter.receive(None)

    async def spawn(self, count: int) -> None:
        for number in range(count):
            await xoscar.destroy_actor(await self._new(Counter, str(number)))

    async def ring(self, count: int) -> None:
        await self._collector.expect(1)
        await self._ring[0].receive.tell(count, self._collector)
        await self._collector.wait()

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            await self._collector.expect(cases.FAN)
            for worker in self._workers:
                await worker.receive.tell(0)
            await self._collector.wait()

    async def idle(self, count: int) -> float:
        memory = Memory()
        refs = [await self._new(Counter, f"idle {number}") for number in range(count)]
        grown = memory.grown()
        for ref in refs:
            await xoscar.destroy_actor(ref)
        return grown / count

    async def _new(self, kind: type[xoscar.Actor], name: str, *arguments: Any) -> Any:
        return await xoscar.create_actor(kind, *arguments, address=self._address, uid=name)


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the pool."""
    async with await xoscar.create_actor_pool("127.0.0.1", n_process=0) as opened:
        pool = Pool(opened.external_address)
        await pool.start()
        yield {
            "tell": pool.tell,
            "ask": pool.ask,
            "ask of 100": pool.ask_of_100,
            "ask with deadline": pool.ask_with_deadline,
            "spawn": pool.spawn,
            "ring": pool.ring,
            "fan": pool.fan,
            "idle": pool.idle,
        }
