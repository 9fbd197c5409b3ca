"""A snapshot of a supervision tree, as data for programs and as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """One supervisor or actor at the moment of the snapshot.

    Attributes:
        path: where it is in the tree.
        kind: "actor", or the supervisor's strategy.
        state: "starting", "running", "stopping", "restarting" or "stopped".
        restarts: how often it was restarted.
        mailbox: messages that wait.
        children: in the order of their start.
    """

    path: str
    kind: str
    state: str
    restarts: int = 0
    mailbox: int = 0
    children: tuple[TreeNode, ...] = ()


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
