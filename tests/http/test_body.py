"""The depth of JSON, against the plain way to count it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from greenroom.runtime.http import ApiOptions
from greenroom.runtime.http.body import deeper_than, read_json
from greenroom.runtime.http.problems import Refusal
from greenroom.runtime.http.resources import CancelRun

VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\x', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"', max_size=3), inner, max_size=3),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(1, 6))
def test_depth_counts_brackets_outside_of_strings(value: Any, limit: int) -> None:
    assert deeper_than(json.dumps(value).encode(), limit) == (depth(value) > limit)


def test_a_megabyte_of_brackets_is_measured_at_once() -> None:
    """No input makes the check slow: it is a fixed number of passes over the bytes."""
    assert deeper_than(b"[" * 500_000 + b"]" * 500_000, 64)
    assert not deeper_than(b"[" + b"[]," * 300_000 + b"[]]", 2)
    assert not deeper_than(b'["' + b'\\"[' * 300_000 + b'"]', 1)


async def test_reading_stops_at_the_limit() -> None:
    """However much is sent, no more than the limit and one chunk is held."""
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Refusal, match="1,000 bytes"):
        await read_json(request, dict, ApiOptions(max_body_bytes=1000))
    assert received == 11


async def test_an_unknown_field_is_told_beside_those_that_there_are() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"why": "late"}'}

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(Refusal, match=r"invalid at \$: Object contains unknown field `why`: it takes reason$"):
        await read_json(request, CancelRun, ApiOptions())
