"""A client that listens: who sees it leave, how it is woken, how it is told something at once, and how it is cut.

Why: a response that waits for news must also hear that its client has left, that it should break its silence, and that
the server stops. ASGI tells of the first only to who waits in `receive`, so that is the one task beside the response's
own; the rest is a word to the future that the response naps on.

Why at once: to wake ten thousand tasks, each to send one chunk and to nap again, costs more than the chunks. A `send`
that takes what it is given without a wait whenever the client does (`AT_ONCE`) can as well be called from outside of
the response's task, which naps on.

Law kept here: 7 (whatever goes on for a client is in its group, and ends with it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar, cast

from starlette.types import Receive, Send

T = TypeVar("T")

AT_ONCE = "greenroom.at_once"
"""Where a server may leave its `send` in the ASGI scope: it waits before it takes something, or not at all."""

PING_S = 15.0
"""Silence after which a comment is sent, so that proxies keep the connection, seconds."""

STALL_S = 60.0
"""How long a client may take nothing of what is sent to it, seconds."""

SLICE = 100
"""Connections that are seen to in one turn of the loop: others want their turn too."""


class Connection:
    """A client that listens.

    Args:
        life: of the block that listens; `cut` ends it.
        group: what goes on for the client beside the response's own task.
        at_once: what was left at `AT_ONCE`, if anything was.

    Attributes:
        quick: it can be told something at once.
        gone: the client has left.
        stalled: it was cut because it took nothing.
    """

    __slots__ = ("_at_once", "_life", "_loop", "_nap", "_speaking", "_spoke", "gone", "group", "quick", "stalled")

    def __init__(self, life: asyncio.Timeout, group: asyncio.TaskGroup, at_once: Send | None = None) -> None:
        self.group = group
        self.gone = False
        self.stalled = False
        self.quick = at_once is not None
        self._at_once = at_once
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._nap: asyncio.Future[None] | None = None
        self._speaking = False
        self._spoke = self._loop.time()

    async def watch(self, receive: Receive) -> None:
        """Cut the connection as soon as the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.cut()

    def cut(self) -> None:
        """Cancel what goes on for the client."""
        if self._life.when() is None:
            self._life.reschedule(self._loop.time())

    async def say(self, send: Send, body: bytes) -> None:
        """Send some of the response; wait while the client does not take it."""
        self._spoke, self._speaking = self._loop.time(), True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._speaking = False

    def say_at_once(self, body: bytes, *, more: bool = True) -> bool:
        """Send some of the response without a wait, whoever calls; False: that cannot be now, and nothing was sent."""
        if self._at_once is None:
            return False
        message = {"type": "http.response.body", "body": body, "more_body": more}
        sending = cast("Coroutine[Any, Any, None]", self._at_once(message))
        try:
            sending.send(None)
        except StopIteration:
            self._spoke = self._loop.time()
            return True
        sending.close()
        return False

    async def nap(self) -> None:
        """Wait to be nudged."""
        self._nap = self._loop.create_future()
        try:
            await self._nap
        finally:
            self._nap = None

    @property
    def napping(self) -> bool:
        """Whether it naps, and has not been nudged."""
        return self._nap is not None

    def nudge(self) -> bool:
        """Wake the connection if it naps; whether it did."""
        if self._nap is None:
            return False
        if not self._nap.done():
            self._nap.set_result(None)
        return True

    @property
    def silent(self) -> bool:
        """Whether it is time for a comment."""
        return self._loop.time() - self._spoke >= PING_S

    def check(self, now: float) -> None:
        """Look after it from time to time: one that is silent is nudged, a client that takes nothing is cut."""
        silence = now - self._spoke
        if self._speaking and silence >= STALL_S:
            self.stalled = True
            self.cut()
        elif silence >= PING_S:
            self.nudge()


def in_turns(each: Callable[[T], object], items: Iterable[T]) -> None:
    """Do something for each of many, for some of them in one turn of the loop."""
    _turn(each, iter(items))


def _turn(each: Callable[[T], object], items: Iterator[T]) -> None:
    for done, item in enumerate(items, 1):
        each(item)
        if done == SLICE:
            asyncio.get_running_loop().call_soon(_turn, each, items)
            return
