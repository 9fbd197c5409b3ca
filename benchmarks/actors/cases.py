"""The cases: what every peer does, as alike as its own idiom allows.

A case is given a number of operations and returns when all of them have been done and seen to be done. The work for a
message is the same for everybody: a method or function is called, and counts it.

- tell: messages from one sender to one actor, which never wait, in bursts of BURST; an ask after each burst waits until
  all of it has been handled.
- send: the same with a mailbox of CAPACITY messages, where the sender waits for room.
- ask: questions from one asker, one after the other.
- ask, async: the same, answered by an async method. In all other cases it is a plain one, as pykka's is.
- ask of 100: the same as ask, from ASKERS askers at once.
- ask with deadline: one asker, and every question with a timeout that never strikes.
- spawn: start an actor and stop it, and wait for both, one actor after the other.
- ring: a token goes from actor to actor round a ring of RING; an operation is a hop.
- fan: one sender tells FAN actors, each of which tells one collector; an operation is one way out and back.
- restart: an actor crashes and its supervisor starts it again.
- idle: bytes that an actor with nothing to do costs, by tracemalloc: without what the operating system adds, such as
  the stacks of threads, and without what the benchmark itself makes for it, such as its name.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio

BURST = 5_000
CAPACITY = 1_000
ASKERS = 100
RING = 100
FAN = 1_000
DEADLINE = 5.0
"""Seconds; longer than any ask takes."""

Case: TypeAlias = Callable[[int], Awaitable[float | None]]
"""Does so many operations; returns its own figure if that is not operations a second."""

Cases: TypeAlias = dict[str, Case]


async def ask_from_many(ask: Callable[[], Awaitable[Any]], count: int) -> None:
    """Ask `count` times, from ASKERS tasks."""

    async def asker() -> None:
        for _ in range(count // ASKERS):
            await ask()

    async with anyio.create_task_group() as group:
        for _ in range(ASKERS):
            group.start_soon(asker)


class Counter:
    """What an actor of a peer does with a message."""

    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: object) -> int:
        """Count one."""
        self.count += 1
        return self.count


class Memory:
    """Measures what is allocated between its making and `grown`."""

    def __init__(self) -> None:
        tracemalloc.start()
        self._before = self._used()

    def grown(self) -> int:
        """Return the bytes allocated since, and measure no more."""
        grown = self._used() - self._before
        tracemalloc.stop()
        return grown

    def _used(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
