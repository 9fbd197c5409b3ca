"""Simulated processes on one virtual loop: each can be frozen like a process under SIGSTOP, and has its own line out.

Why: a killed process runs no `finally`, and a stopped one does nothing at all, not even let its timers pass: canceling
tasks would show neither. A frozen node's task steps, callbacks and timers are held back until it is thawed; one that is
never thawed was killed. What it meets of the world, the store and whatever its components call, goes through its
`Line`, where calls can fail, hang, or be answered to nobody.

Which node code belongs to is a context variable, so it is inherited by every task and timer that the code starts.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio

from ...transports import StoreUnavailable, Transport, Watch
from .clock import VirtualLoop

T = TypeVar("T")

LATENCY_S = 0.02
"""The longest time that a call takes to get somewhere on a good line, and its answer back, seconds."""

PATIENCE_S = 1.0
"""How long a caller waits for an answer that is lost, seconds."""


class ReplyLost(StoreUnavailable):
    """A call was made, and its answer was lost: it may have happened or not."""


class Line:
    """What a simulated process meets of the world. Callers wait as long as `hung`; they fail while `down`.

    Attributes:
        harmed: calls that failed, hung or lost their answer.
        to_lose: how many of the next answers get lost.
    """

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.down = False
        self.hung = False
        self.severed = False
        self.to_lose = 0
        self.harmed = 0
        self._rng = rng
        self._mended = anyio.Event()

    def mend(self) -> None:
        """Make the line good again; calls that hang go on."""
        self.down = self.hung = False
        self._mended.set()
        self._mended = anyio.Event()

    async def call(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something at the far end, and bring its answer back.

        Raises:
            StoreUnavailable: the line is down, and nothing happened.
            ReplyLost: it went down, or the answer was lost.
        """
        await self._pass("the line is down", StoreUnavailable)
        answer = await act()
        if self.to_lose:
            self.to_lose -= 1
            self.harmed += 1
            await anyio.sleep(PATIENCE_S)
            raise ReplyLost("the answer was lost")
        await self._pass("the line went down before the answer came", ReplyLost)
        return answer

    async def _pass(self, why: str, failure: type[StoreUnavailable]) -> None:
        await anyio.sleep(self._rng.random() * LATENCY_S)
        self.harmed += self.hung or self.down
        while self.hung and not self.severed:
            await self._mended.wait()
        if self.severed:
            await anyio.sleep_forever()
        if self.down:
            raise failure(why)

    def store(self, inner: Transport) -> Transport:
        """The store as it is seen at this end of the line."""
        remote: Any = Remote(inner, self)
        return remote  # type: ignore[no-any-return]  # a transport by its methods


class Remote:
    """A transport at the far end of a line."""

    def __init__(self, inner: Transport, line: Line) -> None:
        self.url = inner.url
        self.durability = inner.durability
        self.forgets = inner.forgets
        self._inner = inner
        self._line = line

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        """Watch; hints that come while the line is bad are lost."""
        return self._watch(topics)

    @asynccontextmanager
    async def _watch(self, topics: tuple[str, ...]) -> AsyncIterator[Watch]:
        async with self._inner.watch(*topics) as watch:
            yield RemoteWatch(watch, self._line)

    def __getattr__(self, name: str) -> Any:
        """Every other call goes over the line."""
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._line.call(lambda: method(*args, **kwargs))

        return call


class RemoteWatch:
    """Hints over a line."""

    def __init__(self, inner: Watch, line: Line) -> None:
        self._inner = inner
        self._line = line

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint."""
        came = await self._inner.wait(timeout)
        return came and not (self._line.down or self._line.hung or self._line.severed)


current_line: ContextVar[Line | None] = ContextVar("greenroom_simulated_line", default=None)


async def outside(act: Callable[[], T]) -> T:
    """Have an effect in the outside world: in a simulation over the line of the process that this code is part of.

    Raises:
        ConnectionError: the line is bad; the effect may have happened or not.
    """
    line = current_line.get()
    if line is None:
        return act()

    async def far() -> T:
        return act()

    try:
        return await line.call(far)
    except StoreUnavailable as error:
        raise ConnectionError(str(error)) from error


class NodeLoop(VirtualLoop):
    """Virtual time, on which everything that belongs to a line can be frozen."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self._frozen: dict[Line, list[asyncio.Handle]] = {}
        self._sleeping: dict[Line, list[asyncio.TimerHandle]] = {}
        self._fresh = False

    def frozen(self, line: Line) -> bool:
        """Whether this node is frozen."""
        return line in self._frozen

    def freeze(self, line: Line) -> None:
        """Let nothing of this node run from the next turn of the loop on. Its clock goes on, as a real one's does."""
        self._frozen.setdefault(line, [])
        self._sleeping.setdefault(line, [])
        self._fresh = True

    def thaw(self, line: Line) -> None:
        """Let it run again; timers whose time has passed are due at once."""
        loop: Any = self
        loop._ready.extend(self._frozen.pop(line, ()))
        for timer in self._sleeping.pop(line, ()):
            if not timer.cancelled():
                timer._scheduled = True  # type: ignore[attr-defined]  # of asyncio
                heapq.heappush(loop._scheduled, timer)

    def _run_once(self) -> None:
        if self._frozen:
            self._hold()
        super()._run_once()  # type: ignore[misc]  # of asyncio.BaseEventLoop

    def _hold(self) -> None:
        """Take what belongs to frozen nodes out of the loop's line of what is ready, and of what is to come."""
        loop: Any = self
        for _ in range(len(loop._ready)):
            handle = loop._ready.popleft()
            self._frozen.get(_line_of(handle), loop._ready).append(handle)
        if self._fresh:  # what is frozen sets no timers
            self._fresh = False
            left = []
            for timer in loop._scheduled:
                line = _line_of(timer)
                if line in self._sleeping and not timer.cancelled():
                    timer._scheduled = False
                    self._sleeping[line].append(timer)
                else:
                    left.append(timer)
            loop._scheduled = left
            heapq.heapify(left)


def _line_of(handle: asyncio.Handle) -> Any:
    return handle._context.get(current_line)  # type: ignore[attr-defined]  # of asyncio
