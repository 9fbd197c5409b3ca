"""Every refusal over a real socket is a problem that says what to do; nothing else ever leaves."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from greenroom.runtime.errors import NotStarted
from greenroom.runtime.http import api
from greenroom.runtime.http.problems import TABLE, TYPE, Kind, answer
from greenroom.runtime.runs import Runs
from greenroom.transports import RunFilter, RunPage

from .conftest import Faulty, served

START = "/v1/workflows/newsroom/runs"
JSON = {"content-type": "application/json"}


def body(**fields: Any) -> dict[str, Any]:
    return {"json": {"input": {"topic": "tea"}} | fields}


REFUSED: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    ("GET", "/nothing", {}, 404, "unknown-address", "/openapi.json"),
    ("GET", "/v1/runs/", {}, 404, "unknown-address", "/openapi.json"),
    ("DELETE", "/v1/runs", {}, 405, "method-not-allowed", "use one of GET, HEAD"),
    ("GET", START, {}, 405, "method-not-allowed", "use one of POST"),
    ("POST", "/v1/workflows/other/runs", body(), 404, "unknown-workflow", "idle, newsroom"),
    ("POST", START, {"content": b'{"input": }', "headers": JSON}, 400, "malformed", "byte 10"),
    ("POST", START, {"content": b"\xff", "headers": JSON}, 400, "malformed", "byte 0"),
    ("POST", START, {"content": b"[" * 70 + b"]" * 70, "headers": JSON}, 422, "invalid-input", "object"),
    ("POST", START, {"content": b'{"input":%b}' % (b"[" * 70 + b"]" * 70), "headers": JSON}, 400, "malformed", "64"),
    ("POST", START, {"content": b'{"input":%b' % (b"[" * 90_000), "headers": JSON}, 400, "malformed", "64"),
    ("POST", START, {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported-type", "curl"),
    ("POST", START, {"data": {"topic": "tea"}}, 415, "unsupported-type", "application/json"),
    ("POST", START, {"json": {"input": {"topic": "x" * 2**20}}}, 413, "body-too-large", "1,048,576"),
    ("POST", START, {"json": {"input": {"topic": 3}}}, 422, "invalid-input", "Expected `str`, got `int`"),
    ("POST", START, {"json": {}}, 422, "invalid-input", "topic"),
    ("POST", START, body(timeout_s=0), 422, "invalid-input", "timeout_s"),
    ("POST", START, body(run_id="../x"), 422, "invalid-input", "run_id"),
    ("POST", START, body(tags=[""]), 422, "invalid-input", "tags"),
    ("POST", START, body(prompt="x"), 422, "invalid-input", "prompt"),
    ("POST", START, body() | {"headers": {"idempotency-key": "x" * 256}}, 400, "invalid-parameter", "255"),
    ("POST", START, body() | {"headers": {"idempotency-key": ""}}, 400, "invalid-parameter", "Idempotency-Key"),
    ("POST", START, body() | {"headers": {"accept": "text/html"}}, 406, "not-acceptable", "text/event-stream"),
    ("GET", "/v1/runs?limit=0", {}, 400, "invalid-parameter", "1 to 1000"),
    ("GET", "/v1/runs?limit=many", {}, 400, "invalid-parameter", "query.limit"),
    ("GET", "/v1/runs?status=done", {}, 400, "invalid-parameter", "completed"),
    ("GET", "/v1/runs?created_after=2026-01-01T00:00:00", {}, 400, "invalid-parameter", "zone"),
    ("GET", "/v1/runs?cursor=nonsense", {}, 400, "invalid-parameter", "cursor"),
    ("POST", "/v1/runs/none/cancel", {}, 404, "unknown-run", "none"),
    *(("GET", f"/v1/runs/none{part}", {}, 404, "unknown-run", "none") for part in ("", "/result", "/events", "/trace")),
]


@pytest.mark.parametrize(("method", "path", "request_", "status", "slug", "hint"), REFUSED)
async def test_a_refusal_is_a_problem_that_says_what_to_do(
    house: Any, method: str, path: str, request_: dict[str, Any], status: int, slug: str, hint: str
) -> None:
    """And nothing was written."""
    response = await house.client.request(method, path, **request_)
    problem = response.json()
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["type"], problem["status"]) == (TYPE + slug, status)
    assert problem["title"]
    assert hint in problem["detail"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert ("allow" in response.headers) == (status == 405)
    assert (await house.client.get("/v1/runs")).json()["data"] == []


async def test_invalid_input_names_every_place_by_its_path_in_the_body(house: Any) -> None:
    response = await house.client.post(START, json={"input": {"topic": 3}})
    assert response.json()["errors"] == [{"path": "$.input.topic", "detail": "Expected `str`, got `int`"}]
    response = await house.client.post(START, json={"input": {"topic": "tea"}, "metadata": {"a": 1}})
    assert response.json()["errors"][0]["path"].startswith("$.metadata")
    response = await house.client.get("/v1/runs?limit=x")
    assert response.json()["errors"][0]["path"] == "query.limit"


async def test_a_body_without_a_length_is_refused_too(house: Any) -> None:
    """And the connection can be used again."""

    async def large() -> Any:
        for _ in range(32):
            yield b" " * 65536

    response = await house.client.post(START, content=large(), headers=JSON)
    assert (response.status_code, response.json()["type"]) == (413, TYPE + "body-too-large")
    assert (await house.client.get("/livez")).status_code == 200


async def test_a_store_that_cannot_be_reached_is_503(house: Any) -> None:
    """With the store's own sentence, and a time to come back."""
    house.runs.transport = Faulty(house.store)
    house.runs.transport.gone = True
    for path in ("/v1/runs", "/v1/runs/x", "/readyz"):
        response = await house.client.get(path)
        assert (response.status_code, response.json()["type"]) == (503, TYPE + "store-unavailable")
        assert response.json()["detail"] == "the disk is full: free some space"
        assert response.headers["retry-after"]


class Broken(Runs):
    """Runs with a defect."""

    async def list(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        raise RuntimeError("password=hunter2")


async def test_what_was_not_expected_leaves_with_an_id_and_nothing_else(house: Any) -> None:
    """The traceback is in the log under the id; request headers are not."""
    headers = {"authorization": "Bearer canary-of-a-token"}
    async with served(api(Broken(house.store, {}))) as url, httpx2.AsyncClient() as client:
        with capture_logs() as logs:
            response = await client.get(f"{url}/v1/runs", headers=headers)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (500, TYPE + "internal")
    assert "hunter2" not in response.text
    assert re.fullmatch(r"urn:greenroom:error:[0-9a-f]{16}", problem["instance"])
    (entry,) = logs
    assert (entry["event"], entry["instance"]) == ("request_failed", problem["instance"])
    assert "RuntimeError" in entry["traceback"]
    assert "canary-of-a-token" not in str(entry)


def test_every_kind_is_distinct_and_in_the_4xx_or_5xx() -> None:
    assert len({kind.slug for kind in Kind}) == len(Kind)
    assert all(400 <= kind.status < 600 for kind in Kind)
    assert set(TABLE.values()) <= set(Kind)


def test_a_refusal_that_may_pass_names_a_time_to_come_back() -> None:
    assert answer(NotStarted("open it")).headers["retry-after"] == "2"
    assert "retry-after" not in answer(HTTPException(404)).headers
