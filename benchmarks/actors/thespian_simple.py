"""thespian's simple system base: actors in the caller's thread, without concurrency: its fastest system.

It has no bounded mailboxes, and one asker at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from thespian.actors import Actor, ActorExitRequest, ActorSystem

from . import cases
from .cases import Cases, Memory

ASK = "ask"


class Counter(Actor):
    """Counts messages."""

    def __init__(self) -> None:
        self.count = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """Count one."""
        if isinstance(message, ActorExitRequest):
            return
        self.count += 1
        if message is ASK:
            self.send(sender, self.count)


class Link(Actor):
    """A place in the ring."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """Pass the token on, unless it has made all its hops."""
        match message:
            case ("next", following):
                self.next = following
                self.send(sender, None)
            case (int(hops), asker):
                if hops:
                    self.send(self.next, (hops - 1, asker or sender))
                else:
                    self.send(asker or sender, None)
            case _:
                pass


class Worker(Actor):
    """Tells the collector."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """Pass it on."""
        if isinstance(message, tuple):
            self.collector = message[0]
            self.send(sender, None)
        elif not isinstance(message, ActorExitRequest):
            self.send(self.collector, message)


class Collector(Actor):
    """Counts what comes back."""

    def __init__(self) -> None:
        self.count = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """Count one, or say how many have come and begin again."""
        if message is ASK:
            self.send(sender, self.count)
            self.count = 0
        else:
            self.count += 1


class Simple:
    """The actors, ready."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self._counter = system.createActor(Counter)
        self._collector = system.createActor(Collector)
        self._ring = [system.createActor(Link) for _ in range(cases.RING)]
        for number, link in enumerate(self._ring):
            system.ask(link, ("next", self._ring[(number + 1) % cases.RING]))
        self._workers = [system.createActor(Worker) for _ in range(cases.FAN)]
        for worker in self._workers:
            system.ask(worker, (self._collector,))

    async def tell(self, count: int) -> None:
        for _ in range(0, count, cases.BURST):
            for number in range(min(count, cases.BURST)):
                self._system.tell(self._counter, number)
            self._system.ask(self._counter, ASK)

    async def ask(self, count: int) -> None:
        for _ in range(count):
            self._system.ask(self._counter, ASK)

    async def ask_with_deadline(self, count: int) -> None:
        for _ in range(count):
            self._system.ask(self._counter, ASK, timeout=cases.DEADLINE)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            actor = self._system.createActor(Counter)
            self._system.tell(actor, ActorExitRequest())

    async def ring(self, count: int) -> None:
        self._system.ask(self._ring[0], (count, None))

    async def fan(self, count: int) -> None:
        for _ in range(0, count, cases.FAN):
            for worker in self._workers:
                self._system.tell(worker, 0)
            back = self._system.ask(self._collector, ASK)
            assert back == cases.FAN, f"{back} of {cases.FAN} came back"

    async def idle(self, count: int) -> float:
        memory = Memory()
        actors = [self._system.createActor(Counter) for _ in range(count)]
        grown = memory.grown()
        for actor in actors:
            self._system.tell(actor, ActorExitRequest())
        return grown / count


@asynccontextmanager
async def stage() -> AsyncIterator[Cases]:
    """Start the actors."""
    system = ActorSystem("simpleSystemBase", logDefs=False)
    try:
        simple = Simple(system)
        yield {
            "tell": simple.tell,
            "ask": simple.ask,
            "ask with deadline": simple.ask_with_deadline,
            "spawn": simple.spawn,
            "ring": simple.ring,
            "fan": simple.fan,
            "idle": simple.idle,
        }
    finally:
        system.shutdown()
