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


@dataclass(frozen=True, kw_only=True)
class MailboxSpec:
    """How much a mailbox holds.

    Attributes:
        capacity: messages that may wait, 1 or more; None is unbounded.
        overflow: what happens to one message more.
    """

    capacity: int | None = 10_000
    overflow: Overflow = Overflow.BLOCK

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 1:
            raise SpecInvalid(f"capacity is {self.capacity}: give 1 or more messages, or None for no bound")


@dataclass(frozen=True, kw_only=True)
class MailboxStatistics:
    """A snapshot of a mailbox: messages that wait, senders that wait for room, its capacity, messages dropped."""

    depth: int
    senders: int
    capacity: int | None
    dropped: int
