"""Names of actors: how one finds another that it was not given. One registry for each tree, none for the process.

Laws kept here:
- A name stands for one actor at a time, through all its lives: a ref outlives restarts, and so does its name.
- The dead are forgotten: once an actor has ended for good, its names are free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import NameTaken
from .link import enroll, strike

if TYPE_CHECKING:
    from .mailbox import Mailbox
    from .ref import Ref


class Registry:
    """The names of one tree."""

    def __init__(self) -> None:
        self._refs: dict[str, Ref[Any]] = {}
        self._names: dict[Mailbox[Any], set[str]] = {}

    def register(self, name: str, ref: Ref[Any]) -> None:
        """Give an actor a name; it may have several. Without effect if it has this one, or has ended for good.

        Raises:
            NameTaken: another actor has it.
        """
        holder = self._refs.get(name)
        if holder is not None and holder is not ref:
            raise NameTaken(name, holder.path)
        if enroll(ref.mailbox, self):
            self._refs[name] = ref
            self._names.setdefault(ref.mailbox, set()).add(name)

    def unregister(self, name: str) -> None:
        """Free a name; without effect when nobody has it."""
        ref = self._refs.pop(name, None)
        if ref is not None:
            names = self._names[ref.mailbox]
            names.discard(name)
            if not names:
                del self._names[ref.mailbox]
                strike(ref.mailbox, self)

    def whereis(self, name: str) -> Ref[Any] | None:
        """Return who has the name, or None."""
        return self._refs.get(name)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._refs)

    def forget(self, mailbox: Mailbox[Any]) -> None:
        """The actor has ended for good."""
        for name in self._names.pop(mailbox, ()):
            del self._refs[name]
