"""Actors as classes: what a user writes, and what the kernel gives it to work with.

Laws kept here: one message at a time; a timer dies with the life of the actor that set it (law 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from .errors import MailboxFull
from .group import Groups
from .mailbox import Mailbox
from .messages import NORMAL, ExitReason
from .overflow import MailboxSpec
from .ref import Ref
from .registry import Registry
from .stash import Stashed

M = TypeVar("M")


class Actor(Generic[M]):
    """A class actor: override `receive`, and `started` and `stopped` where it holds resources.

    Every life of the actor is a new instance. `receive` is called for one message at a time; what it sets in `self`
    is its own.

    Attributes:
        mailbox: how much its mailbox holds; the child spec may say otherwise.
        context: its own address, timers and monitors; set before `started`.
        forgets: whether context variables that `receive` sets are forgotten when it has handled the messages that it
            has; otherwise they stay, and it has a task of its own from then on. Without effect if it is hooked.
        hooked: whether its class has a `started` or a `stopped` of its own.
    """

    mailbox: ClassVar[MailboxSpec] = MailboxSpec()
    forgets: ClassVar[bool] = False
    hooked: ClassVar[bool] = False
    context: Context[M]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.hooked = cls.started is not Actor.started or cls.stopped is not Actor.stopped

    async def started(self) -> None:
        """Acquire resources; what it raises fails the start. Runs in the same task as `receive` and `stopped`."""

    def receive(self, message: M) -> Any:
        """Handle a message, in a plain or an async method; what it returns (or awaits) answers an ask.

        What it raises crashes the actor: the asker gets ActorDied, the supervisor decides on a restart.
        """
        raise TypeError(f"{type(self).__name__} has no receive(): define how it handles {type(message).__name__}")

    async def stopped(self, reason: ExitReason) -> None:
        """Release resources. Runs at every end of a started actor, also before a restart, but not when it is killed."""


class Timer:
    """A message that an actor will be sent later, once or again and again."""

    __slots__ = ("_handle", "_interval", "_tell", "_timers")

    def __init__(self, delay: float, interval: float | None, tell: Callable[[], None], timers: set[Timer]) -> None:
        self._interval = interval
        self._tell = tell
        self._timers = timers
        self._handle = asyncio.get_running_loop().call_later(delay, self._fire)
        timers.add(self)

    def cancel(self) -> None:
        """Send no more; without effect when it has fired for the last time."""
        self._handle.cancel()
        self._timers.discard(self)

    def _fire(self) -> None:
        if self._interval is None:
            self._timers.discard(self)
        else:
            loop = asyncio.get_running_loop()
            due = max(self._handle.when() + self._interval, loop.time())
            self._handle = loop.call_at(due, self._fire)
        self._tell()


class _Idle(Timer):
    """A message that an actor is sent whenever none has come for a while."""

    __slots__ = ("_count", "_mailbox")

    def __init__(self, after: float, mailbox: Mailbox[Any], tell: Callable[[], None], timers: set[Timer]) -> None:
        self._mailbox = mailbox
        self._count = mailbox.count()
        super().__init__(after, after, tell, timers)

    def _fire(self) -> None:
        count, tell = self._mailbox.count(), self._tell
        busy = count != self._count or self._mailbox.sleeper is None
        self._count = count
        self._tell = _nothing if busy else tell
        super()._fire()
        self._tell = tell


def _nothing() -> None:
    pass


class Context(Generic[M]):
    """What a class actor knows of its place: its address, its timers, whom it monitors, how to stop."""

    __slots__ = ("_mailbox", "timers")

    def __init__(self, mailbox: Mailbox[M]) -> None:
        self._mailbox = mailbox
        self.timers: set[Timer] | None = None

    @property
    def ref(self) -> Ref[M]:
        """The actor's own address."""
        return self._mailbox.ref

    @property
    def path(self) -> str:
        """Where the actor is in the tree."""
        return self._mailbox.path

    def timer(self, delay: float, message: M) -> Timer:
        """Send itself a message after a delay.

        Args:
            delay: seconds, 0 or more.
            message: a dead letter if the mailbox is full then.
        """
        return self._set(delay, None, message)

    def every(self, interval: float, message: M) -> Timer:
        """Send itself a message again and again, the first time after one interval.

        Args:
            interval: seconds, more than 0.
            message: a dead letter whenever the mailbox is full.
        """
        if interval <= 0:
            raise ValueError(f"interval is {interval}: give more than 0 seconds")
        return self._set(interval, interval, message)

    def idle(self, after: float, message: M) -> Timer:
        """Send itself a message whenever no other has come for a while: after that long, and less than twice as long.

        Args:
            after: seconds, more than 0.
            message: itself counts as one that has come.
        """
        if after <= 0:
            raise ValueError(f"after is {after}: give more than 0 seconds")
        return _Idle(after, self._mailbox, lambda: self._tell(message), self._own_timers())

    def monitor(self, ref: Ref[Any]) -> None:
        """Receive a `Down` ahead of all messages once that actor has ended for good, or at once if it has."""
        self._mailbox.monitor(ref)

    def demonitor(self, ref: Ref[Any]) -> None:
        """Receive no `Down` of that actor, also not one that is on its way."""
        self._mailbox.demonitor(ref)

    def link(self, ref: Ref[Any]) -> None:
        """End together: when a life of one ends other than normally, so does that of the other, with the same reason.

        It ends at the await where it is, or after the message in hand, and `stopped` runs.
        """
        self._mailbox.link(ref)

    def unlink(self, ref: Ref[Any]) -> None:
        """Undo `link`."""
        self._mailbox.unlink(ref)

    def trap_exits(self, on: bool = True) -> None:
        """Receive an `Exited` ahead of all messages when a linked actor ends, also normally, and live on."""
        self._mailbox.trap_exits(on)

    @property
    def registry(self) -> Registry:
        """The names of its tree."""
        return self._mailbox.system.registry

    @property
    def groups(self) -> Groups:
        """The groups of its tree."""
        return self._mailbox.system.groups

    def stash(self) -> NoReturn:
        """Put the message in hand aside until `unstash`, and end its handling here; an asker goes on waiting.

        Only from `receive`, and not from a task that it has started.

        Raises:
            StashFull: as many as the spec allows are aside.
        """
        self._mailbox.check_stash()
        raise Stashed

    def unstash(self) -> None:
        """Put all that was stashed ahead of the queue, in the order in which it was sent."""
        self._mailbox.unstash()

    def stop(self) -> None:
        """End normally after the message in hand."""
        self._mailbox.signal(NORMAL)

    def _set(self, delay: float, interval: float | None, message: M) -> Timer:
        return Timer(delay, interval, lambda: self._tell(message), self._own_timers())

    def _own_timers(self) -> set[Timer]:
        if self.timers is None:
            self.timers = set()
        return self.timers

    def _tell(self, message: M) -> None:
        try:
            self._mailbox.ref.tell(message)
        except MailboxFull:
            self._mailbox.drop(message, "the mailbox is full")
