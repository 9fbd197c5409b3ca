"""What a request asks for beside its body: accepted types, preferences, cursors, conditions, parameters.

Pure: strings in, values out. Law kept here: 9 (what cannot be read is refused by name, never guessed).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request

from ...transports import RunFilter, RunState
from ..cursor import LAST_SEQ, Cursor, read_cursor
from ..trace import valid_traceparent
from .problems import Fault, Kind, Refusal

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
TEXT = "text/plain"

T = TypeVar("T")


class Preferences(msgspec.Struct, frozen=True):
    """What `Prefer` asks for (RFC 7240): to wait, seconds, or not to. `applied` goes back to the client."""

    wait_s: float = 0.0
    applied: str | None = None


def choose(request: Request, offers: Sequence[str]) -> str:
    """Pick the offered media type that `Accept` likes best; the first one where it has no opinion.

    Raises:
        Refusal: 406, none of them is accepted.
    """
    ranges = [_media_range(part) for part in request.headers.get("accept", "").split(",") if part.strip()]
    if not ranges:
        return offers[0]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise Refusal(Kind.NOT_ACCEPTABLE, f"accept one of {', '.join(offers)}")
    return best


def _media_range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media, quality


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """How much `offer` is liked: by the most specific range that names it."""
    for name in (offer, offer.partition("/")[0] + "/*", "*/*"):
        for media, quality in ranges:
            if media == name:
                return quality
    return 0.0


def preferences(request: Request, max_wait_s: float) -> Preferences:
    """Read `Prefer: wait=N` and `Prefer: respond-async`; what is not understood is ignored, as the RFC says."""
    wait: float | None = None
    asynchronous = False
    for part in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = part.partition(";")[0].strip().lower().partition("=")
        value = value.strip().strip('"')
        if name.strip() == "wait" and value.isdecimal() and len(value) < 10:
            wait = min(float(value), max_wait_s)
        elif name.strip() == "respond-async":
            asynchronous = True
    if wait is not None:
        return Preferences(wait, f"wait={wait:g}")
    return Preferences(0.0, "respond-async" if asynchronous else None)


def cursor(request: Request) -> Cursor:
    """Read where a reader goes on: `Last-Event-ID`, else `?after=`, else 0.

    Raises:
        Refusal: 400, it is neither a sequence number nor the id of an event.
    """
    after = _cursor("query.after", request.query_params.get("after", "0"))
    header = request.headers.get("last-event-id", "").strip()
    return _cursor("header.Last-Event-ID", header) if header else after


def _cursor(path: str, value: str) -> Cursor:
    found = read_cursor(value)
    if found is None:
        raise invalid(path, f"is {value[:40]!r}, must be a whole number from 0 to {LAST_SEQ}, or the id of an event")
    return found


def number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """Read a query parameter that is a whole number from `low` to `high`.

    Raises:
        Refusal: 400, it is not.
    """
    value = request.query_params.get(name)
    return default if value is None else _number(f"query.{name}", value, low, high)


def _number(path: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 16 and low <= int(value) <= high):
        raise invalid(path, f"is {value[:40]!r}, must be a whole number from {low} to {high}")
    return int(value)


def invalid(path: str, detail: str) -> Refusal:
    """Make the refusal of a parameter or header."""
    return Refusal(Kind.INVALID_PARAMETER, f"{path} {detail}", errors=(Fault(path=path, detail=detail),))


def one_of(request: Request, name: str, choices: Sequence[str]) -> str:
    """Read a query parameter that is one of some words; the first one where it is not given.

    Raises:
        Refusal: 400, it is another word.
    """
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise invalid(f"query.{name}", f"is {value[:40]!r}, must be one of {', '.join(choices)}")
    return value


def run_filter(request: Request) -> RunFilter:
    """Read which runs to list: `workflow`, `status`, `tenant`, `tag`, `created_after` (RFC 3339).

    Raises:
        Refusal: 400, a value that cannot be.
    """
    query = request.query_params
    state, after = query.get("status"), query.get("created_after")
    return RunFilter(
        workflow=query.get("workflow"),
        state=None if state is None else _status(state),
        tenant=query.get("tenant"),
        tag=query.get("tag"),
        created_after=None if after is None else _time("query.created_after", after),
    )


def _status(value: str) -> RunState:
    try:
        return RunState(value)
    except ValueError:
        raise invalid("query.status", f"is {value[:40]!r}, must be one of {', '.join(RunState)}") from None


def _time(path: str, value: str) -> float:
    try:
        when = msgspec.convert(value, datetime.datetime)
    except msgspec.ValidationError:
        when = None
    if when is None or when.tzinfo is None:
        raise invalid(
            path, f"is {value[:40]!r}, must be a time with its zone like 2026-01-31T12:00:00Z (write '+' as %2B)"
        )
    return when.timestamp()


def idempotency_key(request: Request) -> str | None:
    """Read `Idempotency-Key`.

    Raises:
        Refusal: 400, it is empty, too long, or not printable.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise invalid("header.Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return key


def traceparent(request: Request) -> str:
    """Read the W3C `traceparent`; one that is not valid is ignored, as the standard says."""
    given = request.headers.get("traceparent", "").strip()
    return given if valid_traceparent(given) else ""


def unchanged(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this version."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
