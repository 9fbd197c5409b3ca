"""The worker: the compute layer in one process. It claims due runs, executes them, keeps their leases, drains.

The tree, and the reason for each strategy:

    worker            one_for_one, 3 in 30 s    its parts fail apart; when one keeps failing, the process should end
    ├─ router         permanent                 shared by all runs; holds the connections to the providers
    ├─ limits         permanent                 draws on what all workers share of the providers' limits
    ├─ telemetry      permanent                 sends the spans of ended runs, if any are sent; outlives the runs
    ├─ appender       permanent                 appends for all runs; outlives them, to bring their last words
    ├─ components     one_for_one, 10 in 60 s   one component's broken resource does not concern the others
    │  └─ <name>      one_for_one, 5 in 10 s    a component's pool of actors
    ├─ runs           one_for_one, dynamic      runs are temporary: the log restarts them, not the supervisor
    │  └─ <run id>    rest_for_one, 0           log -> body -> control, its ear: without its log a body must stop;
    │                                           when the body ends (significant), so does the run's tree
    ├─ ears           permanent                 opens the ears of runs that wait or grow old
    ├─ upkeep         one_for_one, 10 in 60 s   starts scheduled runs, removes old ones, shows the worker to whoever
    │                                           asks; apart from what executes
    ├─ heartbeat      permanent                 renews leases, hears of lost ones
    └─ claimer        permanent                 last in, first out: nothing is claimed while the rest goes down

Laws kept here: 1 (the sweep for due runs is continuous, so lost workers' runs are found), 4 (a lease that
could not be renewed in time is given up by this worker's own clock), 7 (drain is bounded, in reverse order).
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import structlog

from ..actors import (
    Actor,
    AlreadyStarted,
    AutoShutdown,
    ChildSpec,
    ExitReason,
    Mailbox,
    Restart,
    Strategy,
    Supervisor,
    SupervisorSpec,
    TreeNode,
    UnknownChild,
    supervise,
)
from ..transports import READY, Claim, StoreUnavailable, Terms, Transport, WorkerInfo
from .appender import Appender
from .calls import routed, surround
from .components import Components
from .definitions import Workflow
from .ears import Ears
from .live_run import LiveRun
from .portraits import WIDTHS, Decisions, Portrait, draw, keep_shown
from .router import Router, RouterConfig
from .settings import WorkerSettings
from .steady import steady
from .telemetry import Meters, Telemetry
from .telemetry.exporter import Exporter
from .telemetry.gauges import look_at_worker
from .telemetry.meters import Sample
from .telemetry.otlp import Senders
from .telemetry.watched import Watched
from .upkeep import upkept

log = structlog.get_logger("greenroom.worker")

HAND_OVER_S = 2.0
"""How long a worker that leaves may take to hand over what is left, seconds."""

SETTLE_S = 3.0
"""How long a drain waits for the spans of runs that have ended, seconds."""

SWEEP_S = 1.0
"""The longest time between two looks for due runs, seconds."""

CLAIM_AT_ONCE = 50
"""Runs taken in one claim, so that other workers find some too."""


class RouterHost(Actor[Any]):
    """Holds the router's connections for as long as the worker lives."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def started(self) -> None:
        """Open them."""
        await self._router.__aenter__()

    async def stopped(self, reason: ExitReason) -> None:
        """Close them."""
        await self._router.__aexit__(None, None, None)

    def receive(self, message: Any) -> None:
        """Take no messages: the router is called, not told."""


class Worker:
    """A running worker. Made by `open_worker`."""

    def __init__(
        self,
        transport: Transport,
        workflows: Mapping[str, Workflow[..., Any]],
        settings: WorkerSettings,
        router: Router | RouterConfig | None,
        telemetry: Telemetry,
        meters: Meters,
    ) -> None:
        self.name = settings.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.build = settings.build or build_id(workflows)
        self.draining = False
        self._gone = False
        self._settings = settings
        self._watched = Watched(transport, meters, self._ended)
        self._transport = cast("Transport", self._watched)
        self._steady = steady(self._transport)
        self._appender = Appender(self._transport)
        self._senders = Senders(telemetry, meters)
        self._exporter = self._make_exporter(transport, telemetry, meters)
        self._workflows = workflows
        self._rng = random.Random(settings.seed)  # noqa: S311 - jitter
        self._runs: dict[str, LiveRun] = {}
        self._ears = Ears(self._runs, lambda: self._root.supervisor("runs"))
        self._changed: anyio.Event | None = None
        self._ready = anyio.Event()
        self._root: Supervisor
        self._router = router if isinstance(router, Router) else Router(router or RouterConfig.from_env(os.environ))
        holder = f"{self.name}#{secrets.token_hex(4)}"
        self._limits = self._router.share(transport, holder) if self._router.config.shared else None
        self._decisions = Decisions()
        self._components = Components(lambda: self._root.supervisor("components"), partial(surround, self._decisions))
        self._started = 0.0

    @property
    def running(self) -> int:
        """How many runs it executes now."""
        return len(self._runs)

    def tree(self) -> TreeNode:
        """Return a snapshot of the supervision tree."""
        return self._root.tree()

    def look(self) -> Iterator[Sample]:
        """Look at its tree, runs and deployments, as gauges."""
        return look_at_worker(
            self.tree(),
            self._router.snapshot(),
            running=self.running,
            draining=self.draining,
            waiting=self._router.waiting,
        )

    async def wait(self) -> None:
        """Wait until the worker ends: drained, or failed.

        Raises:
            SupervisorFailed: it gave up.
        """
        await self._root.wait()

    async def drain(self) -> None:
        """Stop claiming; finish or hand over every run at a step boundary, in mid-step after `drain_s`."""
        self.draining = True
        log.info("worker draining", worker=self.name, runs=self.running)
        with suppress(StoreUnavailable):
            await self._beat()
        for run in self._runs.values():
            run.drain()
        with anyio.move_on_after(self._settings.drain_s):
            await self._emptied()
        with anyio.move_on_after(min(SETTLE_S, self._settings.drain_s)):
            await self._settled()

    async def leave(self) -> None:
        """Hand over what is left, and say goodbye."""
        self.draining = True
        for run in self._runs.values():
            run.hand_over()
        await self._emptied()
        await self._settled()
        self._gone = True
        with suppress(StoreUnavailable):
            await self._transport.forget_worker(self.name)

    async def _settled(self) -> None:
        """Wait until ended runs' spans are sent. A worker that leaves before is not forgotten: others send them."""
        if self._exporter is not None:
            await self._exporter.settle()

    async def _emptied(self) -> None:
        while self._runs:
            await self._change()

    async def _change(self) -> None:
        """Wait until a run has ended."""
        self._changed = self._changed or anyio.Event()
        await self._changed.wait()

    def _notice(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _ended(self, run_id: str) -> None:
        if self._exporter is not None:
            self._exporter.owe(run_id)

    def _make_exporter(self, transport: Transport, telemetry: Telemetry, meters: Meters) -> Exporter | None:
        if self._senders.spans is None:
            return None
        return Exporter(
            transport,
            self._senders.spans,
            meters,
            worker=self.name,
            lease_s=self._settings.lease_s,
            profile=telemetry.profile,
            content=telemetry.content,
        )

    async def _claim(self, mailbox: Mailbox[Any]) -> None:
        """Run the claimer."""
        terms = {name: workflow.terms for name, workflow in self._workflows.items()}
        lease_s = self._settings.lease_s
        await self._ready.wait()
        async with self._transport.watch(READY) as ready:
            while not self.draining:
                free = min(CLAIM_AT_ONCE, self._settings.capacity - len(self._runs))
                if free <= 0:
                    await self._change()
                    continue
                asked = anyio.current_time()
                try:
                    claims = await self._transport.claim(
                        self.name, terms, build=self.build, limit=free, lease_s=lease_s
                    )
                    for claim in claims:
                        await self._execute(claim, asked + lease_s)
                    if not claims:
                        await ready.wait(await self._nap(terms))
                except StoreUnavailable as error:
                    log.error("store unavailable", error=str(error))
                    await anyio.sleep(SWEEP_S)
            await anyio.sleep_forever()

    async def _nap(self, terms: Mapping[str, Terms]) -> float:
        due = await self._transport.next_due(terms, build=self.build)
        if due is None:
            return SWEEP_S
        return min(SWEEP_S, max(0.02, due - await self._transport.now()))

    async def _execute(self, claim: Claim, held_until: float) -> None:
        run = LiveRun(
            claim=claim,
            workflows=self._workflows,
            transport=self._steady,
            components=self._components,
            worker=self.name,
            build=self.build,
            rng=self._rng,
            park_after_s=self._settings.park_after_s,
            held_until=held_until,
            appender=self._appender,
            ears=self._ears,
        )
        run_id = run.run_id

        async def body(mailbox: Mailbox[Any]) -> None:
            try:
                await run.body(mailbox)
            finally:
                if self._runs.get(run_id) is run:
                    del self._runs[run_id]
                    self._watched.forget(run_id)
                self._notice()

        parts = (
            ChildSpec(name="log", start=lambda: run.writer, restart=Restart.TRANSIENT),
            ChildSpec(name="body", start=body, restart=Restart.TRANSIENT, shutdown=0, significant=True),
        )
        tree = SupervisorSpec(
            name=run_id,
            strategy=Strategy.REST_FOR_ONE,
            intensity=0,
            auto_shutdown=AutoShutdown.ANY,
            children=parts,
        )
        runs = self._root.supervisor("runs")
        child = ChildSpec(name=run_id, start=tree, restart=Restart.TEMPORARY, shutdown=None)
        self._runs[run_id] = run
        try:
            await runs.start_child(child)
        except AlreadyStarted:  # this worker's own lease had run out, or it has just parked the run
            await runs.stop_child(run_id)
            await runs.start_child(child)

    async def _keep(self, mailbox: Mailbox[Any]) -> None:
        """Run the heartbeat."""
        await self._ready.wait()
        while True:
            try:
                await self._renew()
                await self._beat()
            except (StoreUnavailable, TimeoutError) as error:
                log.error("store unavailable", error=str(error) or "it did not answer within a lease")
            await self._lose([one for one in self._runs.values() if one.tenure.over])
            await anyio.sleep(self._settings.lease_s / 3)

    async def _renew(self) -> None:
        lease_s = self._settings.lease_s
        runs = list(self._runs.values())
        asked = anyio.current_time()
        with anyio.fail_after(lease_s):
            held = await self._transport.renew([one.claim.lease for one in runs], lease_s=lease_s)
        for one in runs:
            if one.run_id in held:
                one.tenure.renew(asked + lease_s)
        await self._lose([one for one in runs if one.run_id not in held])
        with anyio.move_on_after(lease_s / 3):
            for one in runs:
                await one.poke(held.get(one.run_id, 0))

    async def _lose(self, runs: Sequence[LiveRun]) -> None:
        """Stop working on runs whose lease is lost; one that this worker has just given up itself is none."""
        for one in runs:
            if self._runs.get(one.run_id) is one and not one.writer.ended:
                log.warning("lease lost", run_id=one.run_id, worker=self.name)
                with suppress(UnknownChild):
                    await self._root.supervisor("runs").stop_child(one.run_id)

    async def _beat(self) -> None:
        if self._gone:
            return
        self._started = self._started or await self._transport.now()
        await self._transport.beat(
            WorkerInfo(
                name=self.name,
                build=self.build,
                started=self._started,
                beat=0.0,
                running=self.running,
                draining=self.draining,
            )
        )

    def _drawn(self, at: float) -> Portrait:
        return draw(at, self._root.tree(WIDTHS[0]), self._router, self._decisions)

    async def _show(self, mailbox: Mailbox[Any]) -> None:
        """Run what shows the worker to whoever asks."""
        await self._ready.wait()
        lease_s = self._settings.lease_s
        await keep_shown(self._transport, self.name, self._drawn, every_s=lease_s / 3, kept_s=2 * lease_s)

    def _spec(self) -> SupervisorSpec:
        def dynamic(name: str) -> ChildSpec:
            return ChildSpec(name=name, start=SupervisorSpec(name=name, intensity=10, period=60.0), shutdown=None)

        async def export(mailbox: Mailbox[Any]) -> None:
            assert self._exporter is not None
            await self._exporter.run()

        async def share(mailbox: Mailbox[Any]) -> None:
            assert self._limits is not None
            await self._limits.run()

        sharing = [ChildSpec(name="limits", start=share, shutdown=0)] if self._limits is not None else []
        upkeep = upkept(self._transport, self._workflows, self._settings.retention, self._show)
        exporting = [ChildSpec(name="telemetry", start=export, shutdown=0)] if self._exporter is not None else []
        return SupervisorSpec(
            name="worker",
            intensity=3,
            period=30.0,
            children=(
                ChildSpec(name="router", start=lambda: RouterHost(self._router)),
                *sharing,
                *exporting,
                ChildSpec(name="appender", start=self._appender.run, shutdown=0),
                dynamic("components"),
                dynamic("runs"),
                ChildSpec(name="ears", start=lambda: self._ears),
                ChildSpec(name="upkeep", start=upkeep, shutdown=None),
                ChildSpec(name="heartbeat", start=self._keep, shutdown=0),
                ChildSpec(name="claimer", start=self._claim, shutdown=0),
            ),
        )


@asynccontextmanager
async def open_worker(
    transport: Transport,
    workflows: Mapping[str, Workflow[..., Any]],
    settings: WorkerSettings,
    router: Router | RouterConfig | None = None,
    *,
    telemetry: Telemetry | None = None,
    meters: Meters | None = None,
) -> AsyncIterator[Worker]:
    """Run a worker for as long as the block lasts; leaving it drains. The worker opens the router.

    When the block is canceled or raises, runs are handed over at once, in mid-step.

    Args:
        transport: the store.
        workflows: what it can run.
        settings: how it works.
        router: where LLM calls go; by default what the environment says.
        telemetry: what is exported; by default nothing.
        meters: where it counts; by default nowhere that anybody sees.

    Raises:
        SupervisorFailed: it gave up.
    """
    meters = meters or Meters()
    worker = Worker(transport, workflows, settings, router, telemetry or Telemetry(), meters)
    try:
        async with AsyncExitStack() as stack:
            with routed(worker._router):
                worker._root = await stack.enter_async_context(supervise(worker._spec()))
            meters.gauges.append(worker.look)
            worker._ready.set()
            try:
                yield worker
                await worker.drain()
            finally:
                meters.gauges.remove(worker.look)
                with anyio.CancelScope(shield=True), anyio.move_on_after(HAND_OVER_S):
                    await worker.leave()
                worker._senders.hush()
    finally:
        with anyio.CancelScope(shield=True):
            await worker._senders.close()


def build_id(workflows: Mapping[str, Workflow[..., Any]]) -> str:
    """Name the code of some workflows: a digest of their modules' files."""
    digest = hashlib.blake2b(digest_size=6)
    files = {w.fn.__code__.co_filename for w in workflows.values() if hasattr(w.fn, "__code__")}
    for file in sorted(files):
        if Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()
