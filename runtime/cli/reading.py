"""Commands that read runs, and the one that asks a run to stop."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from ...transports import RunFilter, RunState, open_transport
from ..config import Settings
from ..errors import ConfigInvalid
from ..log import Output
from ..records import decode
from ..runs import Runs
from ..trace import TraceFold
from .execute import as_json
from .target import load_runtime, settle
from .views import line, tree


def _with_runs(settings: Settings, read: Callable[[Runs], Awaitable[None]]) -> int:
    async def main() -> None:
        async with open_transport(settings.store) as transport:
            await read(Runs(transport, {}))

    anyio.run(main)
    return 0


def ps(options: Namespace) -> int:
    """List runs."""
    settings = settle(options)
    if options.status is not None and options.status not in [state.value for state in RunState]:
        raise ConfigInvalid(f"--status {options.status}: give one of {', '.join(state.value for state in RunState)}")
    where = RunFilter(workflow=options.workflow, state=RunState(options.status) if options.status else None)

    async def read(runs: Runs) -> None:
        page = await runs.list(where, limit=options.limit)
        if options.json:
            print(msgspec.json.encode(page.runs).decode())
            return
        if not page.runs:
            print(f"no runs in {settings.store}", file=sys.stderr)
        for run in page.runs:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
            print(f"{run.run_id:<34} {run.workflow:<20} {run.state.value:<10} {at}  {run.seq} records")

    return _with_runs(settings, read)


def logs(options: Namespace) -> int:
    """Print a run's log."""
    settings = settle(options)

    async def read(runs: Runs) -> None:
        output = Output()
        run = await runs.transport.run(options.run)
        if options.follow:
            events = runs.events(options.run, options.after)
            async for event in events:
                output.apply(event)
                if not options.output:
                    print(as_json(event) if options.jsonl else line(event), flush=True)
        else:
            after = options.after
            while after < run.seq:
                for stored in await runs.transport.read(options.run, after, 500):
                    event, after = decode(stored), stored.seq
                    output.apply(event)
                    if not options.output:
                        print(as_json(event) if options.jsonl else line(event))
        if options.output:
            print(output.text)

    return _with_runs(settings, read)


def trace(options: Namespace) -> int:
    """Print a run's trace."""
    settings = settle(options)

    async def read(runs: Runs) -> None:
        run = await runs.transport.run(options.run)
        fold, after = TraceFold(), 0
        while after < run.seq:
            for stored in await runs.transport.read(options.run, after, 500):
                fold.apply(decode(stored))
                after = stored.seq
        print(msgspec.json.encode(fold.trace).decode() if options.json else tree(fold.trace))

    return _with_runs(settings, read)


def cancel(options: Namespace) -> int:
    """Ask a run to stop."""

    async def read(runs: Runs) -> None:
        await runs.cancel(options.run, options.reason)
        print(f"asked {options.run} to stop", file=sys.stderr)

    return _with_runs(settle(options), read)


def workflows(options: Namespace) -> int:
    """List the workflows of a target."""
    runtime = load_runtime(options.target, settle(options))
    for name, workflow in runtime.workflows.items():
        print(f"{name:<24} {workflow.summary}")
    return 0
