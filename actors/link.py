"""Ties between actors: links (end together), monitors (hear of an end), and memberships (be forgotten at the end).

Why: most actors have none, so they are kept apart from the mailbox, and made with the first tie.

Laws kept here:
- A link is between two lives. When one ends, the other is told once, and the link is gone.
- A monitor is of a place: it fires once, when the actor has ended and will not be restarted.
- Whoever stops monitoring hears no more, also not what was already on its way.
- No recursion: a chain of a million links falls one by one, each in its own turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .errors import LinkBroken
from .messages import Down, Exit, Exited, ExitReason

if TYPE_CHECKING:
    from .mailbox import Mailbox


class Circle(Protocol):
    """What an actor can be a member of."""

    def forget(self, mailbox: Mailbox[Any]) -> None:
        """The actor has ended for good."""
        ...


class Ties:
    """The ties of one actor.

    Attributes:
        watchers: who hears of its end.
        watched: whose end it hears of.
        linked: who ends with its life, and it with theirs.
        circles: what it is a member of.
        traps: whether it gets a message when a linked actor ends, and lives on.
        sentence: why it has to end, once a broken link has interrupted it.
    """

    __slots__ = ("circles", "linked", "sentence", "traps", "watched", "watchers")

    def __init__(self) -> None:
        self.watchers: dict[Mailbox[Any], None] = {}
        self.watched: dict[Mailbox[Any], None] = {}
        self.linked: dict[Mailbox[Any], None] = {}
        self.circles: dict[Circle, None] = {}
        self.traps = False
        self.sentence: ExitReason | None = None


def ties_of(mailbox: Mailbox[Any]) -> Ties:
    """Return an actor's ties, made if there were none."""
    ties = mailbox.ties
    if ties is None:
        ties = mailbox.ties = Ties()
    return ties


def watch(target: Mailbox[Any], watcher: Mailbox[Any]) -> None:
    """Tell the watcher, once, when the target has ended for good; at once if it has."""
    if target.end is not None:
        watcher.signal(Down(target.ref, target.end))
    else:
        ties_of(target).watchers[watcher] = ties_of(watcher).watched[target] = None


def unwatch(target: Mailbox[Any], watcher: Mailbox[Any]) -> None:
    """Tell the watcher nothing, or nothing more."""
    if target.ties is not None and watcher.ties is not None:
        target.ties.watchers.pop(watcher, None)
        watcher.ties.watched.pop(target, None)
    for notice in tuple(watcher.control or ()):
        if type(notice) is Down and notice.ref is target.ref and watcher.control:
            watcher.control.remove(notice)


def link(one: Mailbox[Any], other: Mailbox[Any]) -> None:
    """Let each end when the other does; if the other has ended for good, it is told so at once."""
    if one is other:
        return
    if other.end is not None:
        _hear(one, other, other.end)
    else:
        ties_of(one).linked[other] = ties_of(other).linked[one] = None


def unlink(one: Mailbox[Any], other: Mailbox[Any]) -> None:
    """Let each live on when the other ends; also when it has just ended, and the notice is on its way."""
    for mine, theirs in ((one, other), (other, one)):
        if mine.ties is not None:
            mine.ties.linked.pop(theirs, None)
    for notice in tuple(one.control or ()):
        if type(notice) is Exited and notice.ref is other.ref and one.control:
            one.control.remove(notice)


def enroll(mailbox: Mailbox[Any], circle: Circle) -> bool:
    """Have the circle forget the actor at its end; False: that was already."""
    if mailbox.end is not None:
        return False
    ties_of(mailbox).circles[circle] = None
    return True


def strike(mailbox: Mailbox[Any], circle: Circle) -> None:
    """The circle has forgotten the actor by itself."""
    if mailbox.ties is not None:
        mailbox.ties.circles.pop(circle, None)


def life_over(mailbox: Mailbox[Any], ties: Ties, reason: ExitReason) -> None:
    """One life has ended: what it monitored and whom it was linked to is no business of the next."""
    watched, ties.watched = ties.watched, {}
    linked, ties.linked = ties.linked, {}
    ties.traps = False
    ties.sentence = None
    for target in watched:
        if target.ties is not None:
            target.ties.watchers.pop(mailbox, None)
    for other in linked:
        if other.ties is not None:
            other.ties.linked.pop(mailbox, None)
            _hear(other, mailbox, reason)


def gone(mailbox: Mailbox[Any], ties: Ties, reason: ExitReason) -> None:
    """The actor has ended for good."""
    watchers, ties.watchers = ties.watchers, {}
    circles, ties.circles = ties.circles, {}
    for circle in circles:
        circle.forget(mailbox)
    for watcher in watchers:
        if watcher.ties is not None:
            watcher.ties.watched.pop(mailbox, None)
        watcher.signal(Down(mailbox.ref, reason))


def _hear(mailbox: Mailbox[Any], other: Mailbox[Any], reason: ExitReason) -> None:
    if mailbox.ties is not None and mailbox.ties.traps:
        mailbox.signal(Exited(other.ref, reason))
    elif reason.exit is not Exit.NORMAL and mailbox.reader is not None:
        mailbox.reader.condemn(_inherited(other.path, reason))


def _inherited(path: str, reason: ExitReason) -> ExitReason:
    if not reason.abnormal or isinstance(reason.error, LinkBroken):
        return reason
    return ExitReason(Exit.CRASHED, LinkBroken(path, reason))
