"""Hosts: the tasks that actors run in.

Why: an idle actor should cost an object and not a task. An actor with mail is put in line, and one host, the
dispatcher, serves the line: many actors a turn, no switch of tasks between them. If a handler suspends, another host
takes over the line, so no actor waits for another's await. An actor that needs a task of its own (a function actor,
one with `started` or `stopped`, one that has set a context variable) gets one for life.

Laws kept here:
- Law 7: every host is a task of the one group of its tree, and ends with it.
- Fairness: after `BATCH` messages or `TURN` seconds a host lets the event loop turn.
- Cancellation from outside does not reach actors: their supervisors stop them, in order.
- Context variables never leak from one actor to another.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.abc import TaskGroup

try:  # anyio asks it, where it is installed; and it knows tasks, but not the loop's callbacks, where hosts are made
    import sniffio
except ImportError:
    sniffio = None  # type: ignore[assignment]

from .events import Listener
from .inline import LIMIT, Inline
from .system import System
from .turn import BATCH, TURN

SPARE = 256
"""Idle hosts that are kept for later."""

IDLE = "greenroom host"
"""The name of a task that is nobody's home."""


Outcome: TypeAlias = bool | Awaitable[None]
"""Of a run: there is no more to do, False; the host's turn is over, True; or what to await before the next run."""


class Life(Protocol):
    """What runs on a host."""

    path: str
    ended: bool

    def run(self, host: Host) -> Outcome:
        """Work as far as that needs no waiting, or is fair to others."""
        ...

    async def live(self, host: Host) -> None:
        """Work in a task of its own until it ends."""
        ...


class Hosts:
    """The hosts of one tree, and the line of those that wait for one.

    Args:
        group: owns every host.
        listener: hears kernel events; None costs nothing.
        inline: questions that are handled in the turn of their asker, in each turn of the loop.
    """

    def __init__(self, group: TaskGroup, listener: Listener | None, inline: int = LIMIT) -> None:
        self.system = System(listener)
        self.listener = listener
        self.loop = asyncio.get_running_loop()
        own = type(self.loop).time is not asyncio.BaseEventLoop.time
        self.clock = self.loop.time if own else time.monotonic  # the same without the way there
        self.context = contextvars.copy_context()
        if sniffio is not None:
            self.context.run(sniffio.current_async_library_cvar.set, "asyncio")
        self.line: deque[Life] = deque()
        self.inline = Inline(self.system, self.clock, self.context, self.line, inline)
        self.dispatcher: Host | None = None
        self.bell: asyncio.Future[None] | None = None
        self.idle: list[Host] = []
        self.closed = False
        self._group = group
        self._look: asyncio.Handle | None = None

    def enter(self, life: Life) -> None:
        """Put in line what has work to do."""
        self.line.append(life)
        if self.bell is not None or self.dispatcher is None:
            self.ring()

    def ring(self) -> None:
        """See that somebody serves the line: the dispatcher waits for the bell, or there is none."""
        bell, self.bell = self.bell, None
        if bell is None:
            self._appoint()
        elif not bell.done():
            bell.set_result(None)

    def house(self, life: Life, context: contextvars.Context | None = None) -> Host:
        """Give it a task of its own, and the context variables of that context."""
        if context is None and self.idle:
            host = self.idle.pop()
            host.take_in(life)
            return host
        return self._spawn(life, context)

    def look_after(self) -> None:
        """The dispatcher is about to await a handler: see in the next turn whether it hangs there."""
        if self._look is None:
            self._look = self.loop.call_soon(self._relieve)

    def dismiss(self, host: Host) -> None:
        """The host serves the line no more; another one does if there is a need."""
        if self.dispatcher is host:
            self.dispatcher = self.bell = None
            if self.line and not self.closed:
                self._appoint()

    def mend(self) -> None:
        """Replace a dispatcher whose task was canceled before it began: the loop does so when it is torn down."""
        if self.dispatcher is not None and self.dispatcher.task is None:
            self.dismiss(self.dispatcher)

    def close(self) -> None:
        """End the idle hosts; the others end when they become idle."""
        self.closed = True
        self.system.deadlines.close()
        if self.bell is not None:
            self.ring()
        for host in self.idle:
            host.unpark()

    def _relieve(self) -> None:
        self._look = None
        if self.dispatcher is not None and self.dispatcher.handling:
            self.dismiss(self.dispatcher)

    def _appoint(self) -> None:
        if self.idle:
            self.dispatcher = self.idle.pop()
            self.dispatcher.unpark()
        else:
            self.dispatcher = self._spawn(None)

    def _spawn(self, life: Life | None, context: contextvars.Context | None = None) -> Host:
        host = Host(self)
        name = life.path if life is not None else IDLE
        (context or self.context).run(self._spawn_task, host, life, name)
        return host

    def _spawn_task(self, host: Host, life: Life | None, name: str) -> None:
        self._group.start_soon(host.main, life, name=name)


class Host:
    """One task: either the home of one life, or serving whoever is in line.

    Attributes:
        canceled: whether `cancel` was called.
        handling: True while a handler is awaited.
        task: the task, once what it was made for, or took in, has begun.
        left: messages left in this turn.
        until: when the turn is over, on the loop's clock; 0 until a look at the clock begins it.
    """

    __slots__ = ("_guest", "_hosts", "_place", "_scope", "canceled", "handling", "left", "task", "until")

    def __init__(self, hosts: Hosts) -> None:
        self.canceled = False
        self.task: asyncio.Task[Any] | None = None
        self.handling = False
        self.left = BATCH
        self.until = 0.0
        self._hosts = hosts
        self._guest: Life | None = None
        self._place: asyncio.Future[None] | None = None
        self._scope: anyio.CancelScope | None = None  # made by the task: a loop callback may not make one

    def cancel(self) -> None:
        """Cancel what runs on it, or will."""
        self.canceled = True
        if self._scope is not None:
            self._scope.cancel()
            self._hosts.system.goes_on()

    def interrupt(self) -> None:
        """Cancel what it awaits."""
        assert self.task is not None
        self.task.cancel()
        self._hosts.system.goes_on()

    async def main(self, life: Life | None) -> None:
        """Run the task."""
        self.task = asyncio.current_task()
        with anyio.CancelScope(shield=True) as self._scope:
            if self.canceled:
                self._scope.cancel()
            try:
                if life is None or await self._lodge(life):
                    await self._serve()
            finally:
                if self in self._hosts.idle:
                    self._hosts.idle.remove(self)
                self._hosts.loop.call_soon(self._hosts.dismiss, self)  # not now: the loop may be torn down

    def begin(self) -> None:
        """Begin a turn."""
        self.left = BATCH
        self.until = 0.0

    def over(self) -> bool:
        """Tell whether the turn is over by the clock; the first look in a turn begins it."""
        now = self._hosts.clock()
        if self.until:
            return now >= self.until
        self.until = now + TURN
        return False

    def await_handler(self) -> None:
        """A handler is about to be awaited: if it suspends, somebody else has to serve the line."""
        self.handling = True
        if self._hosts.dispatcher is self:
            self._hosts.look_after()

    async def park(self) -> None:
        """Wait for `unpark`."""
        self._place = place = self._hosts.loop.create_future()
        try:
            await place
        finally:
            self._hosts.system.waking -= place.done() and not place.cancelled()
        self.begin()

    def unpark(self) -> None:
        """End the wait."""
        if self._place is not None and not self._place.done():
            self._place.set_result(None)
            self._hosts.system.waking += 1

    async def yield_turn(self) -> None:
        """Let everybody else have a turn."""
        await self._hosts.system.yield_turn()
        self.begin()

    def take_in(self, life: Life) -> None:
        """Be the home of a life, while idle: until it ends."""
        self._guest = life
        self.task = None
        self.unpark()

    async def _lodge(self, guest: Life) -> bool:
        """Be its home; False: it leaves traces, so nobody else is to have this task."""
        self._guest = None
        self.task = task = asyncio.current_task()
        assert task is not None
        task.set_name(guest.path)
        await guest.live(self)
        task.set_name(IDLE)
        return not (self.canceled or task.cancelling()) and contextvars.copy_context() == self._hosts.context

    async def _serve(self) -> None:
        hosts = self._hosts
        line = hosts.line
        context, copy_context = hosts.context, contextvars.copy_context
        while not hosts.closed:
            if hosts.dispatcher is not self:
                if len(hosts.idle) >= SPARE:
                    return
                hosts.idle.append(self)
                await self.park()
                if self._guest is not None and not await self._lodge(self._guest):
                    return
                continue
            if not line:
                hosts.bell = hosts.loop.create_future()
                await hosts.bell
                self.left = BATCH
                self.until = 0.0
                continue
            if not self.left:
                await asyncio.sleep(0)
                self.left = BATCH
                self.until = 0.0
            life = line.popleft()
            outcome = life.run(self)
            while outcome is not False and outcome is not True:
                await outcome
                outcome = life.run(self)
            if copy_context() != context:
                hosts.dismiss(self)
                if not life.ended:
                    await life.live(self)
                return
            if outcome:
                hosts.enter(life)  # and not only into the line: nobody may be serving it, when a handler has suspended
