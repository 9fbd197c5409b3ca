"""Deadlines of questions: one timer for all that were asked with the same timeout.

Why: nearly every question with a deadline is answered before it, and a timer for each would cost as much as half of the
question. Those with the same timeout expire in the order in which they were asked, so the first one's timer will do.

Laws kept here: a question expires at its own time, not earlier; a tree that has ended leaves no timer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from .errors import AskTimeout

KEPT = 16
"""Timeouts that keep their timer while no question waits; where there are more, an unused one is given up at once."""


class Deadlines:
    """The deadlines of one tree.

    Attributes:
        loop: tells the time.
        timeouts: those in use, by their seconds.
        kept: how many of them may be unused.
    """

    __slots__ = ("kept", "loop", "timeouts")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timeouts: dict[float, Timeout] = {}
        self.kept = KEPT

    def after(self, seconds: float) -> Timeout:
        """Return the timeout of so many seconds."""
        timeout = self.timeouts.get(seconds)
        if timeout is None:
            timeout = self.timeouts[seconds] = Timeout(self, seconds)
        return timeout

    def close(self) -> None:
        """The tree has ended: keep no timer from now on."""
        self.kept = 0
        for timeout in list(self.timeouts.values()):
            timeout.close()


class Timeout:
    """Questions with the same timeout, in the order in which they expire."""

    __slots__ = ("_deadlines", "_seconds", "_timer", "_waiting")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._waiting: OrderedDict[asyncio.Future[Any], tuple[float, str]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, reply: asyncio.Future[Any], path: str, asked: float) -> None:
        """Have a reply fail with AskTimeout, naming the actor's path, unless it is removed in time.

        Args:
            reply: of a question that is not older than one added before.
            path: of the actor that is asked.
            asked: when, on the loop's clock.
        """
        loop = self._deadlines.loop
        when = asked + self._seconds
        self._waiting[reply] = when, path
        if self._timer is None:
            self._timer = loop.call_at(when, self._expire, when)

    def remove(self, reply: asyncio.Future[Any]) -> None:
        """Nobody waits for the reply any more."""
        self._waiting.pop(reply, None)
        if not self._waiting and len(self._deadlines.timeouts) > self._deadlines.kept:
            self.close()

    def close(self) -> None:
        """Give up the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines.timeouts.get(self._seconds) is self:
            del self._deadlines.timeouts[self._seconds]

    def _expire(self, now: float) -> None:
        while self._waiting:
            reply = next(iter(self._waiting))
            when, path = self._waiting[reply]
            if when > now:
                self._timer = self._deadlines.loop.call_at(when, self._expire, when)
                return
            del self._waiting[reply]
            if not reply.done():
                reply.set_exception(AskTimeout(path, self._seconds))
        self.close()
