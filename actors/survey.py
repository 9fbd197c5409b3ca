"""A look at a running tree: as a snapshot of every node, and as totals. Counts what is there and changes nothing.

Why apart from the supervisor: looking is rare, and what it needs is counted anyway (a class actor's messages once for
each turn, a function actor's by the budget that it has), so nobody pays for it who does not look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter

from .child import Child
from .spec import SupervisorSpec
from .system import System
from .tree import TreeNode


@dataclass(frozen=True, kw_only=True)
class ChildCount:
    """How many children a supervisor has, like OTP's `count_children`.

    Attributes:
        specs: places, held or not.
        active: those that are held, or about to be.
        supervisors: places of supervisors.
        workers: places of actors.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class TreeStatistics:
    """Totals of a supervisor and all below it; the last three are of the whole tree, since its start.

    Attributes:
        supervisors: that run now.
        actors: that run now.
        handled: messages that the actors there are have handled; those of a turn are counted at its end.
        waiting: messages that wait in mailboxes.
        crashes: lives that ended abnormally.
        restarts: lives that followed another one in the same place.
        dead_letters: messages that no actor has handled.
    """

    supervisors: int
    actors: int
    handled: int
    waiting: int
    crashes: int
    restarts: int
    dead_letters: int


def count(children: Iterable[Child]) -> ChildCount:
    """Count the children of one supervisor."""
    places = list(children)
    supervisors = sum(isinstance(child.spec.start, SupervisorSpec) for child in places)
    return ChildCount(
        specs=len(places),
        active=sum(child.active for child in places),
        supervisors=supervisors,
        workers=len(places) - supervisors,
    )


def worst(children: Collection[Child], most: int | None) -> Iterable[Child]:
    """Choose children to show, `most` at most, in their order: those that crash or have mail before the others."""
    if most is None or len(children) <= most:
        return children

    def amiss(place: tuple[int, Child]) -> int:
        _, child = place
        mailbox = child.ref.mailbox if child.ref is not None else ()
        return child.crashes + child.restarts + len(mailbox)

    return [child for _, child in sorted(nlargest(most, enumerate(children), amiss), key=itemgetter(0))]


def node(child: Child, below: tuple[TreeNode, ...] = (), omitted: int = 0) -> TreeNode:
    """Return the snapshot of a child."""
    start = child.spec.start
    mailbox = child.ref.mailbox if child.ref is not None else None
    return TreeNode(
        path=child.path,
        kind=start.strategy.value if isinstance(start, SupervisorSpec) else "actor",
        state=child.state.value,
        restarts=child.restarts,
        crashes=child.crashes,
        mailbox=len(mailbox) if mailbox is not None else 0,
        capacity=mailbox.spec.capacity if mailbox is not None else None,
        handled=mailbox.count() if mailbox is not None else 0,
        dropped=mailbox.dropped if mailbox is not None else 0,
        children=below,
        omitted=omitted,
    )


def totals(tree: TreeNode, system: System) -> TreeStatistics:
    """Add up a snapshot."""
    nodes = list(tree.walk())
    running = [one for one in nodes if one.state != "stopped"]
    actors = sum(one.kind == "actor" for one in running)
    return TreeStatistics(
        supervisors=len(running) - actors,
        actors=actors,
        handled=sum(one.handled for one in nodes),
        waiting=sum(one.mailbox for one in nodes),
        crashes=system.crashes,
        restarts=system.restarts,
        dead_letters=system.dead_letters,
    )
