"""How much a mailbox holds, and what happens at the bound (law 11: memory is bounded)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .errors import SpecInvalid


class Overflow(enum.Enum):
    """What a full mailbox does with one more message."""

    BLOCK = "block"
    """`send` and `ask` wait for room; `tell`, which never waits, raises MailboxFull."""
    FAIL = "fail"
    """The sender gets MailboxFull, however it sends."""
    DROP_OLDEST = "drop oldest"
    """The message that has waited longest becomes a dead letter."""
    DROP_NEWEST = "drop newest"
    """The new message becomes a dead letter."""


BLOCK, FAIL, DROP_OLDEST, DROP_NEWEST = Overflow  # an attribute of an enum costs eight times a global


class InHand(enum.Enum):
    """What becomes of the message that an actor was handling when it crashed. Those that wait are kept in any case."""

    DROP = "drop"
    """It is a dead letter, and its asker gets ActorDied."""
    RETRY = "retry"
    """The next life handles it first. If it crashes too, it is dropped."""


DROP, RETRY = InHand


@dataclass(frozen=True, kw_only=True)
class MailboxSpec:
    """How much a mailbox holds, and what becomes of it in a crash.

    Attributes:
        capacity: messages that may wait, 1 or more; None is unbounded.
        overflow: what happens to one message more.
        in_hand: what becomes of the message in hand at a crash.
        stash: messages that the actor may put aside, 0 or more.
    """

    capacity: int | None = 10_000
    overflow: Overflow = Overflow.BLOCK
    in_hand: InHand = InHand.DROP
    stash: int = 1_000

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 1:
            raise SpecInvalid(f"capacity is {self.capacity}: give 1 or more messages, or None for no bound")
        if self.stash < 0:
            raise SpecInvalid(f"stash is {self.stash}: give 0 or more messages")


@dataclass(frozen=True, kw_only=True)
class MailboxStatistics:
    """A snapshot of a mailbox.

    Attributes:
        depth: messages that wait.
        senders: senders that wait for room.
        capacity: messages that may wait; None is unbounded.
        dropped: messages that became dead letters.
        stashed: messages that the actor has put aside.
        handled: messages that the actor has handled, in all its lives; those of a turn are counted at its end.
    """

    depth: int
    senders: int
    capacity: int | None
    dropped: int
    stashed: int = 0
    handled: int = 0
