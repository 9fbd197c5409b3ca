"""The API described as OpenAPI 3.1, generated from the workflows' own types.

Why: a client generated from this is typed per workflow, so starting a run has one path for each of them. Nothing
here is written twice: schemas come from the structs that are sent, problems from the table that answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from ...transports import RunState
from ..cursor import LAST_SEQ
from ..definitions import Workflow
from ..inlets import ApprovalView
from ..trace import Trace
from . import views
from .access import NEEDS, Need
from .bulk import FAILED, LIVE, BulkResult, CancelRuns, RetryRuns
from .chat import CHAT, ChatTurn
from .fleet import PROVIDERS_EXAMPLE, TREE_EXAMPLE, ProviderList, TreeList
from .inlets import ApprovalList, Decide, SendSignal
from .negotiation import EVENT_STREAM, JSON, TEXT
from .problems import TYPE, Kind, Problem
from .resources import FORMATS, CancelRun, ForkRun, StartRun
from .schemas import REF, Json, Schemas, documented, example_of

Workflows = Mapping[str, Workflow[Any, Any]]

PROBLEM = "application/problem+json"
_EVERYWHERE = (
    Kind.UNAUTHORIZED,
    Kind.MISSING_SCOPE,
    Kind.MISDIRECTED,
    Kind.HEADERS_TOO_LARGE,
    Kind.INTERNAL,
    Kind.NOT_STARTED,
)
_MUTATION = (Kind.MALFORMED, Kind.CROSS_SITE, Kind.BODY_TOO_LARGE, Kind.UNSUPPORTED_TYPE, Kind.INVALID_INPUT)
_START = (*_MUTATION, Kind.INVALID_PARAMETER, Kind.UNKNOWN_WORKFLOW, Kind.RUN_EXISTS, Kind.KEY_REUSED)
_READ = (Kind.UNKNOWN_RUN, Kind.PRUNED, Kind.INVALID_PARAMETER)
_FOLLOW = (*_READ, Kind.CURSOR_AHEAD, Kind.NOT_ACCEPTABLE, Kind.BUSY)


def describe(root: str, workflow: Workflow[Any, Any]) -> Json:
    """Describe a workflow for the list of workflows, with schemas that stand alone."""
    argument = alone(workflow.signature.input)
    _tell(workflow, argument.get("$defs", {}))
    return {
        "name": workflow.name,
        "summary": workflow.summary,
        "timeout_s": workflow.timeout_s,
        "input": argument,
        "result": alone(workflow.signature.result),
        "example": example_of(workflow, Schemas([workflow.signature.input])),
        "approvals": {name: alone(inlet.type) for name, inlet in workflow.approvals.items()},
        "links": {"start": f"{root}/v1/workflows/{workflow.name}/runs"},
    }


def alone(type_: Any) -> Json:
    """Give the schema of a type, with what it refers to in `$defs`."""
    schemas = Schemas([type_], root="#/$defs/")
    return schemas[type_] | ({"$defs": schemas.components} if schemas.components else {})


def _tell(workflow: Workflow[Any, Any], components: Json) -> None:
    """Add to an input's schema what the docstring says of the arguments."""
    _, told = documented(workflow)
    properties = components.get(f"{workflow.name}.input", {}).get("properties", {})
    for name in told.keys() & properties.keys():
        properties[name] = {"description": told[name]} | properties[name]


def document(root: str, workflows: Workflows, *, secured: bool = False) -> Json:
    """Make the OpenAPI document; `root` is where the app is mounted, `secured` whether it wants a token."""
    told = [
        views.RunObject,
        views.RunList,
        views.OutputText,
        views.WorkerList,
        views.TokenObject,
        ApprovalView,
        ApprovalList,
    ]
    told += [TreeList, ProviderList]
    own = [*told, Trace, Problem, StartRun, CancelRun, ForkRun, SendSignal, Decide, ChatTurn]
    own += [CancelRuns, RetryRuns, BulkResult]
    schemas = Schemas([*own, *(part for w in workflows.values() for part in (w.signature.input, w.signature.result))])
    components = schemas.components | {"Event": _EVENT, "EventPage": _EVENT_PAGE, "SentEvent": _SENT_EVENT}
    components["Problem"] = {**components["Problem"], "examples": [_PROBLEM_EXAMPLE]}
    paths: Json = {}
    for workflow in workflows.values():
        _tell(workflow, components)
        components[f"{workflow.name}.run"] = _typed_run(workflow, schemas)
        components[f"{workflow.name}.start"] = _typed_start(workflow, schemas)
        paths[f"/v1/workflows/{workflow.name}/runs"] = {"post": _start(workflow)}
    paths |= _run_paths() | _chat_paths(workflows) | _system_paths()
    whole: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "greenroom",
            "version": version("greenroom"),
            "summary": "Start runs of workflows, follow them live, read them back.",
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }
    if secured:
        whole["components"]["securitySchemes"] = {"token": _TOKEN}
        whole["security"] = [{"token": []}]
        _secure(paths, workflows)
    return whole


def _secure(paths: Json, workflows: Workflows) -> None:
    """Say of each operation which scope it needs."""
    starts = {f"/v1/workflows/{name}/runs": "/v1/workflows/{workflow}/runs" for name in workflows}
    for path, item in paths.items():
        for method in ("get", "post"):
            if method not in item:
                continue
            need = NEEDS[f"{method.upper()} {starts.get(path, path)}"]
            if need is Need.NOTHING:
                item[method]["security"] = []
            elif need.scope is not None:
                item[method]["security"] = [{"token": [need.scope]}]


def _typed_run(workflow: Workflow[Any, Any], schemas: Schemas) -> Json:
    signature = workflow.signature
    typed = {
        "workflow": {"const": workflow.name},
        "input": schemas[signature.input],
        "result": schemas[signature.result],
    }
    return {"allOf": [_ref("RunObject"), {"type": "object", "properties": typed}]}


def _typed_start(workflow: Workflow[Any, Any], schemas: Schemas) -> Json:
    start: Json = schemas.components["StartRun"]
    argument = schemas.resolve(schemas[workflow.signature.input])
    shown = example_of(workflow, schemas)
    typed = {
        **start,
        "title": f"{workflow.name}.start",
        "properties": {**start["properties"], "input": schemas[workflow.signature.input]},
    }
    if shown is not None:
        typed["examples"] = [{"input": shown}]
    return typed | ({"required": ["input"]} if argument.get("required") else {})


def _start(workflow: Workflow[Any, Any]) -> Json:
    run = _ref(f"{workflow.name}.run")
    accepted = _json("The run was accepted and goes on.", run)
    accepted["headers"] = {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}}
    done = _json("The run has ended, or its events follow.", run)
    done["content"][EVENT_STREAM] = {"schema": _ref("SentEvent")}
    accepted["links"] = done["links"] = _LINKS
    more, _ = documented(workflow)
    return {
        "operationId": f"start_{_identifier(workflow.name)}",
        "summary": workflow.summary or f"Start a run of {workflow.name}.",
        **({"description": more} if more else {}),
        "tags": ["workflows"],
        "parameters": [
            _key("The same key and payload give the same run for ever."),
            _header("Prefer", "`wait=N`: answer when the run has ended, N seconds at the latest."),
            _header("traceparent", "A W3C trace to continue."),
        ],
        "requestBody": {"content": {JSON: {"schema": _ref(f"{workflow.name}.start")}}},
        "responses": {"200": done, "202": accepted, "204": _nothing()} | _problems(*_START, *_FOLLOW),
    }


def _run_paths() -> Json:
    run = _ref("RunObject")
    etag = _header("If-None-Match", "The ETag of the version that is known.")
    prefer = _header("Prefer", "`wait=N`: wait for the end, N seconds at the latest.")
    resume = [_header("Last-Event-ID", "The last event that is known; wins over `after`.", _EVENT_ID), _after()]
    where = [
        _query("workflow", {"type": "string"}),
        _query("status", {"type": "string", "enum": list(RunState)}),
        _query("tenant", {"type": "string"}),
        _query("tag", {"type": "string"}),
        _query("created_after", {"type": "string", "format": "date-time"}),
        _query("cursor", {"type": "string", "minLength": 1}),
        _limit(50),
    ]
    stream = {EVENT_STREAM: {"schema": _ref("SentEvent")}}
    text = {TEXT: {"schema": {"type": "string"}}}
    events = {"description": "Events from the cursor on.", "content": stream | _content(_ref("EventPage"))}
    output = {"description": "The output from the cursor on.", "content": stream | _content(_ref("OutputText")) | text}
    told = _query("format", {"type": "string", "enum": list(FORMATS), "default": "native"})
    shown = {"200": _json("The run.", run), "304": _empty("The version that is known.")}
    result = {"200": _json("The result.", {}), "202": _json("The run goes on.", run)}
    ended = (Kind.RUN_FAILED, Kind.RUN_CANCELED, Kind.RUN_TIMED_OUT)
    paths = {
        "": _get("show_run", "A run as it stands.", shown, [etag]),
        "/result": _get("get_result", "A run's result.", result, [prefer], ended),
        "/events": _get("follow_run", "A run's log.", _followed(events), [*resume, _limit(100)], _FOLLOW),
        "/output": _get("follow_output", "A run's output.", _followed(output), [*resume, told], _FOLLOW),
        "/trace": _get("get_trace", "A run's trace.", {"200": _json("The trace.", _ref("Trace"))}),
        "/cancel": {
            "post": {
                "operationId": "cancel_run",
                "summary": "Ask a run to stop.",
                "tags": ["runs"],
                "requestBody": {"content": _content(_ref("CancelRun"))},
                "responses": {"202": _json("It will stop.", run)}
                | _problems(*_MUTATION, Kind.UNKNOWN_RUN, Kind.RUN_ENDED),
            }
        },
    }
    paths |= _inlet_paths(run) | _fork_paths(run)
    page = {"200": _json("A page.", _ref("RunList")), "304": shown["304"]}
    listing = _get("list_runs", "Runs, newest first.", page, [*where, etag])
    one = {f"/v1/runs/{{run_id}}{part}": {"parameters": [_RUN_ID]} | item for part, item in paths.items()}
    bulk = {
        "/v1/runs/cancel": _bulk("cancel_runs", "Ask the runs of a batch to stop.", "CancelRuns", LIVE, where),
        "/v1/runs/retry": _bulk(
            "retry_runs", "Start the runs of a batch again, each once.", "RetryRuns", FAILED, where
        ),
    }
    return {"/v1/runs": listing} | bulk | one


def _bulk(name: str, summary: str, body: str, states: Iterable[RunState], where: Iterable[Json]) -> Json:
    status = {**_query("status", {"type": "string", "enum": list(states)}), "required": True}
    kept = [one for one in where if one["name"] not in ("status", "cursor", "limit")]
    operation: Json = {"operationId": name, "summary": summary, "tags": ["runs"], "parameters": [status, *kept]}
    operation["requestBody"] = {"content": _content(_ref(body))}
    responses = {"200": _json("What became of them.", _ref("BulkResult"))}
    return {"post": {**operation, "responses": responses | _problems(*_MUTATION, Kind.INVALID_PARAMETER)}}


def _chat_paths(workflows: Workflows) -> Json:
    """The AI SDK's transport; written once, for a chat with any workflow that takes what a chat sends."""
    chats = [one.name for one in workflows.values() if not CHAT.isdisjoint(one.signature.input.__struct_fields__)]
    name: Json = {"type": "string", **({"enum": chats} if chats else {})}
    workflow = {"name": "workflow", "in": "path", "required": True, "schema": name}
    chat = {"name": "chat_id", "in": "path", "required": True, "schema": {"type": "string"}}
    stream = {"description": "A UI message stream.", "content": {EVENT_STREAM: {"schema": _ref("SentEvent")}}}

    def item(method: str, name: str, summary: str, responses: Json, *kinds: Kind, **more: Any) -> Json:
        operation = {"operationId": name, "summary": summary, "tags": ["chat"], **more}
        return {method: {**operation, "responses": responses | _problems(Kind.UNKNOWN_WORKFLOW, *kinds)}}

    key = _key("The same key and message give the same run for ever.")
    body: Json = {"parameters": [key], "requestBody": {"required": True, "content": _content(_ref("ChatTurn"))}}
    answer = item("post", "chat", "Answer a message.", {"200": stream}, *_START, Kind.BUSY, **body)
    resume = item("get", "resume_chat", "Tell the answer that is given, from its start.", _followed(stream), Kind.BUSY)
    stopped = {"202": _json("It will stop.", _ref("RunObject")), "204": _empty("Nothing answers.")}
    stop = item("post", "stop_chat", "Cancel what answers in a chat.", stopped, Kind.CROSS_SITE)
    return {
        "/v1/chat/{workflow}": {"parameters": [workflow], **answer},
        "/v1/chat/{workflow}/{chat_id}/stream": {"parameters": [workflow, chat], **resume},
        "/v1/chat/{workflow}/{chat_id}/stop": {"parameters": [workflow, chat], **stop},
    }


def _fork_paths(run: Json) -> Json:
    key = _key("The same key and request give the same run for ever.")
    kinds = (Kind.UNKNOWN_RUN, Kind.PRUNED, Kind.UNKNOWN_WORKFLOW, Kind.NO_FORK, Kind.KEY_REUSED)

    def post(name: str, summary: str) -> Json:
        item: Json = {"operationId": name, "summary": summary, "tags": ["runs"], "parameters": [key]}
        item["responses"] = {"202": _json("The new run.", run)} | _problems(*_MUTATION, Kind.INVALID_PARAMETER, *kinds)
        return {"post": item}

    fork = post("fork_run", "Start a new run with the results of this one.")
    fork["post"]["requestBody"] = {"content": _content(_ref("ForkRun"))}
    return {"/fork": fork, "/retry": post("retry_run", "Start a run that failed again, from its last good step.")}


def _inlet_paths(run: Json) -> Json:
    def post(name: str, summary: str, body: str, responses: Json, *kinds: Kind) -> Json:
        return {
            "post": {
                "operationId": name,
                "summary": summary,
                "tags": ["runs"],
                "requestBody": {"content": _content(_ref(body))},
                "responses": responses
                | _problems(*_MUTATION, Kind.UNKNOWN_RUN, Kind.UNKNOWN_INLET, Kind.RUN_ENDED, *kinds),
            }
        }

    def named(name: str, item: Json) -> Json:
        place = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        return {"parameters": [_RUN_ID, place], **item}

    approval = _ref("ApprovalView")
    decided = {"200": _json("It was decided so before.", approval), "202": _json("It is decided.", approval)}
    send = post("send_signal", "Send a signal to a run.", "SendSignal", {"202": _json("It will be taken.", run)})
    send["post"]["parameters"] = [_key("Of several with one key the first counts.")]
    decide = post("decide", "Decide on an approval.", "Decide", decided, Kind.DECIDED)
    listed = {"200": _json("In the order of the questions.", _ref("ApprovalList"))}
    asked = {"run_id": "$request.path.run_id", "approval": "$response.body#/data/0/approval"}
    listed["200"]["links"] = {"decide": {"operationId": "decide", "parameters": asked}}
    return {
        "/signals/{name}": named("name", send),
        "/approvals": _get("list_approvals", "What a run has asked for.", listed),
        "/approvals/{approval}": named("approval", decide),
    }


def _followed(response: Json) -> Json:
    return {"200": response, "204": _nothing()}


def _system_paths() -> Json:
    def plain(name: str, summary: str, schema: Json, *kinds: Kind) -> Json:
        responses = {"200": _json(summary, schema)} | _problems(*kinds)
        return {"get": {"operationId": name, "summary": summary, "tags": ["system"], "responses": responses}}

    anything: Json = {"type": "object"}
    health = {"type": "object", "properties": {"status": {"const": "ok"}}}
    metrics = {"200": {"description": "In Prometheus' format.", "content": {TEXT: {"schema": {"type": "string"}}}}}
    return {
        "/v1/workflows": plain("list_workflows", "The workflows that can be started here.", anything),
        "/v1/token": plain("show_token", "What the request's token may do.", _ref("TokenObject")),
        "/v1/system/workers": plain("list_workers", "The workers that beat lately.", _ref("WorkerList")),
        "/v1/system/tree": _looked("show_tree", "The workers' supervision trees.", TREE_EXAMPLE),
        "/v1/system/providers": _looked(
            "show_providers", "How the deployments fare over the workers.", PROVIDERS_EXAMPLE
        ),
        "/livez": plain("live", "Whether the process answers.", health),
        "/readyz": plain("ready", "Whether to send requests here.", health, Kind.DRAINING, Kind.STORE_UNAVAILABLE),
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "What is counted and measured.",
                "tags": ["system"],
                "responses": metrics | _problems(Kind.STORE_UNAVAILABLE),
            }
        },
        "/openapi.json": plain("openapi", "This document.", anything),
    }


def _looked(name: str, summary: str, example: TreeList | ProviderList) -> Json:
    """An answer that changes with the workers' heartbeats; it is empty until a worker has noticed that it is wanted."""
    shown = {"200": _json(summary, _ref(type(example).__name__)), "304": _empty("It has not changed.")}
    shown["200"]["content"][JSON]["example"] = msgspec.to_builtins(example)
    parameters = [_header("If-None-Match", "The ETag of what is known.")]
    if isinstance(example, TreeList):
        parameters.append(_query("worker", {"type": "string", "description": "The name of one worker."}))
    operation = {"operationId": name, "summary": summary, "tags": ["system"], "parameters": parameters}
    return {"get": {**operation, "responses": shown | _problems(Kind.STORE_UNAVAILABLE)}}


def _get(name: str, summary: str, responses: Json, parameters: Iterable[Json] = (), kinds: Iterable[Kind] = ()) -> Json:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["runs"],
            "parameters": list(parameters),
            "responses": responses | _problems(*_READ, *kinds),
        }
    }


def _problems(*kinds: Kind) -> Json:
    """Responses by status; kinds that share one are named together."""
    by_status: dict[str, dict[str, None]] = {}
    for kind in (*kinds, *_EVERYWHERE):
        by_status.setdefault(str(kind.status), {})[f"{kind.title} (`{kind.slug}`)."] = None
    content = {PROBLEM: {"schema": _ref("Problem")}}
    return {status: {"description": " ".join(titles), "content": content} for status, titles in by_status.items()}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": _content(schema)}


def _content(schema: Json) -> Json:
    return {JSON: {"schema": schema}}


def _empty(description: str) -> Json:
    return {"description": description}


def _nothing() -> Json:
    return _empty("The run has ended and the reader has all of it.")


def _ref(name: str) -> Json:
    return {"$ref": REF + name}


def _header(name: str, description: str, schema: Json | None = None) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def _key(description: str) -> Json:
    printable = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}
    return _header("Idempotency-Key", description, printable)


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _after() -> Json:
    event = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9a-f]{8}$"}
    return _query("after", {"anyOf": [_SEQ, event], "default": 0})


def _limit(default: int) -> Json:
    return _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": default})


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


_LINKS: Json = {
    name: {"operationId": name, "parameters": {"run_id": "$response.body#/id"}}
    for name in ("show_run", "get_result", "follow_run", "follow_output", "get_trace", "cancel_run", "fork_run")
}
"""Where a run that was started can be asked about."""

_SEQ: Json = {"type": "integer", "minimum": 0, "maximum": LAST_SEQ}
_EVENT_ID: Json = {"type": "string", "pattern": "^([0-9]{1,15}(-[0-9a-f]{8})?)?$"}
_TOKEN: Json = {
    "type": "http",
    "scheme": "bearer",
    "description": "Scopes: `read` looks and follows; `run` starts, signals, decides, cancels, forks and retries; "
    "`admin` does all of that and what concerns all tenants. A token of a tenant sees and starts its runs alone.",
}
_RUN_ID: Json = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
_EVENT: Json = {
    "type": "object",
    "required": ["v", "run_id", "trace_id", "seq", "ts", "type", "data"],
    "properties": {
        "v": {"const": 1},
        "run_id": {"type": "string"},
        "trace_id": {"type": "string"},
        "seq": {"type": "integer", "minimum": 1},
        "ts": {"type": "number", "description": "Seconds since the epoch."},
        "type": {"type": "string", "examples": ["step.completed"]},
        "data": {"type": "object"},
    },
}
_EVENT_PAGE: Json = {
    "type": "object",
    "required": ["data", "next_after", "complete"],
    "properties": {
        "data": {"type": "array", "items": {"$ref": REF + "Event"}},
        "next_after": {"type": "integer"},
        "cursor": {"type": "string", "description": "For `after`, where the store needs more than a number."},
        "complete": {"type": "boolean"},
    },
}
_SENT_EVENT: Json = {
    "type": "object",
    "description": "One server-sent event. In native streams `id` is the cursor and `data` an Event.",
    "required": ["data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_PROBLEM_EXAMPLE: Json = {
    "type": TYPE + Kind.INVALID_INPUT.slug,
    "title": Kind.INVALID_INPUT.title,
    "status": 422,
    "detail": "input of newsroom is invalid at $.topic: Expected `str`, got `int`",
    "errors": [{"path": "$.input.topic", "detail": "Expected `str`, got `int`"}],
}
