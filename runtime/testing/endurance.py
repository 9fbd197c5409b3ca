"""Endurance: workflows on simulated workers through a plan of faults, and what the laws say of it afterwards.

Why: crashes come in company. A kill while the store's clock jumps, a zombie that wakes in the middle of a takeover, an
answer lost to the client that cancels: no list of cases has them all, a thousand seeds do. Virtual time makes a
minute of outages cost milliseconds, and a seed brings each of them back.

Not shown here: what threads, real sockets and real disks do. See `tests/faults` for real processes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from ...transports import Run, RunEnded, StoreUnavailable, Transport, open_transport
from ..definitions import Workflow
from ..payload import to_json
from ..router import RouterConfig
from ..runs import Runs, RunView
from ..settings import WorkerSettings
from ..signals import Signal
from ..worker import Worker, open_worker
from .auditor import Audit, audit
from .faults import Fault, FaultKind, FaultPlan
from .laws import Finding
from .nodes import Line, NodeLoop, current_line

T = TypeVar("T")

SETTINGS = WorkerSettings(lease_s=3.0, park_after_s=1.0)
RETRY_S = 0.3
"""When a client tries again, seconds."""

TRACE = f"00-{1:032x}-{1:016x}-01"
"""Of all runs, so that their logs are the same every time."""

ACCEPTED_WITHIN_S = 5.0
"""When the last run is started, seconds after the beginning."""


class Endured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        fired: how often a fault of each kind hit something: a worker with runs, a call, a run that went on.
        audit: the store held against the laws, with what readers saw.
        late: runs that had not ended in time, though workers lived.
        runs: every accepted run at the end, in the order of the inputs.
        virtual_s: how long it took.
        trace: a digest of every step of every task: equal for equal seeds.
    """

    plan: FaultPlan
    fired: Mapping[FaultKind, int]
    audit: Audit
    late: tuple[str, ...]
    runs: tuple[RunView, ...]
    virtual_s: float
    trace: str

    def check(self) -> None:
        """Raise unless all laws held.

        Raises:
            AssertionError: says which did not, and the plan, with its seed.
        """
        told = [f"law {one.law}: run {one.run_id}, record {one.seq}: {one.says}" for one in self.audit.findings]
        told += [f"law 1: run {run_id} has not ended" for run_id in self.late]
        assert not told, "\n".join([*told, f"seed {self.plan.seed}:", *map(str, self.plan.faults)])


def endure(
    plan: FaultPlan,
    workflows: Workflow[..., Any] | Sequence[Workflow[..., Any]],
    inputs: Sequence[Mapping[str, Any]],
    *,
    signals: Sequence[tuple[Signal[Any], Any]] = (),
    settings: WorkerSettings = SETTINGS,
    within_s: float = 120.0,
) -> Endured:
    """Run a workflow with each input on simulated workers, through the plan's faults. Blocks; needs no event loop.

    Args:
        plan: what happens to them.
        workflows: the workflow, or several: it and those that it runs as children.
        inputs: the arguments of each run.
        signals: what a client sends when the plan says so, one of these each time.
        settings: of the workers.
        within_s: how long after the last fault all runs must have ended, virtual seconds.
    """
    troupe = (workflows,) if isinstance(workflows, Workflow) else tuple(workflows)
    ordeal = Ordeal(plan, troupe, inputs, signals, settings, within_s)
    with asyncio.Runner(loop_factory=partial(NodeLoop, plan.seed)) as runner:
        return runner.run(ordeal.run())


class Post:
    """A worker's place: its line, and the worker once it has begun."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.worker: Worker | None = None


class Ordeal:
    """One simulation under way."""

    def __init__(
        self,
        plan: FaultPlan,
        troupe: Sequence[Workflow[..., Any]],
        inputs: Sequence[Mapping[str, Any]],
        signals: Sequence[tuple[Signal[Any], Any]],
        settings: WorkerSettings,
        within_s: float,
    ) -> None:
        self._plan = plan
        self._troupe = troupe
        self._inputs = inputs
        self._signals = signals
        self._settings = settings
        self._within_s = within_s
        self._rng = random.Random(plan.seed)  # noqa: S311 - a simulation is no secret
        self._jumped = 0.0
        self._lines: list[Line] = []
        self._places: dict[int, Post] = {}
        self._client = self._line("client")
        self._accepted: dict[int, str] = {}
        self._seen: dict[str, list[int]] = {}
        self._fired: Counter[FaultKind] = Counter()
        self._loop: NodeLoop
        self._store: Transport
        self._group: TaskGroup

    async def run(self) -> Endured:
        """Run it to its end."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, NodeLoop)
        self._loop = loop
        workflows = {workflow.name: workflow for workflow in self._troupe}
        async with open_transport("memory://", clock=self._clock) as store, anyio.create_task_group() as group:
            self._store, self._group = store, group
            self._runs = Runs(self._client.store(store), workflows)
            for place in range(self._plan.workers):
                self._employ(place)
            for number in range(len(self._inputs)):
                group.start_soon(self._accept, number)
            for fault in sorted(self._plan.faults, key=lambda fault: fault.at_s):
                await anyio.sleep(fault.at_s - loop.time())
                group.start_soon(self._inflict, fault)
            late = await self._ended()
            endured = await self._judge(late)
            for line in self._lines:
                line.severed = True
                line.mend()
            group.cancel_scope.cancel()
            for line in self._lines:
                loop.thaw(line)
        return endured

    def _clock(self) -> float:
        return 1e9 + asyncio.get_running_loop().time() + self._jumped

    def _line(self, name: str) -> Line:
        line = Line(name, self._rng)
        self._lines.append(line)
        return line

    def _employ(self, place: int) -> None:
        """Start a worker in a place."""
        line = self._line(f"w{place}.{len(self._lines)}")
        self._places[place] = post = Post(line)
        settings = replace(self._settings, name=line.name, build="simulated", seed=self._plan.seed)

        async def work() -> None:
            current_line.set(line)
            store = line.store(self._store)
            async with open_worker(store, self._runs.workflows, settings, RouterConfig(models={})) as post.worker:
                await anyio.sleep_forever()

        self._group.start_soon(work)

    # The client

    async def _accept(self, number: int) -> None:
        """Start a run until its acceptance is acknowledged, then read its log to the end, as clients do."""
        await anyio.sleep(self._rng.random() * ACCEPTED_WITHIN_S)
        workflow = self._troupe[0]
        data = to_json(self._inputs[number], f"input {number}")
        tries = itertools.count()

        async def start() -> str:
            run_id = f"run-{number}-{next(tries)}"
            run, _ = await self._runs.start(workflow.name, data, key=f"key-{number}", run_id=run_id, traceparent=TRACE)
            return run.run_id

        run_id = self._accepted[number] = await _insist(start)
        seen = self._seen[run_id] = []

        async def read() -> None:
            async for page in self._runs.tail(run_id, seen[-1] if seen else 0):
                seen.extend(stored.seq for stored in page)

        await _insist(read)

    async def _tell(self, fault: Fault, act: Callable[[str], Awaitable[Run]]) -> None:
        """Send something to a run, if there is one."""
        run_id = self._accepted.get(fault.target)
        if run_id is None:
            return
        with suppress(RunEnded):
            await _insist(lambda: act(run_id))
            self._fired[fault.kind] += 1

    # Faults

    async def _inflict(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.CLOCK_JUMP:
                self._jumped += fault.for_s
                self._fired[fault.kind] += 1
            case FaultKind.CANCEL:
                await self._tell(fault, lambda run_id: self._runs.cancel(run_id, "simulated"))
            case FaultKind.SIGNAL if self._signals:
                signal, value = self._rng.choice(self._signals)
                data = to_json(value, f"signal {signal.name}")
                once = f"signal-{fault.at_s}"
                await self._tell(fault, lambda run_id: self._runs.inlets.signal(run_id, signal.name, data, id=once))
            case FaultKind.KILL | FaultKind.STALL:
                await self._stop(fault)
            case FaultKind.PARTITION | FaultKind.HANG | FaultKind.LOST_REPLY:
                await self._harm(fault)

    async def _stop(self, fault: Fault) -> None:
        """Freeze a worker for a while, or for ever."""
        post = self._places[fault.target]
        if self._loop.frozen(post.line):
            return
        self._fired[fault.kind] += bool(post.worker and post.worker.running)
        self._loop.freeze(post.line)
        await anyio.sleep(fault.for_s)
        if fault.kind is FaultKind.KILL:
            self._employ(fault.target)
        else:
            self._loop.thaw(post.line)

    async def _harm(self, fault: Fault) -> None:
        """Make a line bad for a while: a worker's, or the client's, whose number is that of one more."""
        line = self._client if fault.target == self._plan.workers else self._places[fault.target].line
        before = line.harmed
        if fault.kind is FaultKind.LOST_REPLY:
            line.to_lose += 1
        else:
            line.down, line.hung = fault.kind is FaultKind.PARTITION, fault.kind is FaultKind.HANG
        await anyio.sleep(fault.for_s)
        line.to_lose = 0
        line.mend()
        self._fired[fault.kind] += line.harmed > before

    # The judgement

    async def _ended(self) -> tuple[str, ...]:
        """Wait until every run has ended; those that had not in time."""
        due = self._plan.over_s + self._within_s
        while True:
            live = [one for one in self._accepted.values() if not (await self._store.run(one)).state.terminal]
            unheard = [one for one, seen in self._seen.items() if len(seen) < (await self._store.run(one)).seq]
            waiting = live or unheard or len(self._accepted) < len(self._inputs)
            if self._loop.time() > due or not (waiting or self._loop.time() < self._plan.over_s):
                return tuple(live)
            await anyio.sleep(0.5)

    async def _judge(self, late: tuple[str, ...]) -> Endured:
        found = await audit(self._store)
        runs = Runs(self._store, self._runs.workflows)
        views = [await runs.view(run_id) for _, run_id in sorted(self._accepted.items())]
        misread = [
            Finding(law=2, run_id=run_id, seq=0, says=f"a reader saw {seen}")
            for run_id, seen in self._seen.items()
            if seen != list(range(1, len(seen) + 1))
            or (run_id not in late and len(seen) < (await runs.view(run_id)).run.seq)
        ]
        return Endured(
            plan=self._plan,
            fired=dict(self._fired),
            audit=msgspec.structs.replace(found, findings=(*found.findings, *misread)),
            late=late,
            runs=tuple(views),
            virtual_s=self._loop.time(),
            trace=self._loop.trace_hash(),
        )


async def _insist(act: Callable[[], Awaitable[T]]) -> T:
    """Do something until it is acknowledged."""
    while True:
        try:
            return await act()
        except StoreUnavailable:
            await anyio.sleep(RETRY_S)
