"""greenroom's own kernel: class actors under one supervisor, and nothing that its users cannot do too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from greenroom.actors import (
    Actor,
    ChildSpec,
    MailboxSpec,
    Ref,
    Request,
    Restart,
    Supervisor,
    SupervisorSpec,
    supervise,
)

from . import cases
from .cases import Cases, Memory

UNBOUNDED = MailboxSpec(capacity=None)


class Count(Request[int]):
    """Ask how many messages were handled."""


COUNT = Count()


class Counter(Actor[Any]):
    """Counts messages."""

    mailbox = UNBOUNDED

    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any) -> int:
        """Count one."""
        self.count += 1
        return self.count


class AsyncCounter(Actor[Any]):
    """Counts messages in an async method."""

    mailbox = UNBOUNDED

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Any) -> int:
        """Count one."""
        self.count += 1
        return self.count


class Bounded(Counter):
    """Counts messages in a bounded mailbox."""

    mailbox = MailboxSpec(capacity=cases.CAPACITY)


class Fragile(Counter):
    """Crashes on every message but a question."""

    def receive(self, message: Any) -> int:
        """Crash, or answer."""
        if message is not COUNT:
            raise RuntimeError("crash")
        return 0


class Link(Actor[int]):
    """A place in the ring."""

    mailbox = UNBOUNDED

    def __init__(self) -> None:
        self.next: Ref[int]
        self.done: asyncio.Future[None]

    def receive(self, message: Any) -> None:
        """Pass the token on, unless it has made all its hops."""
        if type(message) is tuple:
            self.next, self.done = message
        elif message:
            self.next.tell(message - 1)
        else:
            self.done.set_result(None)


class Worker(Actor[Any]):
    """Tells the collector."""

    def __init__(self) -> None:
        self.collector: Ref[Any]

    def receive(self, message: Any) -> None:
        """Pass it on."""
        if isinstance(message, Ref):
            self.collector = message
        else:
            self.collector.tell(message)


class Collector(Counter):
    """Counts what comes back, until all is back."""

    def receive(self, message: Any) -> int:
        """Count one."""
        if isinstance(message, asyncio.Future):
            self.done, self.count = message, 0
        else:
            self.count += 1
            if self.count == cases.FAN:
                self.done.set_result(None)
        return self.count


class Kernel:
    """The actors, ready."""

    def __init__(self, tree: Supervisor, fragile: Ref[Any]) -> None:
        self._tree = tree
        self._loop = asyncio.get_running_loop()
        self._counter = tree.ref("counter")
        self._async_counter = tree.ref("async counter")
        self._bounded = tree.ref("bounded")
        self._fragile = fragile
        self._collector = tree.ref("collector")
        self._ring = [tree.ref(f"link {number}") for number in range(cases.RING)]
        self._workers = [tree.ref(f"worker {number}") for number in range(cases.FAN)]
        for worker in self._workers:
            worker.tell(self._collector)

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                self._counter.tell(number)
            await self._counter.ask(COUNT)

    async def send(self, count: int) -> None:
        for number in range(count):
            await self._bounded.send(number)
        await self._bounded.ask(COUNT)

    async def ask(self, count: int) -> None:
        for _ in range(count):
            await self._counter.ask(COUNT)

    async def ask_async(self, count: int) -> None:
        for _ in range(count):
            await self._async_counter.ask(COUNT)

    async def ask_of_100(self, count: int) -> None:
        await cases.ask_from_many(lambda: self._counter.ask(COUNT), count)

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            await self._counter.ask(COUNT, timeout=cases.DEADLINE)

    async def spawn(self, count: int) -> None:
        for number in range(count):
            name = str(number)
            await self._tree.start_actor(ChildSpec(name=name, start=Counter, restart=Restart.TEMPORARY))
            await self._tree.stop_child(name)

    async def ring(self, count: int) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        for number, link in enumerate(self._ring):
            link.tell((self._ring[(number + 1) % cases.RING], done))
        self._ring[0].tell(count)
        await done

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            done: asyncio.Future[None] = self._loop.create_future()
            self._collector.tell(done)
            for worker in self._workers:
                worker.tell(0)
            await done

    async def restart(self, count: int) -> None:
        """Crash on every message of a queue that outlives each crash."""
        for _ in range(count):
            self._fragile.tell("crash")
        await self._fragile.ask(COUNT)

    async def idle(self, count: int) -> float:
        return await self._idle(count, after_mail=False)

    async def idle_after_mail(self, count: int) -> float:
        return await self._idle(count, after_mail=True)

    async def _idle(self, count: int, *, after_mail: bool) -> float:
        specs = [ChildSpec(name=f"idle {number}", start=Counter, restart=Restart.TEMPORARY) for number in range(count)]
        memory = Memory()
        for spec in specs:
            ref = await self._tree.start_actor(spec)
            if after_mail:
                await ref.ask(COUNT)
        grown = memory.grown()
        for spec in specs:
            await self._tree.stop_child(spec.name)
        return grown / count


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the tree."""
    children = (
        ChildSpec(name="counter", start=Counter),
        ChildSpec(name="async counter", start=AsyncCounter),
        ChildSpec(name="bounded", start=Bounded),
        ChildSpec(name="collector", start=Collector),
        *(ChildSpec(name=f"link {number}", start=Link) for number in range(cases.RING)),
        *(ChildSpec(name=f"worker {number}", start=Worker) for number in range(cases.FAN)),
    )
    spec = SupervisorSpec(name="bench", children=children)
    often = SupervisorSpec(
        name="often", intensity=10_000_000, period=60, children=(ChildSpec(name="fragile", start=Fragile),)
    )
    # a listener keeps the crashes out of the log
    async with supervise(spec) as tree, supervise(often, events=lambda event: None) as restarting:
        kernel = Kernel(tree, restarting.ref("fragile"))
        yield {
            "tell": kernel.tell,
            "send": kernel.send,
            "ask": kernel.ask,
            "ask, async": kernel.ask_async,
            "ask of 100": kernel.ask_of_100,
            "ask with deadline": kernel.ask_with_deadline,
            "spawn": kernel.spawn,
            "ring": kernel.ring,
            "fan": kernel.fan,
            "restart": kernel.restart,
            "idle": kernel.idle,
            "idle after mail": kernel.idle_after_mail,
        }
