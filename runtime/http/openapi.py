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
from ..definitions import Workflow
from ..inlets import ApprovalView
from ..trace import Trace
from . import views
from .access import NEEDS, Need
from .bulk import FAILED, LIVE, BulkResult, CancelRuns, RetryRuns
from .chat import CHAT, ChatTurn
from .elements import (
    EVENT,
    EVENT_ID,
    EVENT_PAGE,
    FOLLOW,
    LINKS,
    MUTATION,
    PROBLEM_EXAMPLE,
    RUN_ID,
    SENT_EVENT,
    START,
    TOKEN,
    after,
    content,
    empty,
    followed,
    get,
    header,
    idempotency,
    identifier,
    limit,
    nothing,
    query,
    ref,
    refusals,
    with_json,
)
from .fleet import PROVIDERS_EXAMPLE, TREE_EXAMPLE, ProviderList, TreeList
from .inlets import ApprovalList, Decide, SendSignal
from .negotiation import EVENT_STREAM, JSON, TEXT
from .problems import Kind, Problem
from .resources import FORMATS, CancelRun, ForkRun, StartRun
from .schemas import Json, Schemas, documented, example_of

Workflows = Mapping[str, Workflow[Any, Any]]


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
    components = schemas.components | {"Event": EVENT, "EventPage": EVENT_PAGE, "SentEvent": SENT_EVENT}
    components["Problem"] = {**components["Problem"], "examples": [PROBLEM_EXAMPLE]}
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
        whole["components"]["securitySchemes"] = {"token": TOKEN}
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
    return {"allOf": [ref("RunObject"), {"type": "object", "properties": typed}]}


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
    run = ref(f"{workflow.name}.run")
    accepted = with_json("The run was accepted and goes on.", run)
    accepted["headers"] = {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}}
    done = with_json("The run has ended, or its events follow.", run)
    done["content"][EVENT_STREAM] = {"schema": ref("SentEvent")}
    accepted["links"] = done["links"] = LINKS
    more, _ = documented(workflow)
    return {
        "operationId": f"start_{identifier(workflow.name)}",
        "summary": workflow.summary or f"Start a run of {workflow.name}.",
        **({"description": more} if more else {}),
        "tags": ["workflows"],
        "parameters": [
            idempotency("The same key and payload give the same run for ever."),
            header("Prefer", "`wait=N`: answer when the run has ended, N seconds at the latest."),
            header("traceparent", "A W3C trace to continue."),
        ],
        "requestBody": {"content": {JSON: {"schema": ref(f"{workflow.name}.start")}}},
        "responses": {"200": done, "202": accepted, "204": nothing()} | refusals(*START, *FOLLOW),
    }


def _run_paths() -> Json:
    run = ref("RunObject")
    etag = header("If-None-Match", "The ETag of the version that is known.")
    prefer = header("Prefer", "`wait=N`: wait for the end, N seconds at the latest.")
    resume = [header("Last-Event-ID", "The last event that is known; wins over `after`.", EVENT_ID), after()]
    where = [
        query("workflow", {"type": "string"}),
        query("status", {"type": "string", "enum": list(RunState)}),
        query("tenant", {"type": "string"}),
        query("tag", {"type": "string"}),
        query("created_after", {"type": "string", "format": "date-time"}),
        query("cursor", {"type": "string", "minLength": 1}),
        limit(50),
    ]
    stream = {EVENT_STREAM: {"schema": ref("SentEvent")}}
    text = {TEXT: {"schema": {"type": "string"}}}
    events = {"description": "Events from the cursor on.", "content": stream | content(ref("EventPage"))}
    output = {"description": "The output from the cursor on.", "content": stream | content(ref("OutputText")) | text}
    told = query("format", {"type": "string", "enum": list(FORMATS), "default": "native"})
    shown = {"200": with_json("The run.", run), "304": empty("The version that is known.")}
    result = {"200": with_json("The result.", {}), "202": with_json("The run goes on.", run)}
    ended = (Kind.RUN_FAILED, Kind.RUN_CANCELED, Kind.RUN_TIMED_OUT)
    paths = {
        "": get("show_run", "A run as it stands.", shown, [etag]),
        "/result": get("get_result", "A run's result.", result, [prefer], ended),
        "/events": get("follow_run", "A run's log.", followed(events), [*resume, limit(100)], FOLLOW),
        "/output": get("follow_output", "A run's output.", followed(output), [*resume, told], FOLLOW),
        "/trace": get("get_trace", "A run's trace.", {"200": with_json("The trace.", ref("Trace"))}),
        "/cancel": {
            "post": {
                "operationId": "cancel_run",
                "summary": "Ask a run to stop.",
                "tags": ["runs"],
                "requestBody": {"content": content(ref("CancelRun"))},
                "responses": {"202": with_json("It will stop.", run)}
                | refusals(*MUTATION, Kind.UNKNOWN_RUN, Kind.RUN_ENDED),
            }
        },
    }
    paths |= _inlet_paths(run) | _fork_paths(run)
    page = {"200": with_json("A page.", ref("RunList")), "304": shown["304"]}
    listing = get("list_runs", "Runs, newest first.", page, [*where, etag])
    one = {f"/v1/runs/{{run_id}}{part}": {"parameters": [RUN_ID]} | item for part, item in paths.items()}
    bulk = {
        "/v1/runs/cancel": _bulk("cancel_runs", "Ask the runs of a batch to stop.", "CancelRuns", LIVE, where),
        "/v1/runs/retry": _bulk(
            "retry_runs", "Start the runs of a batch again, each once.", "RetryRuns", FAILED, where
        ),
    }
    return {"/v1/runs": listing} | bulk | one


def _bulk(name: str, summary: str, body: str, states: Iterable[RunState], where: Iterable[Json]) -> Json:
    status = {**query("status", {"type": "string", "enum": list(states)}), "required": True}
    kept = [one for one in where if one["name"] not in ("status", "cursor", "limit")]
    operation: Json = {"operationId": name, "summary": summary, "tags": ["runs"], "parameters": [status, *kept]}
    operation["requestBody"] = {"content": content(ref(body))}
    responses = {"200": with_json("What became of them.", ref("BulkResult"))}
    return {"post": {**operation, "responses": responses | refusals(*MUTATION, Kind.INVALID_PARAMETER)}}


def _chat_paths(workflows: Workflows) -> Json:
    """The AI SDK's transport; written once, for a chat with any workflow that takes what a chat sends."""
    chats = [one.name for one in workflows.values() if not CHAT.isdisjoint(one.signature.input.__struct_fields__)]
    name: Json = {"type": "string", **({"enum": chats} if chats else {})}
    workflow = {"name": "workflow", "in": "path", "required": True, "schema": name}
    chat = {"name": "chat_id", "in": "path", "required": True, "schema": {"type": "string"}}
    stream = {"description": "A UI message stream.", "content": {EVENT_STREAM: {"schema": ref("SentEvent")}}}

    def item(method: str, name: str, summary: str, responses: Json, *kinds: Kind, **more: Any) -> Json:
        operation = {"operationId": name, "summary": summary, "tags": ["chat"], **more}
        return {method: {**operation, "responses": responses | refusals(Kind.UNKNOWN_WORKFLOW, *kinds)}}

    key = idempotency("The same key and message give the same run for ever.")
    body: Json = {"parameters": [key], "requestBody": {"required": True, "content": content(ref("ChatTurn"))}}
    answer = item(
        "post", "chat", "Answer a message.", {"200": stream}, *START, Kind.TOO_MANY_STREAMS, Kind.BUSY, **body
    )
    resume = item(
        "get",
        "resume_chat",
        "Tell the answer that is given, from its start.",
        followed(stream),
        Kind.TOO_MANY_STREAMS,
        Kind.BUSY,
    )
    stopped = {"202": with_json("It will stop.", ref("RunObject")), "204": empty("Nothing answers.")}
    stop = item("post", "stop_chat", "Cancel what answers in a chat.", stopped, Kind.CROSS_SITE)
    return {
        "/v1/chat/{workflow}": {"parameters": [workflow], **answer},
        "/v1/chat/{workflow}/{chat_id}/stream": {"parameters": [workflow, chat], **resume},
        "/v1/chat/{workflow}/{chat_id}/stop": {"parameters": [workflow, chat], **stop},
    }


def _fork_paths(run: Json) -> Json:
    key = idempotency("The same key and request give the same run for ever.")
    kinds = (Kind.UNKNOWN_RUN, Kind.PRUNED, Kind.UNKNOWN_WORKFLOW, Kind.NO_FORK, Kind.KEY_REUSED)

    def post(name: str, summary: str) -> Json:
        item: Json = {"operationId": name, "summary": summary, "tags": ["runs"], "parameters": [key]}
        item["responses"] = {"202": with_json("The new run.", run)} | refusals(
            *MUTATION, Kind.INVALID_PARAMETER, *kinds
        )
        return {"post": item}

    fork = post("fork_run", "Start a new run with the results of this one.")
    fork["post"]["requestBody"] = {"content": content(ref("ForkRun"))}
    return {"/fork": fork, "/retry": post("retry_run", "Start a run that failed again, from its last good step.")}


def _inlet_paths(run: Json) -> Json:
    def post(name: str, summary: str, body: str, responses: Json, *kinds: Kind) -> Json:
        return {
            "post": {
                "operationId": name,
                "summary": summary,
                "tags": ["runs"],
                "requestBody": {"content": content(ref(body))},
                "responses": responses
                | refusals(*MUTATION, Kind.UNKNOWN_RUN, Kind.UNKNOWN_INLET, Kind.RUN_ENDED, *kinds),
            }
        }

    def named(name: str, item: Json) -> Json:
        place = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        return {"parameters": [RUN_ID, place], **item}

    approval = ref("ApprovalView")
    decided = {"200": with_json("It was decided so before.", approval), "202": with_json("It is decided.", approval)}
    send = post("send_signal", "Send a signal to a run.", "SendSignal", {"202": with_json("It will be taken.", run)})
    send["post"]["parameters"] = [idempotency("Of several with one key the first counts.")]
    decide = post("decide", "Decide on an approval.", "Decide", decided, Kind.DECIDED)
    listed = {"200": with_json("In the order of the questions.", ref("ApprovalList"))}
    asked = {"run_id": "$request.path.run_id", "approval": "$response.body#/data/0/approval"}
    listed["200"]["links"] = {"decide": {"operationId": "decide", "parameters": asked}}
    return {
        "/signals/{name}": named("name", send),
        "/approvals": get("list_approvals", "What a run has asked for.", listed),
        "/approvals/{approval}": named("approval", decide),
    }


def _system_paths() -> Json:
    def plain(name: str, summary: str, schema: Json, *kinds: Kind) -> Json:
        responses = {"200": with_json(summary, schema)} | refusals(*kinds)
        return {"get": {"operationId": name, "summary": summary, "tags": ["system"], "responses": responses}}

    anything: Json = {"type": "object"}
    health = {"type": "object", "properties": {"status": {"const": "ok"}}}
    metrics = {"200": {"description": "In Prometheus' format.", "content": {TEXT: {"schema": {"type": "string"}}}}}
    return {
        "/v1/workflows": plain("list_workflows", "The workflows that can be started here.", anything),
        "/v1/token": plain("show_token", "What the request's token may do.", ref("TokenObject")),
        "/v1/system/workers": plain("list_workers", "The workers that beat lately.", ref("WorkerList")),
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
                "responses": metrics | refusals(Kind.STORE_UNAVAILABLE),
            }
        },
        "/openapi.json": plain("openapi", "This document.", anything),
    }


def _looked(name: str, summary: str, example: TreeList | ProviderList) -> Json:
    """An answer that changes with the workers' heartbeats; it is empty until a worker has noticed that it is wanted."""
    shown = {"200": with_json(summary, ref(type(example).__name__)), "304": empty("It has not changed.")}
    shown["200"]["content"][JSON]["example"] = msgspec.to_builtins(example)
    parameters = [header("If-None-Match", "The ETag of what is known.")]
    if isinstance(example, TreeList):
        parameters.append(query("worker", {"type": "string", "description": "The name of one worker."}))
    operation = {"operationId": name, "summary": summary, "tags": ["system"], "parameters": parameters}
    return {"get": {**operation, "responses": shown | refusals(Kind.STORE_UNAVAILABLE)}}
