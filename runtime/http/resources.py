"""The endpoints of runs: create, list, look, follow, read, cancel. Each is a reading or an append of one log.

Laws kept here: 1 (an acknowledged run is written), 2 (a bad cursor is refused, never guessed), 9 (whatever can
be refused is refused before the run is written). Leaving a stream or a wait never cancels a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from ...transports import KeyConflict, Run
from ..cursor import Cursor, cursor_at
from ..errors import UnknownWorkflow, WaitTimedOut
from ..inlets import history
from ..log import Output
from ..records import OutputDelta, OutputReset, RunQueued, decode
from ..runs import Runs, RunView, ends, outcome
from ..trace import TraceFold
from . import views
from .access import access_of
from .ag_ui import AgUi
from .body import read_json
from .formats import Message, Vocabulary
from .negotiation import (
    EVENT_STREAM,
    JSON,
    TEXT,
    Preferences,
    choose,
    cursor,
    idempotency_key,
    number,
    one_of,
    preferences,
    run_filter,
    traceparent,
    unchanged,
)
from .options import ApiOptions
from .problems import SECURITY, Fault, Kind, Refusal
from .sse import Envelope, EventStream, Native
from .streams import Streams
from .ui_message import UiMessage

FORMATS: Mapping[str, Callable[[str], Vocabulary] | None] = {"native": None, "ui-message": UiMessage, "ag-ui": AgUi}
"""What `?format=` takes: the words in which a run's output is told; None: as it is."""

OUTPUT_KINDS = frozenset({OutputDelta.kind, OutputReset.kind})
RETRY_AFTER = {"retry-after": "1"}
YEAR_S = 366 * 86400

Label = Annotated[str, Meta(min_length=1, max_length=100)]


class StartRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What starting a run takes. `input` holds the workflow's arguments by name."""

    input: msgspec.Raw | UnsetType = UNSET
    run_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] | None = None
    metadata: Annotated[dict[Label, Annotated[str, Meta(max_length=1000)]], Meta(max_length=50)] = {}
    tags: Annotated[tuple[Label, ...], Meta(max_length=50)] = ()
    timeout_s: Annotated[float, Meta(gt=0, le=YEAR_S)] | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    tenant: Annotated[str, Meta(max_length=100)] = ""
    delay_s: Annotated[float, Meta(ge=0, le=YEAR_S)] = 0


class ForkRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run is forked: at a step (null: keep all results), with other arguments (left out: the same)."""

    at: Annotated[str, Meta(max_length=200)] | None = None
    input: msgspec.Raw | UnsetType = UNSET


class CancelRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a run is canceled, for whoever reads its log."""

    reason: Annotated[str, Meta(max_length=1000)] = ""


class RunResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions, streams: Streams) -> None:
        self._runs = runs
        self._options = options
        self._streams = streams

    async def create(self, request: Request) -> Response:
        """Start a run, and answer with it as it stands, with its end, or with its events."""
        runs, workflow = self._runs(request), request.path_params["workflow"]
        if workflow not in runs.workflows:
            raise UnknownWorkflow(workflow, runs.workflows)
        streaming = choose(request, (JSON, EVENT_STREAM)) == EVENT_STREAM
        if streaming:
            self._streams.require_room()
        after, key = cursor(request), idempotency_key(request)
        body = await read_json(request, StartRun, self._options)
        _check_tenant(access_of(request).tenant, body)
        run, new = await self._start(runs, workflow, body, key, traceparent(request))
        headers = {} if new else {"idempotent-replayed": "true"}
        path = views.run_path(views.root_of(request), run.run_id)
        if streaming:
            seen = Cursor() if new else after
            return await self._stream(
                request, runs, run, seen, headers={"content-location": f"{path}/events"} | headers
            )
        wish = preferences(request, self._options.max_wait_s)
        view = await self._wait(request, runs, run, wish) or await runs.view(run.run_id)
        headers = headers | {"location": path} | _applied(wish)
        if view.run.state.terminal:
            return views.reply(views.run_object(views.root_of(request), view), 200, headers)
        return views.reply(views.run_object(views.root_of(request), view), 202, headers | RETRY_AFTER)

    async def _start(self, runs: Runs, workflow: str, body: StartRun, key: str | None, trace: str) -> tuple[Run, bool]:
        try:
            return await runs.start(
                workflow,
                b"{}" if body.input is UNSET else bytes(body.input),
                run_id=body.run_id,
                key=key,
                tags=body.tags,
                metadata=body.metadata,
                timeout_s=body.timeout_s,
                traceparent=trace,
                priority=body.priority,
                tenant=body.tenant,
                delay_s=body.delay_s,
            )
        except KeyConflict as error:
            if key is not None and error.key == key:
                raise
            raise Refusal(
                Kind.RUN_EXISTS,
                f"run {body.run_id} exists: leave run_id out, or send an Idempotency-Key to find it again",
            ) from None

    async def _wait(self, request: Request, runs: Runs, run: Run, wish: Preferences) -> RunView | None:
        """Wait for the run's end as long as the client wished; None when it goes on, or nobody should wait."""
        if run.state.terminal or not wish.wait_s or not self._streams.room:
            return None
        view = None
        async with self._streams.open(request.receive):
            try:
                view = await runs.wait(run.run_id, wish.wait_s)
            except WaitTimedOut:
                view = None
        return view

    async def list(self, request: Request) -> Response:
        """List runs, newest first, a page at a time; 304 if the client has this page."""
        limit = number(request, "limit", default=50, low=1, high=1000)
        where = run_filter(request)
        page = await self._runs(request).list(where, cursor=request.query_params.get("cursor"), limit=limit)
        body = msgspec.json.encode(views.run_list(views.root_of(request), page))
        headers = {"etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "cache-control": "no-cache"}
        if unchanged(request, headers["etag"]):
            return Response(status_code=304, headers=headers | SECURITY)
        if page.next_cursor is not None:
            query = request.url.include_query_params(cursor=page.next_cursor).query
            headers["link"] = f'<{views.root_of(request)}/v1/runs?{query}>; rel="next"'
        return views.reply(body, headers=headers)

    async def show(self, request: Request) -> Response:
        """Show a run; 304 if the client has this version."""
        runs, run_id = self._runs(request), request.path_params["run_id"]
        run = await runs.transport.run(run_id)
        if unchanged(request, views.etag(run)):
            return Response(status_code=304, headers={"etag": views.etag(run), **SECURITY})
        view = await runs.view(run_id)
        headers = {"etag": views.etag(view.run), "cache-control": "no-cache"}
        return views.reply(views.run_object(views.root_of(request), view), headers=headers)

    async def result(self, request: Request) -> Response:
        """Give the result itself; 202 while there is none, a problem when there will be none."""
        runs = self._runs(request)
        run = await runs.transport.run(request.path_params["run_id"])
        wish = preferences(request, self._options.max_wait_s)
        view = await self._wait(request, runs, run, wish) or await runs.view(run.run_id)
        if view.run.state.terminal:
            return views.reply(outcome(view), headers=_applied(wish))
        return views.reply(views.run_object(views.root_of(request), view), 202, _applied(wish) | RETRY_AFTER)

    async def events(self, request: Request) -> Response:
        """Follow the log as events, or read a page of it as JSON."""
        runs = self._runs(request)
        run = await runs.transport.run(request.path_params["run_id"])
        after, limit = cursor(request), number(request, "limit", default=100, low=1, high=1000)
        if choose(request, (EVENT_STREAM, JSON)) == EVENT_STREAM:
            return await self._stream(request, runs, run, after)
        after = await runs.checked(run, after)
        batch = await runs.transport.read(run.run_id, after.seq, limit)
        envelope = await _envelope(runs, run.run_id)
        reached = cursor_at(batch[-1], marked=runs.transport.forgets) if batch else after
        complete = ends(batch[-1]) if batch else run.state.terminal
        return views.reply(
            b'{"data":[%b],"next_after":%d,%b"complete":%b}'
            % (
                b",".join(map(envelope.wrap, batch)),
                reached.seq,
                b'"cursor":"%b",' % str(reached).encode() if reached.mark else b"",
                b"true" if complete else b"false",
            )
        )

    async def output(self, request: Request) -> Response:
        """Follow the output as events or as another protocol's, or read the text it amounts to so far."""
        runs = self._runs(request)
        run = await runs.transport.run(request.path_params["run_id"])
        words = FORMATS[one_of(request, "format", list(FORMATS))]
        if words is not None:
            choose(request, (EVENT_STREAM,))
            return await self._tell(runs, run, cursor(request), words(run.run_id))
        wanted = choose(request, (EVENT_STREAM, JSON, TEXT))
        if wanted == EVENT_STREAM:
            return await self._stream(request, runs, run, cursor(request), kinds=OUTPUT_KINDS)
        output = Output()
        async for page in history(runs.transport, run):
            for stored in page:
                if stored.kind in OUTPUT_KINDS:
                    output.apply(decode(stored))
        if wanted == JSON:
            return views.reply(views.OutputText(output.text, run.state.terminal, run.seq))
        headers = {"cache-control": "no-store", **SECURITY}
        return Response(output.text, headers=headers, media_type="text/plain; charset=utf-8")

    async def trace(self, request: Request) -> Response:
        """Fold the log into the run's trace."""
        runs = self._runs(request)
        fold = TraceFold()
        async for page in history(runs.transport, await runs.transport.run(request.path_params["run_id"])):
            for stored in page:
                fold.apply(decode(stored))
        return views.reply(fold.trace)

    async def fork(self, request: Request) -> Response:
        """Start a new run with the results of this one."""
        runs, key = self._runs(request), idempotency_key(request)
        body = await read_json(request, ForkRun, self._options)
        changed = None if body.input is UNSET else bytes(body.input)
        run, new = await runs.fork(request.path_params["run_id"], at=body.at, input=changed, key=key)
        return await self._started(request, runs, run, new=new)

    async def retry(self, request: Request) -> Response:
        """Start a run that failed again, from its last good step, as a new run."""
        runs = self._runs(request)
        run, new = await runs.retry(request.path_params["run_id"], key=idempotency_key(request))
        return await self._started(request, runs, run, new=new)

    async def _started(self, request: Request, runs: Runs, run: Run, *, new: bool) -> Response:
        headers = {"location": views.run_path(views.root_of(request), run.run_id)} | RETRY_AFTER
        if not new:
            headers["idempotent-replayed"] = "true"
        return views.reply(views.run_object(views.root_of(request), await runs.view(run.run_id)), 202, headers)

    async def cancel(self, request: Request) -> Response:
        """Ask the run to stop; asking again changes nothing."""
        runs, run_id = self._runs(request), request.path_params["run_id"]
        body = await read_json(request, CancelRun, self._options)
        await runs.cancel(run_id, body.reason)
        return views.reply(views.run_object(views.root_of(request), await runs.view(run_id)), 202)

    async def _stream(
        self,
        request: Request,
        runs: Runs,
        run: Run,
        after: Cursor,
        *,
        kinds: frozenset[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        after = await runs.checked(run, after)
        if run.state.terminal and after.seq >= run.seq:
            return _nothing_more(headers)
        native = Native(await _envelope(runs, run.run_id), kinds)
        return EventStream(runs, native, after=after, streams=self._streams, headers=headers)

    async def _tell(self, runs: Runs, run: Run, after: Cursor, words: Vocabulary) -> Response:
        """Tell a run's message from its start, whatever the reader has of it; nothing to one that has its end."""
        after = await runs.checked(run, after)
        if run.state.terminal and after.seq >= run.seq:
            return _nothing_more()
        return EventStream(runs, Message(run, words), after=Cursor(), streams=self._streams)


def _check_tenant(own: str, body: StartRun) -> None:
    """Check that a token of a tenant starts its runs, under ids that no other tenant can want."""
    if not own:
        return
    if body.tenant not in ("", own):
        raise _invalid("$.tenant", f"the token is of tenant {own}: leave it out")
    if body.run_id is not None and not body.run_id.startswith(f"{own}."):
        raise _invalid("$.run_id", f"an id that tenant {own} chooses begins with '{own}.': send one, or leave it out")


def _invalid(path: str, detail: str) -> Refusal:
    return Refusal(
        Kind.INVALID_INPUT, f"the body is invalid at {path}: {detail}", errors=(Fault(path=path, detail=detail),)
    )


def _nothing_more(headers: dict[str, str] | None = None) -> Response:
    return Response(status_code=204, headers={"cache-control": "no-store", **SECURITY, **(headers or {})})


async def _envelope(runs: Runs, run_id: str) -> Envelope:
    first = decode((await runs.transport.read(run_id, 0, 1))[0]).record
    assert isinstance(first, RunQueued)
    return Envelope(run_id, first.trace_id, marked=runs.transport.forgets)


def _applied(wish: Preferences) -> dict[str, str]:
    return {} if wish.applied is None else {"preference-applied": wish.applied}
