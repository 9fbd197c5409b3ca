"""asyncio.Queue and a task that reads it: the actor that one would write by hand, without supervision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from . import cases
from .cases import Cases, Counter, Memory


async def consume(queue: asyncio.Queue[Any]) -> None:
    """Let a Counter handle what comes; a question comes together with the future of its answer."""
    counter = Counter()
    while True:
        message = await queue.get()
        if type(message) is tuple:
            question, reply = message
            reply.set_result(counter.receive(question))
        else:
            counter.receive(message)


async def consume_async(queue: asyncio.Queue[Any]) -> None:
    """The same with an async method, of a question only."""
    counter = AsyncCounter()
    while True:
        question, reply = await queue.get()
        reply.set_result(await counter.receive(question))


class AsyncCounter(Counter):
    """Counts in an async method."""

    async def receive(self, message: object) -> int:  # type: ignore[override]
        """Count one."""
        self.count += 1
        return self.count


async def link(queue: asyncio.Queue[Any], following: asyncio.Queue[Any]) -> None:
    """Pass the token on, unless it has made all its hops."""
    while True:
        hops, done = await queue.get()
        if hops:
            following.put_nowait((hops - 1, done))
        else:
            done.set_result(None)


async def work(queue: asyncio.Queue[Any], collector: asyncio.Queue[Any]) -> None:
    """Pass it on."""
    while True:
        collector.put_nowait(await queue.get())


async def collect(queue: asyncio.Queue[Any]) -> None:
    """Count what comes back, until all is back."""
    while True:
        done = await queue.get()
        for _ in range(cases.FAN):
            await queue.get()
        done.set_result(None)


async def ask(queue: asyncio.Queue[Any], question: object = None) -> Any:
    """Ask, and wait for the answer."""
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    queue.put_nowait((question, reply))
    return await reply


class Queues:
    """The queues and their tasks, ready."""

    def __init__(self, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._counter: asyncio.Queue[Any] = asyncio.Queue()
        self._async_counter: asyncio.Queue[Any] = asyncio.Queue()
        self._bounded: asyncio.Queue[Any] = asyncio.Queue(cases.CAPACITY)
        self._collector: asyncio.Queue[Any] = asyncio.Queue()
        self._ring: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(cases.RING)]
        self._workers: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(cases.FAN)]
        start(consume(self._counter))
        start(consume_async(self._async_counter))
        start(consume(self._bounded))
        start(collect(self._collector))
        for number, queue in enumerate(self._ring):
            start(link(queue, self._ring[(number + 1) % cases.RING]))
        for queue in self._workers:
            start(work(queue, self._collector))

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                self._counter.put_nowait(number)
            await ask(self._counter)

    async def send(self, count: int) -> None:
        for number in range(count):
            await self._bounded.put(number)
        reply: asyncio.Future[int] = self._loop.create_future()
        await self._bounded.put((None, reply))
        await reply

    async def ask(self, count: int) -> None:
        for _ in range(count):
            await ask(self._counter)

    async def ask_async(self, count: int) -> None:
        for _ in range(count):
            await ask(self._async_counter)

    async def ask_of_100(self, count: int) -> None:
        await cases.ask_from_many(lambda: ask(self._counter), count)

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            async with asyncio.timeout(cases.DEADLINE):
                await ask(self._counter)

    async def spawn(self, count: int) -> None:
        """Start a task with a queue, let it reach its wait, cancel it, and wait for its end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                task = group.create_task(consume(asyncio.Queue()))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

    async def ring(self, count: int) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._ring[0].put_nowait((count, done))
        await done

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            done: asyncio.Future[None] = self._loop.create_future()
            self._collector.put_nowait(done)
            for queue in self._workers:
                queue.put_nowait(0)
            await done

    async def idle(self, count: int) -> float:
        return await self._idle(count, after_mail=False)

    async def idle_after_mail(self, count: int) -> float:
        return await self._idle(count, after_mail=True)

    async def _idle(self, count: int, *, after_mail: bool) -> float:
        async with asyncio.TaskGroup() as group:
            memory = Memory()
            queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(count)]
            tasks = [group.create_task(consume(queue)) for queue in queues]
            await asyncio.sleep(0)
            if after_mail:
                for queue in queues:
                    await ask(queue)
            grown = memory.grown()
            for task in tasks:
                task.cancel()
        return grown / count


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the tasks."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        queues = Queues(lambda body: tasks.append(group.create_task(body)))
        yield {
            "tell": queues.tell,
            "send": queues.send,
            "ask": queues.ask,
            "ask, async": queues.ask_async,
            "ask of 100": queues.ask_of_100,
            "ask with deadline": queues.ask_with_deadline,
            "spawn": queues.spawn,
            "ring": queues.ring,
            "fan": queues.fan,
            "idle": queues.idle,
            "idle after mail": queues.idle_after_mail,
        }
        for task in tasks:
            task.cancel()
