"""A request's body: bounded before it is read, checked before it is parsed.

Law kept here: 9 (bad input gets a clear error at the edge) and 11 (a body has a size and a depth).
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from ..payload import explained
from .options import ApiOptions
from .problems import Fault, Kind, Refusal

T = TypeVar("T")

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_AT = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<path>\$[^`]*)`)?$", re.DOTALL)


async def read_json(request: Request, type_: type[T], options: ApiOptions) -> T:
    """Read a body as `type_`; no body reads as `{}`.

    Raises:
        Refusal: 413 too large, 415 not JSON by its type, 400 no JSON or too deep, 422 another shape.
    """
    data = await _read(request, options.max_body_bytes)
    if not data:
        data = b"{}"
    elif not _is_json(request.headers.get("content-type", "")):
        raise Refusal(
            Kind.UNSUPPORTED_TYPE, "send JSON with the header 'Content-Type: application/json' (curl --json does)"
        )
    try:
        value = msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        assert match is not None
        path = match["path"] or "$"
        fault = Fault(path=path, detail=explained(match["detail"], path, type_))
        raise Refusal(
            Kind.INVALID_INPUT, f"the body is invalid at {fault.path}: {fault.detail}", errors=(fault,)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Kind.MALFORMED, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep(options.max_depth) from None
    if deeper_than(data, options.max_depth):
        raise _too_deep(options.max_depth)
    return value


def deeper_than(data: bytes, depth: int) -> bool:
    """Whether valid JSON is nested deeper than `depth`. Each pass takes the innermost brackets away."""
    if data.count(b"[") + data.count(b"{") <= depth:
        return False
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = _innermost(brackets)
    return bool(brackets)


def _innermost(brackets: bytes) -> bytes:
    return brackets.replace(b"[]", b"  ").replace(b"{}", b"  ").translate(None, b" ")


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _too_large(limit: int) -> Refusal:
    return Refusal(
        Kind.BODY_TOO_LARGE,
        f"a body may have {limit:,} bytes: store the data elsewhere and send a reference",
    )


def _too_deep(depth: int) -> Refusal:
    return Refusal(Kind.MALFORMED, f"the body's JSON is nested deeper than {depth} levels: flatten it")
