"""Groups: named sets of actors that are told things together, like Erlang's `pg`. One set of groups for each tree.

Laws kept here:
- Membership is of the actor, through all its lives; who has ended for good is no member.
- A broadcast never waits and never stops half-way: where a mailbox is full, the message is a dead letter there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MailboxFull
from .link import enroll, strike

if TYPE_CHECKING:
    from .mailbox import Mailbox
    from .ref import Ref


class Groups:
    """The groups of one tree; one is there while it has members."""

    def __init__(self) -> None:
        self._members: dict[str, dict[Ref[Any], None]] = {}
        self._groups: dict[Mailbox[Any], set[str]] = {}

    def join(self, group: str, ref: Ref[Any]) -> None:
        """Make an actor a member; without effect if it is one, or has ended for good."""
        if enroll(ref.mailbox, self):
            self._members.setdefault(group, {})[ref] = None
            self._groups.setdefault(ref.mailbox, set()).add(group)

    def leave(self, group: str, ref: Ref[Any]) -> None:
        """End a membership; without effect if there is none."""
        if ref not in self._members.get(group, ()):
            return
        self._drop(group, ref)
        groups = self._groups[ref.mailbox]
        groups.discard(group)
        if not groups:
            del self._groups[ref.mailbox]
            strike(ref.mailbox, self)

    def members(self, group: str) -> tuple[Ref[Any], ...]:
        """Return the members, in the order in which they joined."""
        return tuple(self._members.get(group, ()))

    def names(self) -> list[str]:
        """Return the names of all groups that have members, sorted."""
        return sorted(self._members)

    def broadcast(self, group: str, message: object) -> int:
        """Tell every member; return how many mailboxes took the message."""
        told = 0
        for ref in self.members(group):
            try:
                ref.tell(message)
                told += 1
            except MailboxFull:
                ref.mailbox.drop(message, "the mailbox is full")
        return told

    def forget(self, mailbox: Mailbox[Any]) -> None:
        """The actor has ended for good."""
        for group in self._groups.pop(mailbox, ()):
            self._drop(group, mailbox.ref)

    def _drop(self, group: str, ref: Ref[Any]) -> None:
        members = self._members[group]
        del members[ref]
        if not members:
            del self._members[group]
