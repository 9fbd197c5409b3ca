"""What is looked at when somebody asks: a store's runs and workers, a worker's tree and its deployments.

A run id is no label: the runs' part of a tree is one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from ...transports import Transport, WorkerInfo
from . import names
from .meters import NONE, Sample

if TYPE_CHECKING:
    from ...actors import TreeNode

SILENT_S = 60.0
"""A worker without a heartbeat for this long is called silent, seconds."""

STATES = ("closed", "half_open", "open")
"""Of a deployment's breaker."""


class Fare(Protocol):
    """How a deployment fares."""

    @property
    def deployment(self) -> str:
        """Its name."""
        ...

    @property
    def breaker(self) -> str:
        """One of `STATES`."""
        ...


async def look_at_store(transport: Transport) -> list[Sample]:
    """Count live runs by workflow, and workers by state; two small reads, whatever the number of runs."""
    live: Counter[tuple[str, str]] = Counter()
    for lane in await transport.lanes():
        workflow = lane.lane.workflow
        live[workflow, "running"] += lane.running
        live[workflow, "standing"] += lane.live - lane.running
    now = await transport.now()
    workers = Counter({"at_work": 0, "draining": 0, "silent": 0})
    workers.update(_state(worker, now) for worker in await transport.workers())
    samples: list[Sample] = [
        (names.LIVE, {"workflow": workflow, "state": state}, count) for (workflow, state), count in live.items()
    ]
    samples += [(names.WORKERS, {"state": state}, count) for state, count in workers.items()]
    return samples


def _state(worker: WorkerInfo, now: float) -> str:
    if now - worker.beat > SILENT_S:
        return "silent"
    return "draining" if worker.draining else "at_work"


def look_at_worker(
    tree: TreeNode, fares: Iterable[Fare], *, running: int, draining: bool, waiting: int
) -> Iterator[Sample]:
    """Look at a worker: its mailboxes by place, its runs, its deployments and who waits for them."""
    yield names.AT_WORK, NONE, running
    yield names.DRAINING, NONE, draining
    yield names.WAITING, NONE, waiting
    for place, depth in depths(tree).items():
        yield names.DEPTH, {"actor": place}, depth
    for fare in fares:
        for state in STATES:
            yield names.CIRCUIT, {"deployment": fare.deployment, "state": state}, fare.breaker == state


def depths(tree: TreeNode) -> Counter[str]:
    """Add up waiting messages: by component, by part of the worker, and of all runs together."""
    found: Counter[str] = Counter()
    for node in tree.walk():
        if node.kind == "actor":
            parts = node.path.removeprefix(tree.path).strip("/").split("/")
            kept = parts[:2] if parts[0] == "components" else parts[:1]
            found["/".join(kept)] += node.mailbox
    return found
