"""Errors as clients see them: every one is an RFC 9457 problem, and every problem says what to do next.

Why: one table maps exceptions to statuses, so no route decides for itself, and nothing that was not meant for
clients (a traceback, a secret in a message of some library) can leave: what the table does not know becomes a
500 with an id, and the id is in the log beside the traceback.

Laws kept here: 9 (bad input gets a clear error at the edge), 10 (secrets never reach error messages).
"""

from __future__ import annotations

import enum
import secrets
import traceback
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...transports import InvalidCursor, KeyConflict, RunEnded, RunNotFound, RunPruned, RunState, StoreUnavailable
from ..errors import (
    CursorAhead,
    DecisionConflict,
    ForkInvalid,
    InputInvalid,
    LogCutBack,
    NotStarted,
    PayloadInvalid,
    RunCanceled,
    RunFailed,
    RunTimedOut,
    UnknownInlet,
    UnknownWorkflow,
)
from ..records import Failure

log = structlog.get_logger("greenroom.http")

TYPE = "urn:greenroom:problem:"
"""What every problem's `type` begins with."""

SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""Headers of every response: nothing of ours is to be sniffed, framed or executed by a browser."""


class Kind(enum.Enum):
    """Every kind of problem: status, the end of its `type`, title."""

    MALFORMED = 400, "malformed", "The request cannot be read"
    INVALID_PARAMETER = 400, "invalid-parameter", "A parameter or header is not valid"
    UNAUTHORIZED = 401, "unauthorized", "A valid token is required"
    MISSING_SCOPE = 403, "missing-scope", "The token may not do this"
    CROSS_SITE = 403, "cross-site", "Requests from other sites may not change anything"
    UNKNOWN_ADDRESS = 404, "unknown-address", "There is nothing at this address"
    UNKNOWN_WORKFLOW = 404, "unknown-workflow", "No workflow has this name"
    UNKNOWN_RUN = 404, "unknown-run", "No run has this id"
    UNKNOWN_INLET = 404, "unknown-inlet", "No signal or approval has this name"
    METHOD_NOT_ALLOWED = 405, "method-not-allowed", "This address does not take this method"
    NOT_ACCEPTABLE = 406, "not-acceptable", "None of the accepted types can be given here"
    RUN_ENDED = 409, "run-ended", "The run has ended"
    RUN_EXISTS = 409, "run-exists", "A run with this id exists"
    NO_FORK = 409, "no-fork", "The run cannot be forked or retried so"
    DECIDED = 409, "decided", "The approval was decided otherwise"
    CURSOR_AHEAD = 409, "cursor-ahead", "The cursor is ahead of the log"
    RUN_CANCELED = 409, "run-canceled", "The run was canceled"
    PRUNED = 410, "pruned", "The run's log was removed"
    LOG_CUT_BACK = 410, "log-cut-back", "The store lost records that were read"
    BODY_TOO_LARGE = 413, "body-too-large", "The body is too large"
    UNSUPPORTED_TYPE = 415, "unsupported-type", "The body's type is not supported"
    MISDIRECTED = 421, "misdirected", "The host asked for is not served here"
    INVALID_INPUT = 422, "invalid-input", "The input does not fit"
    KEY_REUSED = 422, "key-reused", "The idempotency key belongs to another payload"
    RUN_FAILED = 424, "run-failed", "The run failed"
    RUN_TIMED_OUT = 424, "run-timed-out", "The run's deadline passed"
    TOO_MANY_STREAMS = 429, "too-many-streams", "The client has too many streams open"
    HEADERS_TOO_LARGE = 431, "headers-too-large", "The request has too many headers"
    INTERNAL = 500, "internal", "Something went wrong here"
    NOT_STARTED = 503, "not-started", "The runtime is not open"
    STORE_UNAVAILABLE = 503, "store-unavailable", "The store cannot be reached"
    DRAINING = 503, "draining", "The server is shutting down"
    BUSY = 503, "busy", "Too many streams are open"

    def __init__(self, status: int, slug: str, title: str) -> None:
        self.status = status
        self.slug = slug
        self.title = title


TABLE: Mapping[type[Exception], Kind] = {
    UnknownWorkflow: Kind.UNKNOWN_WORKFLOW,
    InputInvalid: Kind.INVALID_INPUT,
    PayloadInvalid: Kind.INVALID_INPUT,
    UnknownInlet: Kind.UNKNOWN_INLET,
    DecisionConflict: Kind.DECIDED,
    ForkInvalid: Kind.NO_FORK,
    RunPruned: Kind.PRUNED,
    RunNotFound: Kind.UNKNOWN_RUN,
    RunEnded: Kind.RUN_ENDED,
    RunFailed: Kind.RUN_FAILED,
    RunCanceled: Kind.RUN_CANCELED,
    RunTimedOut: Kind.RUN_TIMED_OUT,
    CursorAhead: Kind.CURSOR_AHEAD,
    LogCutBack: Kind.LOG_CUT_BACK,
    InvalidCursor: Kind.INVALID_PARAMETER,
    KeyConflict: Kind.KEY_REUSED,
    NotStarted: Kind.NOT_STARTED,
    StoreUnavailable: Kind.STORE_UNAVAILABLE,
}
"""What each expected exception is to a client."""

_STATUSES = {
    400: Kind.MALFORMED,
    404: Kind.UNKNOWN_ADDRESS,
    405: Kind.METHOD_NOT_ALLOWED,
}


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (`$.input.topic`, `query.limit`, `header.Idempotency-Key`), and what."""

    path: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem object; `instance` names this occurrence in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[Fault, ...] = ()


class Refusal(Exception):
    """A refusal of the HTTP layer itself: raise it anywhere in a request to answer with a problem."""

    def __init__(
        self, kind: Kind, detail: str, *, errors: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def problem(kind: Kind, detail: str, *, instance: str | None = None, errors: tuple[Fault, ...] = ()) -> Problem:
    """Make a problem of a kind."""
    return Problem(
        type=TYPE + kind.slug, title=kind.title, status=kind.status, detail=detail, instance=instance, errors=errors
    )


def failure(state: RunState, error: Failure) -> Problem:
    """Say why a run has no result, as a problem object inside the run."""
    kind = {RunState.CANCELED: Kind.RUN_CANCELED, RunState.TIMED_OUT: Kind.RUN_TIMED_OUT}.get(state, Kind.RUN_FAILED)
    return problem(kind, f"{error.type}: {error.message}" if kind is Kind.RUN_FAILED else error.message)


def answer(error: Exception) -> Response:
    """Make the response to an exception, expected or not."""
    match error:
        case Refusal():
            return _respond(problem(error.kind, str(error), errors=error.errors), error.headers)
        case HTTPException():
            return _of_status(error)
        case InputInvalid():
            fault = Fault(path="$.input" + error.path.removeprefix("$"), detail=error.detail)
            return _respond(problem(Kind.INVALID_INPUT, str(error), errors=(fault,)))
    if expected := problem_of(error):
        return _respond(expected)
    instance = f"urn:greenroom:error:{secrets.token_hex(8)}"
    log.error("request_failed", instance=instance, traceback=plain(error))
    detail = f"the request failed for a reason that is in the server's log under {instance}"
    return _respond(problem(Kind.INTERNAL, detail, instance=instance))


def problem_of(error: Exception) -> Problem | None:
    """Say what an expected exception is to a client; None of any other."""
    kinds = (TABLE.get(cls) for cls in type(error).__mro__)
    return next((problem(kind, str(error)) for kind in kinds if kind is not None), None)


def plain(error: Exception) -> str:
    """Format a traceback for the log, without local variables: a request's headers are among them."""
    return "".join(traceback.format_exception(error))


def _of_status(error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    kind = _STATUSES.get(error.status_code, Kind.INTERNAL)
    details = {
        Kind.UNKNOWN_ADDRESS: "nothing is served at this path: see /openapi.json for what there is",
        Kind.METHOD_NOT_ALLOWED: f"use one of {headers.get('Allow')}",
    }
    return _respond(problem(kind, details.get(kind, str(error.detail))), headers)


def _respond(what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    extra = dict(headers or {})
    if what.status == 503:
        extra.setdefault("Retry-After", "2")
    return Response(
        msgspec.json.encode(what),
        status_code=what.status,
        headers={"content-type": "application/problem+json", "cache-control": "no-store", **SECURITY, **extra},
    )


LASTING = "greenroom.lasting"
"""Where a response that lasts leaves itself in the ASGI scope."""


class Shield:
    """ASGI middleware, the outermost: whatever is raised beneath it becomes a problem.

    A response that lasts is begun here, when the way that led to it has been left: of ten thousand streams each would
    keep a dozen frames of routing, and go through them for every event.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer with a problem. A response never raises once it has begun: see `sse.EventStream`."""
        try:
            await self.app(scope, receive, send)
            if (lasting := scope.pop(LASTING, None)) is not None:
                await lasting(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception as error:
            if scope["type"] != "http":
                raise
            await answer(error)(scope, receive, send)
