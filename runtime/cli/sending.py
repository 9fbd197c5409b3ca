"""Commands that send something to a run: a cancel, a signal, a decision. They write to its log and wait for nothing."""

from __future__ import annotations

import contextlib
import json
from argparse import Namespace

import msgspec

from ...transports import RunEnded, RunFilter, RunState
from ..errors import ConfigInvalid
from ..runs import Runs
from .output import give, printable, say
from .store import with_runs
from .target import load_runtime, settle


def cancel(options: Namespace) -> int:
    """Ask a run to stop."""
    if not options.run and options.workflow is None and not options.all:
        raise ConfigInvalid("which runs? give ids, or --workflow NAME or --all for those that go on")

    async def act(runs: Runs) -> None:
        for name in options.run:
            await runs.cancel(name, options.reason)
            if not options.quiet:
                say(f"asked run {name} to stop")
        if not options.run:
            count = 0
            for state in (RunState.WAITING, RunState.QUEUED, RunState.RUNNING):
                where = RunFilter(workflow=options.workflow, state=state)
                for name in [run.run_id async for run in runs.matching(where)]:
                    with contextlib.suppress(RunEnded):
                        await runs.cancel(name, options.reason)
                        count += 1
            if not options.quiet:
                say(f"asked {count} runs to stop")

    return with_runs(settle(options).store, act)


def signal(options: Namespace) -> int:
    """Send a signal; the target tells what it takes."""
    runtime = load_runtime(options.target, settle(options))

    async def act(runs: Runs) -> None:
        await runs.inlets.signal(options.run, options.name, _json(options.data))
        if not options.quiet:
            say(f"sent {options.name} to run {options.run}")

    return with_runs(runtime.store, act, runtime.workflows)


def approve(options: Namespace) -> int:
    """Decide what a run asks for, or give its questions."""
    runtime = load_runtime(options.target, settle(options))

    async def act(runs: Runs) -> None:
        if options.approval is None:
            for one in await runs.inlets.approvals(options.run):
                decided = f"decided: {bytes(one.decision).decode()}" if one.decision is not None else "open"
                give(f"{one.approval}  {decided}  {printable(one.question)}")
            return
        await runs.inlets.decide(options.run, options.approval, _json(options.decision), by=options.by)
        if not options.quiet:
            say(f"decided {options.approval} of run {options.run}")

    return with_runs(runtime.store, act, runtime.workflows)


def _json(text: str) -> bytes:
    """JSON as it is, other text as a JSON string."""
    try:
        json.loads(text)
    except ValueError:
        return msgspec.json.encode(text)
    return text.encode()
