"""Commands that read runs."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import AsyncIterator

import msgspec

from ...transports import RunFilter, RunState
from ..errors import ConfigInvalid, CursorAhead
from ..log import Output
from ..records import Event, decode
from ..runs import Runs
from ..trace import TraceFold
from .output import give, say
from .store import with_runs
from .target import load_runtime, settle
from .views import as_json, line, row, tree

PAGE = 500
"""Records read at once."""


async def _history(runs: Runs, run_id: str, after: int = 0) -> AsyncIterator[Event]:
    """A run's log as it stands."""
    run = await runs.transport.run(run_id)
    if after > run.seq:
        raise CursorAhead(run_id, after, run.seq)
    while after < run.seq:
        for stored in await runs.transport.read(run_id, after, PAGE):
            yield decode(stored)
            after = stored.seq


def ps(options: Namespace) -> int:
    """List runs."""
    settings = settle(options)
    states = [state.value for state in RunState]
    if options.status is not None and options.status not in states:
        raise ConfigInvalid(f"--status is {options.status!r}: give one of {', '.join(states)}")
    where = RunFilter(workflow=options.workflow, state=RunState(options.status) if options.status else None)

    async def read(runs: Runs) -> None:
        page = await runs.list(where, limit=options.limit)
        if options.json:
            give(msgspec.json.encode(page.runs).decode())
            return
        for run in page.runs:
            give(row(run))
        if not page.runs and not options.quiet:
            say(f"no such runs in {settings.store}")

    return with_runs(settings.store, read)


def logs(options: Namespace) -> int:
    """Give a run's log, or the text that it emitted."""

    async def read(runs: Runs) -> None:
        output = Output()
        events = runs.events if options.follow else lambda run, after: _history(runs, run, after)
        async for event in events(options.run, options.after):
            output.apply(event)
            if not options.output:
                give(as_json(event) if options.jsonl else line(event))
        if options.output:
            give(output.text, end="" if output.text.endswith("\n") else "\n")

    return with_runs(settle(options).store, read)


def trace(options: Namespace) -> int:
    """Give a run's trace."""

    async def read(runs: Runs) -> None:
        fold = TraceFold()
        async for event in _history(runs, options.run):
            fold.apply(event)
        give(msgspec.json.encode(fold.trace).decode() if options.json else tree(fold.trace))

    return with_runs(settle(options).store, read)


def workflows(options: Namespace) -> int:
    """List the workflows of a target."""
    runtime = load_runtime(options.target, settle(options))
    found = {name: workflow.summary for name, workflow in runtime.workflows.items()}
    if options.json:
        give(json.dumps(found))
        return 0
    for name, summary in found.items():
        give(f"{name:<24} {summary}".rstrip())
    return 0
