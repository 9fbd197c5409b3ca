"""GenSX's routes over greenroom's runs, so that its client can point here: an optional face, under `/gensx`.

Why: a front end that follows workflows should not be written again because the workflows have moved. A run is an
execution, a step a component, a `status` an event whose label is its message; what a run emits is `output`.

A message's id is its record's seq, or `seq.n` where a record is told in several: whoever comes back with the last id it
has (`Last-Event-Id`) gets the rest, once each. Output that is taken back is told by an event `output-reset`, which has
the text that counts; their own words know of no such thing, and `.../output` always has the text that counts.

Laws kept here: 1 (only what was written is acknowledged), 2 (every message once, in order, the last one is `end`).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...transports import Run, RunFilter, RunNotFound, RunState, Stored
from ..cursor import Cursor
from ..definitions import Workflow
from ..errors import CursorAhead, UnknownWorkflow
from ..inlets import history
from ..log import Output
from ..records import (
    ApprovalRequested,
    Event,
    OutputDelta,
    OutputReset,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunQueued,
    RunTimedOut,
    Status,
    StepCompleted,
    StepFailed,
    StepStarted,
    decode,
)
from ..runs import Runs, RunView, ends
from . import views
from .access import Need, needing
from .body import read_json
from .formats import reason_of
from .negotiation import EVENT_STREAM, JSON, choose, idempotency_key, invalid, traceparent
from .openapi import alone
from .options import ApiOptions
from .problems import SECURITY, Kind, Problem, Refusal
from .sse import EventStream
from .streams import Streams

PREFIX = "/gensx"
CLOUD = "/org/{org}"
PROJECT = "/projects/{project}/environments/{environment}"
"""What their client puts before a path unless its address is on localhost; the names mean nothing here."""

NDJSON = "application/x-ndjson"
LATEST = 100
"""How many executions are listed."""

STATES = {RunState.QUEUED: "queued", RunState.COMPLETED: "completed"}
"""Their words for a run's state; `running` for the other live ones, `failed` for the other ends."""

_CURSOR = re.compile(r"(\d{1,15})(?:\.(\d{1,4}))?")

Message = dict[str, Any]


def routes(runs: Callable[[Request], Runs], options: ApiOptions, streams: Streams) -> list[Route]:
    """Make the routes, each with and without what their client puts before it; they stand in no OpenAPI document."""
    gensx = GensxResource(runs, options, streams)
    workflows: tuple[tuple[str, str, Any, Need], ...] = (
        ("GET", "/workflows", gensx.workflows, Need.READ),
        ("GET", "/workflows/{workflow}", gensx.workflow, Need.READ),
        ("POST", "/workflows/{workflow}", gensx.run, Need.RUN),
        ("POST", "/workflows/{workflow}/start", gensx.start, Need.RUN),
        ("GET", "/workflows/{workflow}/executions", gensx.executions, Need.READ),
        ("GET", "/workflows/{workflow}/executions/{run_id}", gensx.execution, Need.READ),
    )
    executions: tuple[tuple[str, str, Any, Need], ...] = (
        ("GET", "/workflowExecutions/{run_id}/progress", gensx.progress, Need.READ),
        ("GET", "/workflowExecutions/{run_id}/output", gensx.output, Need.READ),
    )
    return [
        Route(f"{PREFIX}{before}{path}", needing(need, endpoint), methods=[method], include_in_schema=False)
        for table, befores in ((workflows, ("", CLOUD + PROJECT)), (executions, ("", CLOUD)))
        for before in befores
        for method, path, endpoint, need in table
    ]


class GensxResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions, streams: Streams) -> None:
        self._runs = runs
        self._options = options
        self._streams = streams

    async def workflows(self, request: Request) -> Response:
        """List the workflows."""
        root = views.root_of(request)
        return views.reply({"workflows": [_workflow(root, one) for one in self._runs(request).workflows.values()]})

    async def workflow(self, request: Request) -> Response:
        """Show a workflow."""
        return views.reply(_workflow(views.root_of(request), _named(self._runs(request), request)))

    async def start(self, request: Request) -> Response:
        """Start an execution, and do not wait for it."""
        run = await self._start(self._runs(request), request)
        return views.reply(
            {"executionId": run.run_id, "executionStatus": _state(run)}, 202, {"x-execution-id": run.run_id}
        )

    async def run(self, request: Request) -> Response:
        """Start an execution; answer with its end, or with its messages as they come."""
        runs, told = self._runs(request), choose(request, (JSON, EVENT_STREAM, NDJSON))
        self._streams.require_room()
        run = await self._start(runs, request)
        if told != JSON:
            return self._follow(runs, run, told, (0, 0))
        view = None
        async with self._streams.open(request.receive):
            view = await runs.wait(run.run_id)
        if view is None:
            raise Refusal(
                Kind.DRAINING, f"the server is shutting down; execution {run.run_id} goes on: ask for its progress"
            )
        shown = _execution(view)
        failed = view.run.state is not RunState.COMPLETED
        answer = {"executionId": run.run_id, "executionStatus": shown["executionStatus"]}
        answer |= {"error": shown["logs"]["stderr"]} if failed else {"output": shown["output"]}
        return views.reply(answer, 422 if failed else 200, {"x-execution-id": run.run_id})

    async def executions(self, request: Request) -> Response:
        """List a workflow's newest executions."""
        runs = self._runs(request)
        page = await runs.list(RunFilter(workflow=_named(runs, request).name), limit=LATEST)
        return views.reply({"executions": [_row(run) for run in page.runs]})

    async def execution(self, request: Request) -> Response:
        """Show an execution."""
        runs, run_id = self._runs(request), request.path_params["run_id"]
        view = await runs.view(run_id)
        if view.run.workflow != _named(runs, request).name:
            raise RunNotFound(run_id)
        return views.reply(_execution(view))

    async def progress(self, request: Request) -> Response:
        """Tell an execution's messages from behind the one that `Last-Event-Id` names, to its end."""
        runs = self._runs(request)
        run = await runs.transport.run(request.path_params["run_id"])
        after = _cursor(request)
        if after[0] > run.seq:
            raise CursorAhead(run.run_id, after[0], run.seq)
        told = choose(request, (NDJSON, EVENT_STREAM))
        if run.state.terminal and after[0] == run.seq:
            return Response(status_code=204, headers={"cache-control": "no-store", **SECURITY})
        return self._follow(runs, run, told, after)

    async def output(self, request: Request) -> Response:
        """Give the output: the text that counts, or the result of a run that emits none."""
        runs = self._runs(request)
        view = await runs.view(request.path_params["run_id"])
        output = Output()
        async for page in history(runs.transport, view.run):
            for stored in page:
                if stored.kind in (OutputDelta.kind, OutputReset.kind):
                    output.apply(decode(stored))
        return views.reply({"output": output.text or _text(view.result)})

    async def _start(self, runs: Runs, request: Request) -> Run:
        workflow = _named(runs, request)
        arguments = await read_json(request, msgspec.Raw, self._options)
        run, _ = await runs.start(
            workflow.name, bytes(arguments), key=idempotency_key(request), traceparent=traceparent(request)
        )
        return run

    def _follow(self, runs: Runs, run: Run, told: str, after: tuple[int, int]) -> Response:
        progress = Progress(run, after, lines=told == NDJSON)
        return EventStream(
            runs, progress, after=Cursor(), streams=self._streams, headers={"x-execution-id": run.run_id}
        )


class Progress:
    """The `sse.Format` of an execution's messages.

    Args:
        run: whose.
        after: the last record that the reader has, and how many messages it has of the next one.
        lines: a line of JSON for each message instead of an event.
    """

    def __init__(self, run: Run, after: tuple[int, int], *, lines: bool) -> None:
        self.run_id = run.run_id
        self.headers: Mapping[str, str] = {"content-type": NDJSON} if lines else {}
        self.ping = b"\n" if lines else b": ping\n\n"
        self._after = after
        self._lines = lines
        self._names: dict[str, str] = {}
        self._output = Output()
        self._emitted = False

    def begin(self) -> bytes:
        """Say nothing: the first message is `start`."""
        return b""

    def tell(self, batch: Sequence[Stored]) -> Iterator[bytes]:
        """Tell what is behind the cursor; what is before it is folded."""
        seen, part = self._after
        for stored in batch:
            messages = list(self._messages(decode(stored)))
            for number, message in enumerate(messages, 1):
                if stored.seq > seen + 1 or (stored.seq == seen + 1 and number > part):
                    id_ = f"{stored.seq}" if number == len(messages) else f"{stored.seq - 1}.{number}"
                    yield self._frame(id_, message | {"id": id_, "timestamp": _time(stored.ts)})
            if ends(stored):
                return

    def interrupt(self, *, draining: bool, problem: Problem | None) -> bytes:
        """Tell that the stream ends and the execution does not."""
        reason = "the server is shutting down" if draining else "the store cannot be read"
        goes_on = f"{reason}: the execution goes on, ask for its progress"
        return self._frame("", {"type": "error", "error": problem.detail if problem is not None else goes_on})

    def _frame(self, id_: str, message: Message) -> bytes:
        data = msgspec.json.encode(message)
        if self._lines:
            return data + b"\n"
        return b"id: %b\ndata: %b\n\n" % (id_.encode(), data) if id_ else b"data: %b\n\n" % data

    def _messages(self, event: Event) -> Iterable[Message]:
        match event.record:
            case RunQueued() as queued:
                yield {"type": "start", "workflowName": queued.workflow, "workflowExecutionId": self.run_id}
            case StepStarted() as step if not step.waits_for and step.step not in self._names:
                self._names[step.step] = step.name
                yield {"type": "component-start", "componentName": step.name, "componentId": step.step}
            case (StepCompleted() | StepFailed()) as step if step.step in self._names:
                name = self._names[step.step]
                yield {"type": "component-end", "componentName": name, "componentId": step.step}
            case Status() as status:
                yield {"type": "event", "label": status.message, "data": status.data}
            case ApprovalRequested() as asked:
                yield {"type": "event", "label": "approval", "data": asked}
            case OutputDelta() as delta:
                self._output.apply(event)
                if delta.text:
                    self._emitted = True
                    yield {"type": "output", "content": delta.text}
            case OutputReset():
                before = self._output.text
                self._output.apply(event)
                if self._output.text != before:
                    yield {"type": "event", "label": "output-reset", "data": {"text": self._output.text}}
            case RunCompleted() as completed:
                if not self._emitted:
                    yield {"type": "output", "content": _text(completed.result)}
                yield {"type": "end"}
            case (RunFailed() | RunCanceled() | RunTimedOut()) as how:
                error = {"type": "error", "error": reason_of(how)}
                yield error | {"executionId": self.run_id, "executionStatus": "failed"}
                yield {"type": "end"}


def _named(runs: Runs, request: Request) -> Workflow[Any, Any]:
    name = request.path_params["workflow"]
    if name not in runs.workflows:
        raise UnknownWorkflow(name, runs.workflows)
    return runs.workflows[name]


def _cursor(request: Request) -> tuple[int, int]:
    given = request.query_params.get("lastEventId") or request.headers.get("last-event-id", "").strip()
    match = _CURSOR.fullmatch(given) if given else None
    if given and match is None:
        raise invalid("header.Last-Event-Id", f"is {given[:40]!r}, must be the id of a message")
    return (0, 0) if match is None else (int(match[1]), int(match[2] or 0))


def _workflow(root: str, workflow: Workflow[Any, Any]) -> Message:
    return {
        "id": workflow.name,
        "name": workflow.name,
        "inputSchema": alone(workflow.signature.input),
        "outputSchema": alone(workflow.signature.result),
        "url": f"{root}{PREFIX}/workflows/{workflow.name}",
    }


def _row(run: Run) -> Message:
    ended = {"finishedAt": _time(run.updated)} if run.state.terminal else {}
    return {"id": run.run_id, "executionStatus": _state(run), "createdAt": _time(run.created), **ended}


def _execution(view: RunView) -> Message:
    shown = _row(view.run)
    if view.run.state is RunState.COMPLETED:
        shown["output"] = view.result
    elif view.error is not None:
        shown["logs"] = {"stderr": f"{view.error.type}: {view.error.message}"}
    return shown


def _state(run: Run) -> str:
    return STATES.get(run.state, "failed" if run.state.terminal else "running")


def _text(result: msgspec.Raw) -> str:
    """A result as their output has it: a string as it is, anything else as JSON."""
    value = msgspec.json.decode(result)
    return value if isinstance(value, str) else bytes(result).decode()


def _time(seconds: float) -> str:
    return views.time_of(seconds).astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
