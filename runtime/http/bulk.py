"""The endpoints that act on all runs that fit a filter: cancel, retry; a batch a request, so that each is bounded.

Why a status has to be named: nobody should stop everything by leaving something out. Both are safe to repeat: a run
that was asked to stop is not asked otherwise by being asked again, and each run is retried once, however often it is
asked for. `dry_run` counts and does nothing.

Laws kept here: 9 (the filter is checked before anything is done), 11 (a batch has a size).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Annotated

import anyio
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from ...transports import Run, RunEnded, RunFilter, RunNotFound, RunState, StoreUnavailable
from ..errors import ForkInvalid, UnknownWorkflow
from ..runs import Runs
from . import views
from .body import read_json
from .negotiation import invalid, run_filter
from .options import ApiOptions

LIVE = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)
FAILED = (RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELED)
AT_ONCE = 16
"""Runs of a batch that are acted on at one time: their appends share commits."""

Batch = Annotated[int, Meta(ge=1, le=1000)]


class RetryRuns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch of runs to start again: `cursor` continues after an earlier one; a `dry_run` only counts them."""

    cursor: str | None = None
    limit: Batch = 100
    dry_run: bool = False


class CancelRuns(RetryRuns, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch of runs to stop, and why, for whoever reads their logs."""

    reason: Annotated[str, Meta(max_length=1000)] = ""


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: runs that fit, those of them that were acted on; `next_cursor` continues, null ends."""

    matched: int
    done: int
    next_cursor: str | None


class BulkResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions) -> None:
        self._runs = runs
        self._options = options

    async def cancel(self, request: Request) -> Response:
        """Ask the runs of a batch to stop."""
        runs, where = self._runs(request), _filter(request, LIVE)
        body = await read_json(request, CancelRuns, self._options)

        async def stop(run: Run) -> bool:
            try:
                await runs.cancel(run.run_id, body.reason)
            except (RunEnded, RunNotFound):
                return False
            return True

        return await _act(runs, where, body, stop)

    async def retry(self, request: Request) -> Response:
        """Start the runs of a batch again, each once."""
        runs, where = self._runs(request), _filter(request, FAILED)
        body = await read_json(request, RetryRuns, self._options)

        async def again(run: Run) -> bool:
            try:
                _, new = await runs.retry(run.run_id, key=f"retry/{run.run_id}")
            except (ForkInvalid, UnknownWorkflow, RunNotFound):
                return False
            return new

        return await _act(runs, where, body, again)


async def _act(runs: Runs, where: RunFilter, body: RetryRuns, act: Callable[[Run], Awaitable[bool]]) -> Response:
    page = await runs.list(where, cursor=body.cursor, limit=body.limit)
    done = 0
    trouble: StoreUnavailable | None = None
    waiting = iter(() if body.dry_run else page.runs)

    async def work() -> None:
        nonlocal done, trouble
        for run in waiting:
            try:
                done += await act(run)
            except StoreUnavailable as error:
                trouble = error
                return

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)
    if trouble is not None:
        raise trouble
    return views.reply(BulkResult(matched=len(page.runs), done=done, next_cursor=page.next_cursor))


def _filter(request: Request, states: Collection[RunState]) -> RunFilter:
    where = run_filter(request)
    if where.state not in states:
        raise invalid("query.status", f"is missing or not one of {', '.join(states)}: say which runs are meant")
    return where
