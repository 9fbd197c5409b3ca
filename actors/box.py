"""The box: where messages for one actor wait, and the order in which they are put in. The writers' half of a mailbox.

Laws kept here:
- Law 11: capacity is bounded, and the overflow policy says what happens at the bound.
- Order: messages of one sender arrive in the order in which they were sent; waiting senders are served first come,
  first served. While senders wait the queue is full, so nobody overtakes them.
- The control lane (stop, down) is ahead of all messages.
- No wake-up is lost: while the reader sleeps there is no free room, so whoever puts something in comes to `put`, takes
  the `sleeper` and wakes it, once per batch.
- A canceled `send` has put its message in whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import ActorDied, MailboxFull
from .events import DeadLetter
from .messages import Ask, Down, Exited, ExitReason, expired
from .overflow import BLOCK, DROP_NEWEST, FAIL, MailboxSpec
from .reader import Sleeper
from .stash import Aside

if TYPE_CHECKING:
    from .system import System

NOTHING: deque[Any] = deque()
"""The queue of every mailbox that has had no message yet: an own one would be half of an idle actor's memory."""

UNBOUNDED = 2**30 - 1
"""More than fit into memory; and the largest number that CPython compares quickly."""

Room: TypeAlias = Iterator[None]
"""Free places, handed out one by one: as many messages may be put in without another look at the box."""

NO_ROOM: Room = iter(())
ENDLESS: Room = repeat(None)


class Box:
    """The messages of one actor that wait, and the signals ahead of them.

    Attributes:
        path: of the actor in the tree.
        spec: how much it holds.
        system: of the tree.
        queue: the messages.
        room: at most what is free; used up while the reader sleeps, or nobody reads.
        control: the signals.
        senders: who waits for room, each with what is to be put in and the place that says so.
        alert: True whenever there are signals, or senders wait.
        sleeper: the reader, while it waits for something to be put in.
        aside: what stands outside the queue.
        end: why the actor has ended, if it has, and will not be started again.
        dropped: messages that became dead letters.
    """

    __slots__ = (
        "alert",
        "aside",
        "control",
        "dropped",
        "end",
        "path",
        "queue",
        "room",
        "senders",
        "sleeper",
        "spec",
        "system",
    )

    def __init__(self, path: str, spec: MailboxSpec, system: System) -> None:
        self.path = path
        self.spec = spec
        self.system = system
        self.queue = NOTHING
        self.room = NO_ROOM
        self.control: deque[ExitReason | Down | Exited] | None = None
        self.senders: deque[tuple[Any, asyncio.Future[None] | None]] | None = None
        self.alert = False
        self.sleeper: Sleeper | None = None
        self.aside: Aside | None = None
        self.end: ExitReason | None = None
        self.dropped = 0

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self.queue)

    def put(self, item: Any) -> bool:
        """Put a message or an Ask in, if the policy allows it; False: full, and the sender may wait.

        Raises:
            MailboxFull: by policy.
        """
        sleeper = self.sleeper
        if sleeper is not None:  # who sleeps has an empty queue
            self.sleeper = None
            queue = self.queue
            if queue is NOTHING:
                queue = self.queue = deque()
            queue.append(item)
            sleeper.wake()
            return True
        if self.end is not None:
            self.drop(item, self.end)
            return True
        queue = self.open()
        capacity = self.spec.capacity
        if capacity is None:
            self.room = ENDLESS
        else:
            free = capacity - len(queue)
            if free <= 0:
                overflow = self.spec.overflow
                if overflow is BLOCK:
                    return False
                if overflow is FAIL:
                    raise self.full()
                if overflow is DROP_NEWEST:
                    self.drop(item, "the mailbox is full")
                    return True
                self.drop(queue.popleft(), "the mailbox is full")
            self.room = repeat(None, free - 1)
        queue.append(item)
        return True

    def open(self) -> deque[Any]:
        """Return the queue, made if there is none."""
        if self.queue is NOTHING:
            self.queue = deque()
        return self.queue

    def full(self) -> MailboxFull:
        """Return the error that says so."""
        return MailboxFull(self.path, self.spec.capacity or 0)

    async def put_in_turn(self, item: Any) -> None:
        """Put in like `put`, waiting for room behind those who already wait."""
        if not self.put(item):
            place: asyncio.Future[None] = self.system.loop.create_future()
            self.stand_in_line(item, place)
            await place

    def stand_in_line(self, item: Any, place: asyncio.Future[None] | None) -> None:
        """Put in as soon as there is room, and then resolve the place; an Ask needs none, its asker waits for more."""
        if self.senders is None:
            self.senders = deque()
        self.senders.append((item, place))
        self.alert = True

    def admit(self) -> None:
        """Fill the room that was made with the messages of those who wait longest."""
        senders = self.senders
        capacity = self.spec.capacity or UNBOUNDED
        while senders and len(self.queue) < capacity:
            item, place = senders.popleft()
            if not given_up(item, place):
                self.queue.append(item)
                if place is not None:
                    place.set_result(None)
        self.alert = bool(senders or self.control)

    def signal(self, signal: ExitReason | Down | Exited) -> None:
        """Put something in the control lane: an exit reason means stop, and comes first."""
        self.alert = True
        if self.control is None:
            self.control = deque()
        if self.end is None:
            self.open()  # for the life that is woken: its queue stays the same while it runs
        if self.aside is not None:
            self.aside.until += 1
        if type(signal) is ExitReason:
            self.control.appendleft(signal)
        else:
            self.control.append(signal)
        self.rouse()

    def sleep(self, sleeper: Sleeper) -> None:
        """Nothing is there to handle: whoever puts something in is to wake the reader."""
        self.sleeper = sleeper
        self.room = NO_ROOM

    def push_front(self, items: Sequence[Any]) -> None:
        """Put messages ahead of the queue, whether there is room or not."""
        self.open().extendleft(reversed(items))
        self.room = NO_ROOM

    def rouse(self) -> None:
        """Wake the reader if it sleeps."""
        sleeper = self.sleeper
        if sleeper is not None:
            self.sleeper = None
            sleeper.wake()

    def drop(self, item: Any, reason: ExitReason | str) -> None:
        """Make a message a dead letter and tell its asker."""
        message = item
        if type(item) is Ask:
            message = item.message
            if not item.reply.done():
                item.reply.set_exception(self.full() if isinstance(reason, str) else ActorDied(self.path, reason))
        self.dropped += 1
        self.system.dead_letters += 1
        if self.system.listener is not None:
            self.system.listener(DeadLetter(self.path, message, reason))


def given_up(item: Any, place: asyncio.Future[None] | None) -> bool:
    """Tell whether a sender that waited for room has left."""
    return place.done() if place is not None else expired(item)
