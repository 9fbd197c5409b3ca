"""Commands that begin runs again, alone or all that match, and the builds that runs are kept for."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter

import msgspec

from ...transports import RunFilter, RunState
from ..errors import ConfigInvalid
from ..runs import Runs
from .input import read_input
from .output import give, say
from .store import with_runs
from .target import load_runtime, settle

FAILED = (RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELED)


def fork(options: Namespace) -> int:
    """Start a new run with the results of another one, and give its id."""
    runtime = load_runtime(options.target, settle(options))
    changed = read_input(options.input) if options.input else None

    async def act(runs: Runs) -> None:
        run, _ = await runs.fork(options.run, at=options.at, input=changed)
        give(run.run_id)

    return with_runs(runtime.store, act, runtime.workflows)


def retry(options: Namespace) -> int:
    """Start failed runs again from their last good steps, and give the new ids."""
    runtime = load_runtime(options.target, settle(options))
    states = FAILED if options.status is None else (_state(options.status),)
    if not options.run and options.workflow is None and not options.all:
        raise ConfigInvalid("which runs? give ids, or --workflow NAME or --all for those that failed")

    async def act(runs: Runs) -> None:
        names = list(options.run)
        if not names:
            for state in states:
                where = RunFilter(workflow=options.workflow, state=state)
                names += [run.run_id async for run in runs.matching(where) if run.workflow in runs.workflows]
        for name in names:
            run, new = await runs.retry(name, key=f"retry/{name}")
            if new or options.run:
                give(run.run_id)
        if not options.quiet:
            say(f"{len(names)} runs that failed, each started again once")

    return with_runs(runtime.store, act, runtime.workflows)


def builds(options: Namespace) -> int:
    """List the builds that hold live runs, or let the runs of one go."""

    async def act(runs: Runs) -> None:
        if options.retire is not None:
            count = await runs.transport.unpin(options.retire)
            say(f"{count} runs of build {options.retire} may go on with any build")
            return
        pinned: Counter[str] = Counter()
        for lane in await runs.transport.lanes():
            pinned[lane.lane.build] += lane.live
        workers = Counter(info.build for info in await runs.transport.workers())
        found = [
            {"build": build, "live_runs": pinned[build], "workers": workers[build]}
            for build in sorted({*pinned, *workers})
        ]
        if options.json:
            give(msgspec.json.encode(found).decode())
            return
        for one in found:
            give(f"{one['build'] or '(any)':<24} {one['live_runs']:>8} runs  {one['workers']:>4} workers")

    return with_runs(settle(options).store, act)


def _state(text: str) -> RunState:
    try:
        return RunState(text)
    except ValueError:
        raise ConfigInvalid(f"--status is {text!r}: give one of {', '.join(RunState)}") from None
