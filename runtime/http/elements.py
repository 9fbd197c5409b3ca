"""What the operations of the OpenAPI document are written with: parameters, answers, refusals, schemas of events.

Why: each is said once, so that two operations that take or answer the same thing say the same of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..cursor import LAST_SEQ
from .negotiation import JSON
from .problems import TYPE, Kind
from .schemas import REF, Json

PROBLEM = "application/problem+json"
EVERYWHERE = (
    Kind.UNAUTHORIZED,
    Kind.MISSING_SCOPE,
    Kind.MISDIRECTED,
    Kind.HEADERS_TOO_LARGE,
    Kind.INTERNAL,
    Kind.NOT_STARTED,
)
MUTATION = (Kind.MALFORMED, Kind.CROSS_SITE, Kind.BODY_TOO_LARGE, Kind.UNSUPPORTED_TYPE, Kind.INVALID_INPUT)
START = (*MUTATION, Kind.INVALID_PARAMETER, Kind.UNKNOWN_WORKFLOW, Kind.RUN_EXISTS, Kind.KEY_REUSED)
READ = (Kind.UNKNOWN_RUN, Kind.PRUNED, Kind.INVALID_PARAMETER)
FOLLOW = (*READ, Kind.CURSOR_AHEAD, Kind.NOT_ACCEPTABLE, Kind.TOO_MANY_STREAMS, Kind.BUSY)


def followed(response: Json) -> Json:
    """Add to a stream's answer the one of a stream that has nothing more."""
    return {"200": response, "204": nothing()}


def get(name: str, summary: str, responses: Json, parameters: Iterable[Json] = (), kinds: Iterable[Kind] = ()) -> Json:
    """Make the operation that reads something of a run."""
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["runs"],
            "parameters": list(parameters),
            "responses": responses | refusals(*READ, *kinds),
        }
    }


def refusals(*kinds: Kind) -> Json:
    """Responses by status; kinds that share one are named together."""
    by_status: dict[str, dict[str, None]] = {}
    for kind in (*kinds, *EVERYWHERE):
        by_status.setdefault(str(kind.status), {})[f"{kind.title} (`{kind.slug}`)."] = None
    told = {PROBLEM: {"schema": ref("Problem")}}
    return {status: {"description": " ".join(titles), "content": told} for status, titles in by_status.items()}


def with_json(description: str, schema: Json) -> Json:
    """Make an answer whose body is JSON."""
    return {"description": description, "content": content(schema)}


def content(schema: Json) -> Json:
    """Make a body that is JSON."""
    return {JSON: {"schema": schema}}


def empty(description: str) -> Json:
    """Make an answer without a body."""
    return {"description": description}


def nothing() -> Json:
    """Make the answer to a reader that has the whole log."""
    return empty("The run has ended and the reader has all of it.")


def ref(name: str) -> Json:
    """Refer to a schema of the document."""
    return {"$ref": REF + name}


def header(name: str, description: str, schema: Json | None = None) -> Json:
    """Make the parameter that is a header, by default any text."""
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def idempotency(description: str) -> Json:
    """Make the parameter `Idempotency-Key`."""
    printable = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}
    return header("Idempotency-Key", description, printable)


def query(name: str, schema: Json) -> Json:
    """Make a parameter of the query."""
    return {"name": name, "in": "query", "schema": schema}


def after() -> Json:
    """Make the cursor in the query."""
    event = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9a-f]{8}$"}
    return query("after", {"anyOf": [SEQ, event], "default": 0})


def limit(default: int) -> Json:
    """Make the size of a page."""
    return query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": default})


def identifier(name: str) -> str:
    """Make a name that code generators take."""
    return "".join(c if c.isalnum() else "_" for c in name)


LINKS: Json = {
    name: {"operationId": name, "parameters": {"run_id": "$response.body#/id"}}
    for name in ("show_run", "get_result", "follow_run", "follow_output", "get_trace", "cancel_run", "fork_run")
}
"""Where a run that was started can be asked about."""

SEQ: Json = {"type": "integer", "minimum": 0, "maximum": LAST_SEQ}
EVENT_ID: Json = {"type": "string", "pattern": "^([0-9]{1,15}(-[0-9a-f]{8})?)?$"}
TOKEN: Json = {
    "type": "http",
    "scheme": "bearer",
    "description": "Scopes: `read` looks and follows; `run` starts, signals, decides, cancels, forks and retries; "
    "`admin` does all of that and what concerns all tenants. A token of a tenant sees and starts its runs alone.",
}
RUN_ID: Json = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
EVENT: Json = {
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
EVENT_PAGE: Json = {
    "type": "object",
    "required": ["data", "next_after", "complete"],
    "properties": {
        "data": {"type": "array", "items": {"$ref": REF + "Event"}},
        "next_after": {"type": "integer"},
        "cursor": {"type": "string", "description": "For `after`, where the store needs more than a number."},
        "complete": {"type": "boolean"},
    },
}
SENT_EVENT: Json = {
    "type": "object",
    "description": "One server-sent event. In native streams `id` is the cursor and `data` an Event.",
    "required": ["data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
PROBLEM_EXAMPLE: Json = {
    "type": TYPE + Kind.INVALID_INPUT.slug,
    "title": Kind.INVALID_INPUT.title,
    "status": 422,
    "detail": "input of newsroom is invalid at $.topic: Expected `str`, got `int`",
    "errors": [{"path": "$.input.topic", "detail": "Expected `str`, got `int`"}],
}
