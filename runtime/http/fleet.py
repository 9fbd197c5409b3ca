"""The endpoints that show what only workers know: their supervision trees, and how their deployments fare.

Why they answer although the API never talks to a worker: each look leaves a mark in the store, and workers that find it
put their portraits there (`runtime/portraits.py`). So the first look may find nothing yet, and says so: `tree` is null,
or a worker is missing from a deployment, until the worker's next heartbeat.

Law kept here: 11 (an answer shows so many workers' trees, and names the others).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...transports import Transport, WorkerInfo
from ..portraits import DECISIONS, WANTED_S, Decision, Line, Part, Portrait, portrait_of, want
from ..router import LaneSnapshot
from ..runs import Runs
from . import views
from .negotiation import unchanged
from .problems import SECURITY

TREES = 50
"""Trees in one answer; ask for others by name."""

BREAKERS = ("closed", "half_open", "open")
"""From well to ill."""


class WorkerTree(msgspec.Struct, frozen=True, kw_only=True):
    """A worker and its supervision tree; null: not yet shown, or too many workers: ask again, or for it by name.

    `at`: when the tree was as it is shown, seconds since the epoch.
    """

    worker: str
    build: str
    beat: datetime.datetime
    running: int
    draining: bool
    at: float | None = None
    tree: Part | None = None


class TreeList(msgspec.Struct, frozen=True):
    """The trees of the workers that were heard of lately."""

    data: tuple[WorkerTree, ...]


class OnWorker(LaneSnapshot, frozen=True, kw_only=True):
    """How a deployment fares on one worker, `at` a time, seconds since the epoch."""

    worker: str
    at: float


class DeploymentObject(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment over all workers that have it.

    Attributes:
        breaker: the worst of any worker's: closed, half_open or open.
        calls: attempts that ended; `limited` of them were refused with a 429, `failed` of them otherwise.
        tokens_used: in the last minute.
        p50_s, p95_s: how long answers took lately, seconds; null: there were none.
        workers: how it fares on each.
    """

    deployment: str
    provider: str
    model: str
    breaker: str
    in_flight: int
    calls: int
    limited: int
    failed: int
    tokens_used: float
    p50_s: float | None
    p95_s: float | None
    workers: tuple[OnWorker, ...]


class Deciding(Decision, frozen=True, kw_only=True, omit_defaults=True):
    """A decision, and on which worker it was made."""

    worker: str


class Waiting(Line, frozen=True, kw_only=True, omit_defaults=True):
    """A line, and on which worker it stands."""

    worker: str


class ProviderList(msgspec.Struct, frozen=True):
    """Deployments over the workers, the lines of calls that wait, and where the last calls went, newest first."""

    data: tuple[DeploymentObject, ...]
    lines: tuple[Waiting, ...]
    decisions: tuple[Deciding, ...]


class FleetResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs]) -> None:
        self._runs = runs
        self._asked: tuple[Transport, float] | None = None

    async def tree(self, request: Request) -> Response:
        """Show the workers' supervision trees, or one worker's."""
        transport = await self._looked_at(request)
        return _given(request, await trees(transport, request.query_params.get("worker")))

    async def providers(self, request: Request) -> Response:
        """Show how the deployments fare over the workers."""
        return _given(request, await providers(await self._looked_at(request)))

    async def _looked_at(self, request: Request) -> Transport:
        """Have the workers show themselves; one mark does for many looks."""
        transport, now = self._runs(request).transport, anyio.current_time()
        if self._asked is None or self._asked[0] is not transport or now - self._asked[1] > WANTED_S / 4:
            await want(transport)
            self._asked = (transport, now)
        return transport


async def trees(transport: Transport, worker: str | None = None) -> TreeList:
    """Return the trees that workers show; with a name, that worker's alone."""
    found = [info for info in await transport.workers() if worker in (None, info.name)]
    shown = [await portrait_of(transport, info.name) for info in found[:TREES]]
    shown += [None] * (len(found) - len(shown))
    return TreeList(tuple(map(_tree, found, shown)))


async def providers(transport: Transport) -> ProviderList:
    """Return how deployments fare, by what workers show."""
    shown = {info.name: await portrait_of(transport, info.name) for info in await transport.workers()}
    return provided({name: one for name, one in shown.items() if one is not None})


def provided(there: Mapping[str, Portrait]) -> ProviderList:
    """Gather how deployments fare from workers' portraits, by the workers' names."""
    by_name: dict[str, list[OnWorker]] = {}
    for name, portrait in there.items():
        for one in portrait.deployments:
            on = OnWorker(worker=name, at=portrait.at, **msgspec.structs.asdict(one))
            by_name.setdefault(one.deployment, []).append(on)
    lines = [
        Waiting(worker=name, **msgspec.structs.asdict(one))
        for name, portrait in there.items()
        for one in portrait.lines
    ]
    return ProviderList(
        data=tuple(_deployment(found) for _, found in sorted(by_name.items())),
        lines=tuple(lines),
        decisions=tuple(_decided(there)),
    )


def _tree(info: WorkerInfo, portrait: Portrait | None) -> WorkerTree:
    return WorkerTree(
        worker=info.name,
        build=info.build,
        beat=views.time_of(info.beat),
        running=info.running,
        draining=info.draining,
        at=portrait.at if portrait is not None else None,
        tree=portrait.tree if portrait is not None else None,
    )


def _deployment(found: list[OnWorker]) -> DeploymentObject:
    outcomes = [(kind, count) for one in found for kind, count in one.outcomes.items()]
    took = sorted(seconds for one in found for seconds in one.latencies)
    fine = ("ok", "closed", "canceled", "limited")
    return DeploymentObject(
        deployment=found[0].deployment,
        provider=found[0].provider,
        model=found[0].model,
        breaker=max((one.breaker for one in found), key=BREAKERS.index),
        in_flight=sum(one.in_flight for one in found),
        calls=sum(count for _, count in outcomes),
        limited=sum(count for kind, count in outcomes if kind == "limited"),
        failed=sum(count for kind, count in outcomes if kind not in fine),
        tokens_used=sum(one.tokens_used for one in found),
        p50_s=_share(took, 0.5),
        p95_s=_share(took, 0.95),
        workers=tuple(found),
    )


def _share(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def _decided(portraits: Mapping[str, Portrait]) -> Iterable[Deciding]:
    all_of_them = [
        Deciding(worker=name, **msgspec.structs.asdict(one))
        for name, portrait in portraits.items()
        for one in portrait.decisions
    ]
    return sorted(all_of_them, key=lambda one: -one.at)[:DECISIONS]


def _given(request: Request, answer: TreeList | ProviderList) -> Response:
    body = msgspec.json.encode(answer)
    headers = {"etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "cache-control": "no-cache"}
    if unchanged(request, headers["etag"]):
        return Response(status_code=304, headers=headers | SECURITY)
    return views.reply(body, headers=headers)


_AT = 1_795_521_600.0
_HOST = WorkerInfo(name="host-1", build="4f1d0c2e9ab3", started=_AT - 3600, beat=_AT, running=3, draining=False)
_EXAMPLE = Portrait(
    at=_AT,
    tree=Part(
        name="worker",
        kind="one_for_one",
        state="running",
        children=(Part(name="claimer", kind="actor", state="running", mailbox=2, capacity=1000),),
    ),
    deployments=(
        LaneSnapshot(
            deployment="openai/gpt-5.2",
            provider="openai",
            model="gpt-5.2",
            breaker="closed",
            why="",
            in_flight=3,
            tokens_used=48200.0,
            outcomes={"ok": 810, "limited": 2},
            requests_per_min=500.0,
            tokens_per_min=200000.0,
            concurrency=64,
            latencies=(0.8, 1.2, 0.7),
        ),
    ),
    lines=(Line(model="smart", waiting=4, expected_s=1.5),),
)
TREE_EXAMPLE = TreeList((_tree(_HOST, _EXAMPLE),))
PROVIDERS_EXAMPLE = provided({_HOST.name: _EXAMPLE})
"""What the answers look like, for whoever reads their description."""
