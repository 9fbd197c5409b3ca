"""Messages of a mailbox that stand outside its queue for a while: the stash, and what is tried again after a crash.

Why: an actor that is not ready for a message (it connects, it waits for a reply) puts it aside and goes on with the
next. Most mailboxes have nothing aside, so it is kept apart and made when it is needed.

Laws kept here:
- Law 11: the stash is bounded, like the mailbox.
- Order: what is unstashed stands ahead of the queue, in the order in which it was sent.
- Nothing is lost with a life: at its end, crashed or not, the stash goes back ahead of the queue.
- What is tried again is tried again once: the second crash over the same message makes it a dead letter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any


class Stashed(BaseException):
    """Ends the handling of a message that was stashed. It is control flow, not an error: let it pass."""


class Aside:
    """What one mailbox has outside its queue.

    Attributes:
        stash: in the order in which it was stashed.
        again: what was put back after a crash, to be tried once more.
        until: messages handled by the mailbox, up to which a crash over one of `again` is its second.
    """

    __slots__ = ("again", "stash", "until")

    def __init__(self) -> None:
        self.stash: deque[Any] = deque()
        self.again: list[Any] = []
        self.until = 0

    def try_again(self, items: Sequence[Any], handled: int) -> tuple[list[Any], list[Any]]:
        """Tell what a crash interrupted: those to put back into the queue, and those that have had their chance."""
        tried = {id(item) for item in self.again} if handled <= self.until else set()
        spent = [item for item in items if id(item) in tried]
        self.again = [item for item in items if id(item) not in tried]
        self.until = handled + len(self.again) - 1
        return self.again, spent
