"""What a mailbox knows of the life that reads it: how to wake it, and how to reach it while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .messages import Ask, ExitReason

if TYPE_CHECKING:
    from .host import Host


LATER = object()
"""Instead of an answer: the question has to be put into the mailbox."""


class Sleeper(Protocol):
    """Whoever handles a mailbox's messages, while it has none to handle."""

    def wake(self) -> None:
        """Something has come."""
        ...

    def answer(self, message: Any) -> Any:
        """Handle a question in the turn of its asker.

        Return the answer; or LATER, and nothing has been done; or the Ask, and its reply will come.
        """
        ...


class Reader(Protocol):
    """One life of the actor that reads a mailbox.

    Attributes:
        path: where it is in the tree.
        host: the task that it has now; None while it needs none.
    """

    path: str

    @property
    def host(self) -> Host | None: ...  # noqa: D102

    def condemn(self, reason: ExitReason) -> None:
        """End it where it is: a linked actor has ended."""
        ...

    def interrupt(self, ask: Ask) -> None:
        """Stop handling this question: nobody waits for the answer any more."""
        ...
