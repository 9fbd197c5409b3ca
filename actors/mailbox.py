"""The mailbox: the messages of one actor, as its reader has them. Those that wait are in the `Box`, which it is.

Why: it belongs to an actor's place under its supervisor and not to one life of the actor, so what is queued when
the actor crashes is handled by its next life.

Laws kept here:
- The end of a life loses what it had in hand, and nothing else; the end of the actor makes all the rest dead letters.
- A canceled `get` takes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from . import link
from .box import NO_ROOM, NOTHING, Box, given_up
from .errors import StashFull
from .messages import CRASHED, Ask, Ending, ExitReason, Request, Stop, answered, expired
from .overflow import RETRY, MailboxSpec, MailboxStatistics
from .reader import LATER, Reader
from .stash import Aside
from .turn import BATCH

if TYPE_CHECKING:
    from .group import Groups
    from .ref import Ref
    from .registry import Registry
    from .system import System

M = TypeVar("M")
R = TypeVar("R")


class Mailbox(Box, Generic[M]):
    """The messages of one actor. A function actor reads its own; everybody else writes through a `Ref`."""

    __slots__ = ("_asked", "_budget", "_ending", "_getter", "_taken", "handled", "reader", "ref", "ties")

    def __init__(self, path: str, spec: MailboxSpec, system: System) -> None:
        Box.__init__(self, path, spec, system)  # super() would cost as much as the rest of it
        self.ref: Ref[M]
        self.reader: Reader | None = None
        self.ties: link.Ties | None = None
        self.handled = 0
        self._getter: asyncio.Future[None] | None = None
        self._asked: dict[int, deque[Ask]] | None = None
        self._taken: Sequence[Any] = ()
        self._budget = BATCH
        self._ending: Ending | None = None

    # What a function actor uses

    async def get(self) -> M:
        """Wait for the next message and take it.

        Raises:
            Stop: the actor is to end; messages that still wait become dead letters.
        """
        await self._mail()
        return self._take()

    async def get_batch(self, limit: int = 128) -> list[M]:
        """Wait for a message and take it together with all that wait behind it, `limit` at most.

        Raises:
            Stop: the actor is to end; messages that still wait become dead letters.
        """
        await self._mail()
        batch = [self._next()]
        while self.queue and len(batch) < limit:
            item = self._next()
            if not expired(item):
                batch.append(item)
        self._budget -= len(batch) - 1
        self._taken = batch
        return [self._open(item) for item in batch]

    def get_nowait(self) -> M | None:
        """Take the next message, or None when there is none.

        Raises:
            Stop: the actor is to end.
        """
        self._taken = ()
        self._heed()
        if not self.control and not self.queue:
            return None
        self._budget -= 1
        return self._take()

    def reply(self, request: Request[R], value: R) -> None:
        """Answer a question taken from this mailbox; without effect when it was told, or its asker has gone.

        Args:
            request: the message, the same object that the mailbox gave.
            value: the answer.
        """
        waiting = self._asked.get(id(request)) if self._asked else None
        if waiting:
            ask = waiting[0]
            self._forget(ask)
            if not ask.reply.done():
                ask.reply.set_result(value)

    def monitor(self, ref: Ref[Any]) -> None:
        """Receive a `Down` ahead of all messages once that actor has ended for good, or at once if it has."""
        link.watch(ref.mailbox, self)

    def demonitor(self, ref: Ref[Any]) -> None:
        """Receive no `Down` of that actor, also not one that is on its way."""
        link.unwatch(ref.mailbox, self)

    def link(self, ref: Ref[Any]) -> None:
        """End together: when a life of one ends other than normally, so does that of the other, at its next await."""
        link.link(self, ref.mailbox)

    def unlink(self, ref: Ref[Any]) -> None:
        """Undo `link`."""
        link.unlink(self, ref.mailbox)

    def trap_exits(self, on: bool = True) -> None:
        """Receive an `Exited` ahead of all messages when a linked actor ends, also normally, and live on."""
        link.ties_of(self).traps = on

    @property
    def registry(self) -> Registry:
        """The names of its tree."""
        return self.system.registry

    @property
    def groups(self) -> Groups:
        """The groups of its tree."""
        return self.system.groups

    def stash(self, message: M) -> None:
        """Put a message that was taken aside until `unstash`; an asker goes on waiting.

        Raises:
            StashFull: as many as the spec allows are aside.
        """
        for item in self._taken:
            if item is message or (type(item) is Ask and item.message is message):
                self.check_stash()
                self.set_aside(item)
                self._taken = [other for other in self._taken if other is not item]
                if type(item) is Ask:
                    self._forget(item)
                return
        raise ValueError(f"actor {self.path} has no such message in hand: stash what the last get() gave")

    def unstash(self) -> None:
        """Put all that was stashed ahead of the queue, in the order in which it was sent."""
        if self.aside is not None and self.aside.stash:
            self.push_front(self.aside.stash)
            self.aside.stash.clear()
            self.rouse()

    def statistics(self) -> MailboxStatistics:
        """Return a snapshot."""
        waiting = sum(not given_up(item, place) for item, place in self.senders or ())
        return MailboxStatistics(
            depth=len(self.queue),
            senders=waiting,
            capacity=self.spec.capacity,
            dropped=self.dropped,
            stashed=len(self.aside.stash) if self.aside is not None else 0,
            handled=self.count(),
        )

    # What the kernel uses

    async def _mail(self) -> None:
        self._taken = ()
        while True:
            self._heed()
            if self.control or self.queue:
                if self._budget > 0:
                    self._budget -= 1
                    return
                self._count_turn()
                await self.system.yield_turn()
                continue
            if self._getter is not None:
                raise RuntimeError(f"two readers wait on the mailbox of {self.path}: an actor reads it alone")
            self._getter = getter = self.system.loop.create_future()
            self.sleep(self)
            try:
                await getter
            finally:
                self._getter = None
                self.sleeper = None
                self.system.waking -= getter.done() and not getter.cancelled()
            self._count_turn()

    def _count_turn(self) -> None:
        self.handled += BATCH - self._budget
        self._budget = BATCH

    def _heed(self) -> None:
        if self.control and type(self.control[0]) is ExitReason:
            raise Stop
        while self.queue and expired(self.queue[0]):
            self.drop(self._next(), "its asker stopped waiting")

    def _next(self) -> Any:
        if self.control:
            return self.control.popleft()
        item = self.queue.popleft()
        if self.senders:
            self.admit()
        return item

    def _take(self) -> M:
        item = self._next()
        self._taken = [item]
        return self._open(item)

    def _open(self, item: Any) -> M:
        if type(item) is not Ask:
            return cast(M, item)
        if self._asked is None:
            self._asked = {}
        self._asked.setdefault(id(item.message), deque()).append(item)
        return cast(M, item.message)

    def answer(self, message: Any) -> Any:
        """A function actor handles messages in its own task only."""
        return LATER

    def wake(self) -> None:
        """Resume the function actor that waits in `get`."""
        if self._getter is not None and not self._getter.done():
            self._getter.set_result(None)
            self.system.waking += 1

    def count(self) -> int:
        """Messages handled so far, in all lives; a class actor's turn is counted at its end."""
        return self.handled + BATCH - self._budget

    def check_stash(self) -> None:
        """See that there is room in the stash.

        Raises:
            StashFull: there is none.
        """
        if (len(self.aside.stash) if self.aside is not None else 0) >= self.spec.stash:
            raise StashFull(self.path, self.spec.stash)

    def set_aside(self, item: Any) -> None:
        """Stash a message or an Ask; `check_stash` came first."""
        if self.aside is None:
            self.aside = Aside()
        self.aside.stash.append(item)

    def lose(self, items: Sequence[Any], reason: ExitReason) -> None:
        """A life ended over these: dead letters, or, if the spec says so, once more in the next life."""
        spent: Sequence[Any] = items
        if self.spec.in_hand is RETRY and reason.exit is CRASHED:
            if self.aside is None:
                self.aside = Aside()
            again, spent = self.aside.try_again(items, self.count())
            self.push_front(again)
        self._drop_all(spent, reason)

    def abandon(self, ask: Ask) -> None:
        """The asker has left without an answer: if it was canceled, so is a handling under way.

        A question that still waits is skipped when its turn comes.
        """
        self._forget(ask)
        reply = ask.reply
        if not reply.done():
            reply.cancel()
        if not reply.cancelled():
            reply.exception()  # the asker that would have seen it is canceled: nobody else has to
        elif self.reader is not None:
            self.reader.interrupt(ask)

    def _forget(self, ask: Ask) -> None:
        waiting = self._asked.get(id(ask.message)) if self._asked else None
        if self._asked and waiting is not None:
            if ask in waiting:
                waiting.remove(ask)
            if not waiting:
                del self._asked[id(ask.message)]

    def leave(self, reason: ExitReason) -> None:
        """One life of the actor is over: what it was handling is lost or tried again, what is queued stays."""
        self.reader = self.sleeper = self.control = None
        if self.aside is not None:
            self.unstash()
        if self._taken or self._asked:
            self._lose_taken(reason)
        if self.ties is not None:
            link.life_over(self, self.ties, reason)

    def _lose_taken(self, reason: ExitReason) -> None:
        taken, self._taken = self._taken, []
        asked, self._asked = self._asked or {}, None
        unanswered = [ask for asks in asked.values() for ask in asks]
        lost = [item for item in taken if item in unanswered or (reason.abnormal and not answered(item))]
        self._drop_all((ask for ask in unanswered if ask not in lost), reason)
        self._count_turn()
        self.handled -= len(lost)
        self.lose(lost, reason)

    def close(self, reason: ExitReason) -> None:
        """The actor will not be started again: what waits, and what comes, are dead letters."""
        if self.end is not None:
            return
        self.end = reason
        items, self.queue, self.room = self.queue, NOTHING, NO_ROOM
        if self._ending is not None:
            self._ending.set(reason)
        for item in items:
            self.drop(item, reason)
        senders, self.senders = self.senders, None
        for item, place in senders or ():
            if not given_up(item, place):
                self.drop(item, reason)
                if place is not None:
                    place.set_result(None)
        if self.ties is not None:
            link.gone(self, self.ties, reason)

    def reopen(self, spec: MailboxSpec) -> None:
        """The actor is started again after it had ended for good: its address is good again."""
        self.spec = spec
        self.end = self._ending = None

    async def ended(self) -> ExitReason:
        """Wait until the actor has ended and will not be started again."""
        if self.end is not None:
            return self.end
        if self._ending is None:
            self._ending = Ending()
        return await self._ending.wait()

    def _drop_all(self, items: Iterable[Any], reason: ExitReason) -> None:
        for item in items:
            self.drop(item, reason)
