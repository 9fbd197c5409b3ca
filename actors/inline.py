"""Inline asks: a question to an actor that sleeps is handled at once, in the turn of its asker.

Why: by the queue a question takes two turns of the event loop, and these cost more than all else. A handler that is a
plain method needs no task, so where nobody could tell the difference, the asker runs it. Documented API only.

Laws kept here:
- Order: the actor sleeps, so nothing is queued before the question; and no other actor was about to run before it:
  woken, interrupted, or in wait of its next turn. If one is woken by the handler, its asker goes on behind that.
- Fairness: so many questions in a turn of the loop, and `TURN` seconds; further ones take the queue, so whoever only
  asks lets the loop turn. An actor that had more than one message to handle when it was last awake has several
  senders: they all take the queue, where they are served alike.
- Cancellation: an asker that is being canceled, by asyncio or by a scope of anyio, takes the queue, and is canceled
  there before its question is handled.
- Context variables are those that hosts have. One that the handler sets stays with its actor.
- One mechanism: whatever is not a plain answer with which everybody sleeps again (an exception, an awaitable, a message
  or a signal that came meanwhile) is ended by a host, in the code of the queued path.
"""

from __future__ import annotations

import math
from asyncio import current_task
from collections.abc import Awaitable, Callable, Sized
from contextvars import Context
from typing import Any

from anyio import current_effective_deadline

from .messages import Ask, ExitReason
from .system import System
from .turn import TURN

LIMIT = 16
"""Questions that are handled inline in one turn of the loop, by default."""


class Begun:
    """A handling that has begun in the asker's turn.

    Attributes:
        context: what the handler was called in.
        ask: the question, once a host is to end it.
        handling: what the host is to await then.
        sentence: why a linked actor's end interrupts it.
    """

    __slots__ = ("ask", "context", "handling", "sentence")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ask: Ask | None = None
        self.handling: Awaitable[Any] | None = None
        self.sentence: ExitReason | None = None


class Inline:
    """Who may handle a question inline, in one tree.

    Args:
        system: of the tree.
        clock: of its loop.
        context: of the tree's hosts.
        line: of those that wait for a host.
        limit: questions in a turn; 0: none.
    """

    def __init__(self, system: System, clock: Callable[[], float], context: Context, line: Sized, limit: int) -> None:
        self._system = system
        self._loop = system.loop
        self._clock = clock
        self._context = context
        self._line = line
        self._limit = self._left = limit
        self._until = 0.0
        self._spare: Begun | None = Begun(context.copy())

    def begin(self) -> Begun | None:
        """Let the running task handle a question, if it may; `end` or `pass_on` follows."""
        begun = self._spare
        if begun is None or not self._left or self._line or self._system.waking:
            return None
        task = current_task(self._loop)
        if task is None or task.cancelling() or current_effective_deadline() == -math.inf:
            return None
        now = self._clock()
        if not self._until:
            self._until = now + TURN
            self._loop.call_soon(self._turn, context=self._context)
        elif now >= self._until:
            return None
        self._left -= 1
        self._spare = None
        return begun

    def end(self, begun: Begun) -> bool:
        """It is handled; False: not without consequences."""
        if self._line or self._system.waking or begun.context != self._context:
            return False
        self._spare = begun
        return True

    def pass_on(self, begun: Begun) -> Context | None:
        """A host will end it; return the context that it needs for that, if not any will do."""
        self._spare = Begun(self._context.copy())
        return begun.context if begun.context != self._context else None

    def _turn(self) -> None:
        self._left = self._limit
        self._until = 0.0


async def returned(value: Any) -> Any:
    """Return what the handler did."""
    return value


async def raised(error: BaseException) -> Any:
    """Raise what the handler did."""
    raise error
