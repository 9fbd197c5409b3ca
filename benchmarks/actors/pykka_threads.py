"""pykka: an actor is a thread with a queue.Queue. Its mailboxes have no bound, so it has no send."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pykka

from . import cases
from .cases import Cases, Memory


class Counter(pykka.ThreadingActor):
    """Counts messages."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> int:
        """Count one."""
        self.count += 1
        return self.count


class Link(pykka.ThreadingActor):
    """A place in the ring."""

    def __init__(self) -> None:
        super().__init__()
        self.next: pykka.ActorRef[Link]
        self.done: threading.Event

    def on_receive(self, message: Any) -> None:
        """Pass the token on, unless it has made all its hops."""
        if type(message) is tuple:
            self.next, self.done = message
        elif message:
            self.next.tell(message - 1)
        else:
            self.done.set()


class Worker(pykka.ThreadingActor):
    """Tells the collector."""

    def __init__(self, collector: pykka.ActorRef[Collector]) -> None:
        super().__init__()
        self.collector = collector

    def on_receive(self, message: Any) -> None:
        """Pass it on."""
        self.collector.tell(message)


class Collector(pykka.ThreadingActor):
    """Counts what comes back, until all is back."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.done: threading.Event

    def on_receive(self, message: Any) -> None:
        """Count one."""
        if isinstance(message, threading.Event):
            self.done, self.count = message, 0
        else:
            self.count += 1
            if self.count == cases.FAN:
                self.done.set()


class Threads:
    """The actors, ready. The case's own thread waits for them, as a program that uses pykka does."""

    def __init__(self) -> None:
        self._counter = Counter.start()
        self._collector = Collector.start()
        self._ring = [Link.start() for _ in range(cases.RING)]
        self._workers = [Worker.start(self._collector) for _ in range(cases.FAN)]

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                self._counter.tell(number)
            self._counter.ask(None)

    async def ask(self, count: int) -> None:
        for _ in range(count):
            self._counter.ask(None)

    async def ask_of_100(self, count: int) -> None:
        """Have so many questions open at once, as pykka's futures allow."""
        for _ in range(0, count, cases.ASKERS):
            pykka.get_all([self._counter.ask(None, block=False) for _ in range(cases.ASKERS)])

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            self._counter.ask(None, timeout=cases.DEADLINE)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            Counter.start().stop()

    async def ring(self, count: int) -> None:
        done = threading.Event()
        for number, link in enumerate(self._ring):
            link.tell((self._ring[(number + 1) % cases.RING], done))
        self._ring[0].tell(count)
        done.wait()

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            done = threading.Event()
            self._collector.tell(done)
            for worker in self._workers:
                worker.tell(0)
            done.wait()

    async def idle(self, count: int) -> float:
        memory = Memory()
        refs = [Counter.start() for _ in range(count)]
        grown = memory.grown()
        for ref in refs:
            ref.stop()
        return grown / count


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the actors."""
    threads = Threads()
    try:
        yield {
            "tell": threads.tell,
            "ask": threads.ask,
            "ask of 100": threads.ask_of_100,
            "ask with deadline": threads.ask_with_deadline,
            "spawn": threads.spawn,
            "ring": threads.ring,
            "fan": threads.fan,
            "idle": threads.idle,
        }
    finally:
        pykka.ActorRegistry.stop_all()
