"""A run as the API shows it: one object, the same wherever a run appears.

Why: clients are written against this object, so it is made in one place. Links are path references under
whatever prefix the app is mounted at; they name no host, so no header that a client sends can bend them.
"""

from __future__ import annotations

import datetime
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from ...transports import Run, RunPage, RunState, WorkerInfo
from ..runs import RunView
from .access import Scope
from .problems import SECURITY, Problem, failure


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run's parts are."""

    itself: str = msgspec.field(name="self")
    events: str
    output: str
    result: str
    cancel: str
    trace: str
    approvals: str


class RunObject(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `seq` counts its records; `result` and `error` come with its end, `waiting_on` while it waits.

    In a list, what only its log knows (`input`, `metadata`, `trace_id`, `result`, `error`) is left out.
    """

    id: str
    workflow: str
    status: RunState
    created: datetime.datetime
    updated: datetime.datetime
    seq: int
    tags: tuple[str, ...]
    links: Links
    tenant: str | UnsetType = UNSET
    waiting_on: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    timeout_s: float | UnsetType = UNSET
    input: msgspec.Raw | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    error: Problem | UnsetType = UNSET


class RunList(msgspec.Struct, frozen=True):
    """Runs, newest first; `next_cursor` continues, null ends."""

    data: tuple[RunObject, ...]
    next_cursor: str | None


class OutputText(msgspec.Struct, frozen=True):
    """The text a run shows so far, as of record `seq`; `complete` when nothing will be added."""

    text: str
    complete: bool
    seq: int


class TokenObject(msgspec.Struct, frozen=True):
    """What the token of a request may do: `scopes` with those that it implies, `tenant` null for all."""

    name: str
    scopes: tuple[Scope, ...]
    tenant: str | None


class WorkerObject(msgspec.Struct, frozen=True):
    """A worker by its heartbeat."""

    name: str
    build: str
    started: datetime.datetime
    beat: datetime.datetime
    running: int
    draining: bool


class WorkerList(msgspec.Struct, frozen=True):
    """The workers that were heard of lately."""

    data: tuple[WorkerObject, ...]


def time_of(seconds: float) -> datetime.datetime:
    """Read seconds since the epoch as a time, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def root_of(request: Request) -> str:
    """Say where the app is mounted."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def run_path(root: str, run_id: str) -> str:
    """Give the path of a run; `root` is where the app is mounted."""
    return f"{root}/v1/runs/{quote(run_id, safe='')}"


def row_object(root: str, run: Run) -> RunObject:
    """Show a run from its row alone, as lists do."""
    path = run_path(root, run.run_id)
    return RunObject(
        id=run.run_id,
        workflow=run.workflow,
        status=run.state,
        created=time_of(run.created),
        updated=time_of(run.updated),
        seq=run.seq,
        tags=run.tags,
        tenant=run.lane.tenant or UNSET,
        waiting_on=run.waiting_on or UNSET,
        links=Links(
            itself=path,
            events=f"{path}/events",
            output=f"{path}/output",
            result=f"{path}/result",
            cancel=f"{path}/cancel",
            trace=f"{path}/trace",
            approvals=f"{path}/approvals",
        ),
    )


def run_object(root: str, view: RunView) -> RunObject:
    """Show a run with all that is known of it."""
    state = view.run.state
    return msgspec.structs.replace(
        row_object(root, view.run),
        trace_id=view.trace_id,
        metadata=view.metadata,
        timeout_s=UNSET if view.timeout_s is None else view.timeout_s,
        input=view.input,
        result=view.result if state is RunState.COMPLETED else UNSET,
        error=UNSET if view.error is None else failure(state, view.error),
    )


def run_list(root: str, page: RunPage) -> RunList:
    """Show a page of runs."""
    return RunList(tuple(row_object(root, run) for run in page.runs), page.next_cursor)


def worker_object(info: WorkerInfo) -> WorkerObject:
    """Show a worker."""
    return WorkerObject(
        name=info.name,
        build=info.build,
        started=time_of(info.started),
        beat=time_of(info.beat),
        running=info.running,
        draining=info.draining,
    )


def etag(run: Run) -> str:
    """Name this version of a run: its state may change without a record (a claim, a wake-up)."""
    return f'"{run.seq}-{run.state.value}"'


def reply(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Make a JSON response; bytes are JSON already."""
    data = bytes(body) if isinstance(body, bytes | msgspec.Raw) else msgspec.json.encode(body)
    extra = {"cache-control": "no-store", **SECURITY, **(headers or {})}
    return Response(data, status_code=status, headers=extra, media_type="application/json")
