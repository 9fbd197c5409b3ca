"""The kernel against a task with an asyncio.Queue, which is what one would write by hand.

Both run in the same process and on the same loop, round after round in turn, so that a busy machine slows both;
figures are medians of the rounds. A tell is counted until it has been handled.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

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

from .report import Row, Suite

ROUNDS = 5
MESSAGES = 50_000
BURST = 5_000
QUESTIONS = 5_000
SPAWNS = 2_000
RESTARTS = 4_000
IDLE = 5_000
CAPACITY = 1_000
OURS = "greenroom"
QUEUE = "asyncio.Queue"


class Count(Request[int]):
    """Ask how many messages were handled."""


class Counter(Actor[Any]):
    """Counts messages."""

    mailbox = MailboxSpec(capacity=None)

    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any) -> int:
        """Count one."""
        self.count += 1
        return self.count


class Bounded(Counter):
    """Counts messages in a bounded mailbox."""

    mailbox = MailboxSpec(capacity=CAPACITY)


class Fragile(Counter):
    """Crashes on every message but a question."""

    def receive(self, message: Any) -> int:
        """Crash, or answer."""
        if type(message) is not Count:
            raise RuntimeError("crash")
        return 0


async def consume(queue: asyncio.Queue[Any]) -> None:
    """Let a Counter handle what comes; answer futures: the hand-written actor."""
    counter = Counter()
    while True:
        message = await queue.get()
        result = counter.receive(message)
        if isinstance(message, asyncio.Future):
            message.set_result(result)


async def question(queue: asyncio.Queue[Any]) -> int:
    """Ask the hand-written actor."""
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    queue.put_nowait(reply)
    return await reply


async def many(ask: Callable[[], Awaitable[Any]], askers: int) -> None:
    """Ask QUESTIONS times, from so many tasks."""

    async def asker() -> None:
        for _ in range(QUESTIONS // askers):
            await ask()

    async with anyio.create_task_group() as group:
        for _ in range(askers):
            group.start_soon(asker)


class Stage:
    """Both systems, ready to be measured."""

    def __init__(self, tree: Supervisor) -> None:
        self._tree = tree
        self._counter: Ref[Any] = tree.ref("counter")
        self._bounded: Ref[Any] = tree.ref("bounded")
        self._fragile: Ref[Any] = tree.ref("fragile")
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._full: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)

    async def consume(self) -> None:
        """Run the hand-written actors."""
        async with anyio.create_task_group() as group:
            group.start_soon(consume, self._queue)
            group.start_soon(consume, self._full)

    async def tell(self) -> None:
        """Tell, until all is handled."""
        for _ in range(MESSAGES // BURST):
            for number in range(BURST):
                self._counter.tell(number)
            await self._counter.ask(Count())

    async def tell_queue(self) -> None:
        """The same by hand."""
        for _ in range(MESSAGES // BURST):
            for number in range(BURST):
                self._queue.put_nowait(number)
            await question(self._queue)

    async def send(self) -> None:
        """Send into a bounded mailbox."""
        for number in range(MESSAGES):
            await self._bounded.send(number)
        await self._bounded.ask(Count())

    async def send_queue(self) -> None:
        """The same by hand."""
        for number in range(MESSAGES):
            await self._full.put(number)
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._full.put(reply)
        await reply

    async def ask_one(self) -> None:
        """Ask from one task."""
        await many(lambda: self._counter.ask(Count()), 1)

    async def ask_one_queue(self) -> None:
        """The same by hand."""
        await many(lambda: question(self._queue), 1)

    async def ask_hundred(self) -> None:
        """Ask from a hundred tasks."""
        await many(lambda: self._counter.ask(Count()), 100)

    async def ask_hundred_queue(self) -> None:
        """The same by hand."""
        await many(lambda: question(self._queue), 100)

    async def spawn(self) -> None:
        """Start and stop actors, one after the other."""
        for number in range(SPAWNS):
            name = str(number)
            await self._tree.start_actor(ChildSpec(name=name, start=Counter, restart=Restart.TEMPORARY))
            await self._tree.stop_child(name)

    async def spawn_queue(self) -> None:
        """Start and cancel tasks with a queue."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SPAWNS):
                task = group.create_task(consume(asyncio.Queue()))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

    async def restart(self) -> None:
        """Crash and be restarted by a supervisor."""
        for _ in range(RESTARTS):
            self._fragile.tell("crash")
        await self._fragile.ask(Count())

    async def idle_bytes(self) -> float:
        """Return what an actor with nothing to do costs."""
        before = _traced()
        for number in range(IDLE):
            spec = ChildSpec(name=f"idle {number}", start=Counter, restart=Restart.TEMPORARY)
            await self._tree.start_actor(spec)
        used = _traced() - before
        for number in range(IDLE):
            await self._tree.stop_child(f"idle {number}")
        return used / IDLE

    async def idle_bytes_queue(self) -> float:
        """Return what a task with an empty queue costs."""
        async with asyncio.TaskGroup() as group:
            before = _traced()
            tasks = [group.create_task(consume(asyncio.Queue())) for _ in range(IDLE)]
            await asyncio.sleep(0)
            used = _traced() - before
            for task in tasks:
                task.cancel()
        return used / IDLE


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def _rates(cases: list[tuple[str, str, int, Callable[[], Awaitable[None]]]]) -> list[Row]:
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for case, system, operations, body in cases:
            gc.collect()
            started = time.perf_counter()
            await body()
            rate = operations / (time.perf_counter() - started)
            samples.setdefault((case, system), []).append(rate)
    return [
        Row(case=case, system=system, value=statistics.median(rates), unit="op/s", samples=tuple(rates))
        for (case, system), rates in samples.items()
    ]


async def _measure() -> list[Row]:
    children = (
        ChildSpec(name="counter", start=Counter),
        ChildSpec(name="bounded", start=Bounded),
        ChildSpec(name="fragile", start=Fragile),
    )
    spec = SupervisorSpec(name="bench", intensity=1_000_000, period=60, children=children)
    async with supervise(spec, events=lambda event: None) as tree, anyio.create_task_group() as group:
        stage = Stage(tree)
        group.start_soon(stage.consume)
        rows = await _rates(
            [
                ("tell", OURS, MESSAGES, stage.tell),
                ("tell", QUEUE, MESSAGES, stage.tell_queue),
                ("send", OURS, MESSAGES, stage.send),
                ("send", QUEUE, MESSAGES, stage.send_queue),
                ("ask", OURS, QUESTIONS, stage.ask_one),
                ("ask", QUEUE, QUESTIONS, stage.ask_one_queue),
                ("ask of 100", OURS, QUESTIONS, stage.ask_hundred),
                ("ask of 100", QUEUE, QUESTIONS, stage.ask_hundred_queue),
                ("spawn", OURS, SPAWNS, stage.spawn),
                ("spawn", QUEUE, SPAWNS, stage.spawn_queue),
                ("restart", OURS, RESTARTS, stage.restart),
            ]
        )
        tracemalloc.start()
        sizes = {OURS: await stage.idle_bytes(), QUEUE: await stage.idle_bytes_queue()}
        tracemalloc.stop()
        group.cancel_scope.cancel()
    rows += [Row(case="idle", system=name, value=size, unit="bytes", samples=(size,)) for name, size in sizes.items()]
    return rows


def run(seed: int) -> Suite:
    """Measure. The seed is only noted: nothing here is random."""
    rows = asyncio.run(_measure())
    value = {(row.case, row.system): row.value for row in rows}
    ratios = {
        f"{name}/asyncio.Queue": value[case, OURS] / value[case, QUEUE]
        for name, case in [
            ("tell", "tell"),
            ("send", "send"),
            ("ask", "ask"),
            ("ask100", "ask of 100"),
            ("spawn", "spawn"),
        ]
    }
    ratios["restart_per_s"] = value["restart", OURS]
    ratios["bytes_per_idle_actor"] = value["idle", OURS]
    return Suite(name="actors", seed=seed, rows=tuple(rows), ratios=ratios)
