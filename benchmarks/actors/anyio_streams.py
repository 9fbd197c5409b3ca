"""anyio memory object streams and a task that reads one: the hand-written actor on anyio.

An answer comes through an anyio.Event and an attribute: anyio has no future.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from . import cases
from .cases import Cases, Counter, Memory

Sender: TypeAlias = MemoryObjectSendStream[Any]
Receiver: TypeAlias = MemoryObjectReceiveStream[Any]


class Question:
    """Something that wants an answer."""

    def __init__(self, message: object) -> None:
        self.message = message
        self.answered = anyio.Event()
        self.answer: int

    def reply(self, answer: int) -> None:
        """Answer."""
        self.answer = answer
        self.answered.set()


async def consume(messages: Receiver) -> None:
    """Let a Counter handle what comes."""
    counter = Counter()
    async for message in messages:
        if isinstance(message, Question):
            message.reply(counter.receive(message.message))
        else:
            counter.receive(message)


async def link(messages: Receiver, following: Sender) -> None:
    """Pass the token on, unless it has made all its hops."""
    async for hops, done in messages:
        if hops:
            following.send_nowait((hops - 1, done))
        else:
            done.set()


async def work(messages: Receiver, collector: Sender) -> None:
    """Pass it on."""
    async for message in messages:
        collector.send_nowait(message)


async def collect(messages: Receiver) -> None:
    """Count what comes back, until all is back."""
    async for done in messages:
        for _ in range(cases.FAN):
            await messages.receive()
        done.set()


async def ask(stream: Sender, question: object = None) -> int:
    """Ask, and wait for the answer."""
    asked = Question(question)
    stream.send_nowait(asked)
    await asked.answered.wait()
    return asked.answer


def pair(size: float = math.inf) -> tuple[Sender, Receiver]:
    """Make a stream."""
    return anyio.create_memory_object_stream[Any](size)


class Streams:
    """The streams and their tasks, ready."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._counter, counting = pair()
        self._bounded, bounded = pair(cases.CAPACITY)
        self._collector, collecting = pair()
        ring = [pair() for _ in range(cases.RING)]
        self._token = ring[0][0]
        workers = [pair() for _ in range(cases.FAN)]
        self._workers = [sender for sender, _ in workers]
        group.start_soon(consume, counting)
        group.start_soon(consume, bounded)
        group.start_soon(collect, collecting)
        for number, (_, receiver) in enumerate(ring):
            group.start_soon(link, receiver, ring[(number + 1) % cases.RING][0])
        for _, receiver in workers:
            group.start_soon(work, receiver, self._collector)
        self._streams: list[Sender | Receiver] = [self._counter, counting, self._bounded, bounded]
        self._streams += [self._collector, collecting]
        self._streams += [end for both in (*ring, *workers) for end in both]

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                self._counter.send_nowait(number)
            await ask(self._counter)

    async def send(self, count: int) -> None:
        for number in range(count):
            await self._bounded.send(number)
        asked = Question(None)
        await self._bounded.send(asked)
        await asked.answered.wait()

    async def ask(self, count: int) -> None:
        for _ in range(count):
            await ask(self._counter)

    async def ask_of_100(self, count: int) -> None:
        await cases.ask_from_many(lambda: ask(self._counter), count)

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            with anyio.fail_after(cases.DEADLINE):
                await ask(self._counter)

    async def spawn(self, count: int) -> None:
        """Start a task with a stream, let it reach its wait, and end it by closing the stream."""
        for _ in range(count):
            sender, receiver = pair()
            with receiver:
                async with anyio.create_task_group() as group:
                    group.start_soon(consume, receiver)
                    await anyio.lowlevel.checkpoint()
                    sender.close()

    async def ring(self, count: int) -> None:
        done = anyio.Event()
        self._token.send_nowait((count, done))
        await done.wait()

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            done = anyio.Event()
            self._collector.send_nowait(done)
            for worker in self._workers:
                worker.send_nowait(0)
            await done.wait()

    async def idle(self, count: int) -> float:
        async with anyio.create_task_group() as group:
            memory = Memory()
            streams = [pair() for _ in range(count)]
            for _, receiver in streams:
                group.start_soon(consume, receiver)
            await anyio.lowlevel.checkpoint()
            grown = memory.grown()
            for sender, _ in streams:
                sender.close()
        for _, receiver in streams:
            receiver.close()
        return grown / count

    def close(self) -> None:
        """Close all streams."""
        for stream in self._streams:
            stream.close()


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the tasks."""
    async with anyio.create_task_group() as group:
        streams = Streams(group)
        yield {
            "tell": streams.tell,
            "send": streams.send,
            "ask": streams.ask,
            "ask of 100": streams.ask_of_100,
            "ask with deadline": streams.ask_with_deadline,
            "spawn": streams.spawn,
            "ring": streams.ring,
            "fan": streams.fan,
            "idle": streams.idle,
        }
        group.cancel_scope.cancel()
    streams.close()
