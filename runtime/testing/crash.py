"""Crash everywhere: a workflow run once as it should be, and then once for every place it can be cut off at.

`crash_twice_everywhere` does so for every pair of places: the worker that takes over is lost as well.

Why: that a workflow survives a lost worker should be a test of three lines, not a hope. Each trial cuts the
worker off its store at one more append (it stands, and its reply is lost; or it is lost itself, with what had been done
before it), kills it, and lets another worker take over. Every trial must end like the clean run, with one result per
step (laws 1, 3, 5).

Run it on virtual time: leases then cost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import anyio
import msgspec

from ...transports import Append, RunState, Transport, TransportError, open_transport
from ..definitions import Workflow
from ..log import fold_output, recorded_twice
from ..records import Event
from ..router import RouterConfig
from ..runs import Runs
from ..settings import WorkerSettings
from ..worker import open_worker
from .auditor import audit
from .laws import Finding

P = ParamSpec("P")
R = TypeVar("R")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the workflow, and what came of it.

    Attributes:
        cut_after: at which append its first worker was lost; 0: never.
        then_after: at which append the second one was; 0: never.
        stands: whether these appends were made.
    """

    cut_after: int
    then_after: int = 0
    stands: bool = True
    state: RunState
    result: bytes
    output: str
    takeovers: int
    replayed: int
    recorded_twice: tuple[str, ...]
    findings: tuple[Finding, ...]
    events: tuple[Event, ...]


class Severed:
    """A transport whose line is cut at the n-th append: from then on nothing is heard, not even an error.

    Args:
        inner: the store.
        after: which one.
        stands: whether that one is made.
    """

    def __init__(self, inner: Transport, *, after: int, stands: bool = True) -> None:
        self.cut = anyio.Event()
        self._inner = inner
        self._left = after
        self._stands = stands

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        """Append; nobody hears of the last one."""
        await self._pass()
        self._left -= 1
        if self._left == 0 and not self._stands:
            self.cut.set()
            await self._pass()
        refusals = await self._inner.append_all(appends)
        if self._left == 0:
            self.cut.set()
        await self._pass()
        return refusals

    async def _pass(self) -> None:
        if self.cut.is_set():
            await anyio.sleep_forever()

    def __getattr__(self, name: str) -> Any:
        """Everything else passes until the line is cut."""
        method = getattr(self._inner, name)
        if name in ("watch", "url", "durability", "forgets"):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pass()
            answer = await method(*args, **kwargs)
            await self._pass()
            return answer

        return call


Cast: TypeAlias = Workflow[P, R] | tuple[Workflow[P, R], *tuple[Workflow[..., Any], ...]]


async def crash_everywhere(workflow: Cast[P, R], *args: P.args, **kwargs: P.kwargs) -> list[Trial]:
    """Run a workflow once undisturbed, then with a crash at every append; return the trials, clean one first.

    Args:
        workflow: the workflow, or a tuple of it and those that it runs as children.
        *args: its arguments.
        **kwargs: its arguments.

    Raises:
        AssertionError: a trial ended otherwise than the clean run, or broke a law; says which.
    """
    troupe = (workflow,) if isinstance(workflow, Workflow) else workflow
    return await _crash(troupe, troupe[0].encode(troupe[0].bind(*args, **kwargs)), pairs=False)


async def crash_twice_everywhere(workflow: Cast[P, R], *args: P.args, **kwargs: P.kwargs) -> list[Trial]:
    """Like `crash_everywhere`, and the worker that takes over is lost after each of its appends too: n * n / 2 trials.

    Raises:
        AssertionError: a trial ended otherwise than the clean run, or broke a law; says which.
    """
    troupe = (workflow,) if isinstance(workflow, Workflow) else workflow
    return await _crash(troupe, troupe[0].encode(troupe[0].bind(*args, **kwargs)), pairs=True)


async def _crash(troupe: Sequence[Workflow[..., Any]], data: bytes, *, pairs: bool) -> list[Trial]:
    trials = [clean := await _trial(troupe, data)]
    for stands in (True, False):
        for first in itertools.count(1):
            trial = await _trial(troupe, data, first, stands=stands)
            if not trial.cut_after:
                break
            trials.append(_like(trial, clean))
            for second in itertools.count(1) if pairs and stands else ():
                trial = await _trial(troupe, data, first, second)
                if not trial.then_after:
                    break
                trials.append(_like(trial, clean))
    return trials


def _like(trial: Trial, clean: Trial) -> Trial:
    where = f"cut at append {trial.cut_after}" + (f" and {trial.then_after}" if trial.then_after else "")
    where += "" if trial.stands else ", which was lost"
    assert trial.state == clean.state, f"{where}: ended {trial.state}, not {clean.state}"
    assert trial.result == clean.result, f"{where}: result {trial.result!r}, not {clean.result!r}"
    assert sorted(trial.output) == sorted(clean.output), f"{where}: output {trial.output!r}"
    assert not trial.recorded_twice, f"{where}: steps recorded twice: {trial.recorded_twice}"
    assert not trial.findings, f"{where}: {trial.findings}"
    return trial


async def _trial(workflows: Sequence[Workflow[..., Any]], data: bytes, *cuts: int, stands: bool = True) -> Trial:
    async with open_transport("memory://", clock=anyio.current_time) as store:
        runs = Runs(store, {workflow.name: workflow for workflow in workflows})
        run, _ = await runs.start(workflows[0].name, data)
        settings = WorkerSettings(lease_s=1.0, seed=0)
        made = [0, 0]
        for number, cut in enumerate(cuts):
            if not await _work_until_cut(Severed(store, after=cut, stands=stands), runs, run.run_id, settings):
                break
            made[number] = cut
        async with open_worker(store, runs.workflows, settings, RouterConfig(models={})):
            view = await runs.wait(run.run_id)
        events = tuple([event async for event in runs.events(run.run_id)])
        return Trial(
            cut_after=made[0],
            then_after=made[1],
            stands=stands,
            state=view.run.state,
            result=bytes(view.result),
            output=fold_output(events),
            takeovers=sum(getattr(event.record, "takeover", False) for event in events),
            replayed=getattr(events[-1].record, "replayed", 0),
            recorded_twice=tuple(recorded_twice(events)),
            findings=(await audit(store)).findings,
            events=events,
        )


async def _work_until_cut(line: Severed, runs: Runs, run_id: str, settings: WorkerSettings) -> bool:
    """Let a worker work on a line that will be cut; True if it was cut before the run had ended."""
    store: Any = line
    async with anyio.create_task_group() as group:

        async def work() -> None:
            async with open_worker(store, runs.workflows, settings, RouterConfig(models={})):
                await runs.wait(run_id)
            group.cancel_scope.cancel()

        group.start_soon(work)
        await line.cut.wait()
        group.cancel_scope.cancel()
    return line.cut.is_set()
