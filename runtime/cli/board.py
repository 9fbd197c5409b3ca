"""Workers as they look on a terminal: a tree as text, and the board of `top`. Pure: values in, pictures out."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from heapq import nlargest
from typing import TYPE_CHECKING, Literal

from ..http.fleet import DeploymentObject, WorkerTree
from ..http.views import RunObject
from ..portraits import Part
from .output import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from .sight import Sight

BREAKERS = {"closed": "green", "half_open": "yellow", "open": "bold red"}
STATES = {"completed": "green", "running": "yellow", "failed": "red", "timed_out": "red", "waiting": "cyan"}
FULLEST = 6
"""Mailboxes shown, those with most mail."""


def tree_text(worker: WorkerTree) -> str:
    """Draw a worker's tree, a line for each part."""
    about = f"{worker.worker}  build {worker.build}, {worker.running} runs{', draining' if worker.draining else ''}"
    if worker.tree is None:
        return f"{printable(about)}, not shown"
    return "\n".join([printable(about), *_below(worker.tree, "")])


def _below(part: Part, indent: str) -> Iterator[str]:
    last = len(part.children) + bool(part.omitted)
    for number, child in enumerate(part.children, 1):
        yield f"{indent}{'└─' if number == last else '├─'} {_told(child)}"
        yield from _below(child, indent + ("   " if number == last else "│  "))
    if part.omitted:
        yield f"{indent}└─ ... and {part.omitted} more"


def _told(part: Part) -> str:
    notes = [part.kind, part.state]
    if part.restarts:
        notes.append(f"{part.restarts} restarts" if part.restarts > 1 else "1 restart")
    if part.mailbox:
        notes.append(f"{part.mailbox} waiting" + (f" of {part.capacity}" if part.capacity else ""))
    if part.dropped:
        notes.append(f"{part.dropped} dropped")
    return printable(f"{part.name}  {', '.join(notes)}")


def waiting(part: Part | None) -> int:
    """Add up the messages that wait in a part and below it."""
    return 0 if part is None else part.mailbox + sum(map(waiting, part.children))


def restarts(part: Part | None) -> int:
    """Add up the restarts of a part and below it."""
    return 0 if part is None else part.restarts + sum(map(restarts, part.children))


def board(sight: Sight, place: str, now: datetime.datetime) -> RenderableType:
    """Draw all of it."""
    from rich.console import Group
    from rich.text import Text

    at_work = sum(worker.running for worker in sight.workers)
    workers = f"{len(sight.workers)} worker{'' if len(sight.workers) == 1 else 's'}"
    head = Text(f"greenroom top  {place}  {workers}, {at_work} runs at work", "bold")
    parts: list[RenderableType] = [head, _workers(sight, now)]
    if sight.providers.data:
        parts.append(_providers(sight.providers.data))
        parts += _complaints(sight.providers.data)
    queued = [line for line in sight.providers.lines if line.waiting]
    if queued:
        said = ", ".join(f"{line.waiting} for {line.model} on {line.worker}" for line in queued)
        parts.append(Text(f"calls that wait: {printable(said)}", "yellow"))
    fullest = _fullest(sight)
    if fullest:
        parts.append(fullest)
    parts.append(_runs(sight.runs.data, now))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    """Make a table; a column whose name begins with `#` holds numbers. The first one gives way where it is narrow."""
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold dim", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for number, column in enumerate(columns):
        justify: Literal["right", "left"] = "right" if column.startswith("#") else "left"
        table.add_column(column.removeprefix("#"), justify=justify, no_wrap=number > 0, overflow="ellipsis")
    return table


def _workers(sight: Sight, now: datetime.datetime) -> Table:
    from rich.text import Text

    table = _table("\nWorkers", "worker", "build", "state", "#runs", "#waiting", "#restarts", "#beat")
    for one in sight.workers:
        state = Text("draining", "yellow") if one.draining else Text("at work", "green")
        known = one.tree is not None
        table.add_row(
            Text(printable(one.worker)),
            Text(printable(one.build)),
            state,
            str(one.running),
            str(waiting(one.tree)) if known else "...",
            str(restarts(one.tree)) if known else "...",
            _ago(now, one.beat),
        )
    if not sight.workers:
        table.add_row(Text("none was heard of lately: start one with 'greenroom worker'", "dim"))
    return table


def _providers(found: tuple[DeploymentObject, ...]) -> Table:
    from rich.text import Text

    table = _table("\nProviders", "deployment", "breaker", "#under way", "#calls", "#429s", "#failed", "#p50", "#p95")
    for one in found:
        table.add_row(
            Text(printable(one.deployment)),
            Text(one.breaker, BREAKERS.get(one.breaker, "white")),
            str(one.in_flight),
            str(one.calls),
            str(one.limited),
            Text(str(one.failed), "red" if one.failed else ""),
            _took(one.p50_s),
            _took(one.p95_s),
        )
    return table


def _complaints(found: tuple[DeploymentObject, ...]) -> Iterator[Text]:
    """Say of each deployment that is not well what it said last, on a line of its own: it may be long."""
    from rich.text import Text

    for one in found:
        why = next((on.why for on in one.workers if on.why), "")
        if why:
            yield Text(f"{printable(one.deployment)}: {printable(why)}", "dim", no_wrap=True, overflow="ellipsis")


def _fullest(sight: Sight) -> Table | None:
    from rich.text import Text

    found = [
        (part.mailbox, f"{worker.worker}/{path}", part.capacity)
        for worker in sight.workers
        if worker.tree is not None
        for path, part in _parts(worker.tree)
        if part.mailbox
    ]
    if not found:
        return None
    table = _table("\nMailboxes with most mail", "#waiting", "#of", "actor")
    for depth, path, capacity in nlargest(FULLEST, found, key=lambda one: one[0]):
        table.add_row(str(depth), str(capacity or "any"), Text(printable(path)))
    return table


def _parts(part: Part, path: str = "") -> Iterator[tuple[str, Part]]:
    for child in part.children:
        at = f"{path}/{child.name}" if path else child.name
        yield at, child
        yield from _parts(child, at)


def _runs(runs: tuple[RunObject, ...], now: datetime.datetime) -> Table:
    from rich.text import Text

    table = _table("\nRuns, newest first", "run", "workflow", "status", "#started", "#records", "waits")
    for run in runs:
        table.add_row(
            Text(run.id),
            Text(printable(run.workflow)),
            Text(run.status.value, STATES.get(run.status.value, "white")),
            _ago(now, run.created),
            str(run.seq),
            Text(printable(run.waiting_on) if isinstance(run.waiting_on, str) else "", "dim"),
        )
    return table


def _ago(now: datetime.datetime, then: datetime.datetime) -> str:
    seconds = max(0.0, (now - then).total_seconds())
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
