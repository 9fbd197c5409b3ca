"""A snapshot of a supervision tree, as data for programs and as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """One supervisor or actor at the moment of the snapshot.

    Attributes:
        path: where it is in the tree.
        kind: "actor", or the supervisor's strategy.
        state: "starting", "running", "stopping", "restarting" or "stopped".
        restarts: how often it was restarted.
        mailbox: messages that wait.
        capacity: how many may wait; None: no bound.
        crashes: how often a life of it ended abnormally.
        handled: messages that it has handled, in all its lives; those of a turn are counted at its end.
        dropped: messages for it that became dead letters.
        children: in the order of their start.
        omitted: children that were left out, because only so many were asked for.
    """

    path: str
    kind: str
    state: str
    restarts: int = 0
    mailbox: int = 0
    capacity: int | None = None
    crashes: int = 0
    handled: int = 0
    dropped: int = 0
    children: tuple[TreeNode, ...] = ()
    omitted: int = 0

    def walk(self) -> Iterator[TreeNode]:
        """Return this node and all below it, from the top to the bottom."""
        yield self
        for child in self.children:
            yield from child.walk()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "children": [child.as_dict() for child in self.children]}


def render_tree(node: TreeNode) -> str:
    """Draw a tree with a line for each node."""
    return "\n".join(_lines(node, "", ""))


def _lines(node: TreeNode, first: str, rest: str) -> Iterator[str]:
    name = node.path.rsplit("/", 1)[-1]
    notes = [node.kind, node.state]
    if node.restarts:
        notes.append(f"{node.restarts} restarts" if node.restarts > 1 else "1 restart")
    if node.mailbox:
        notes.append(f"{node.mailbox} waiting")
    yield f"{first}{name}  {', '.join(notes)}"
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield from _lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
