"""Whose request it is, and what it may do: every operation of the API, with every kind of token, over a real socket.

`EXPECTED` is written by hand: an operation that is not in it fails, so that nothing is opened by nobody's decision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from greenroom import workflow
from greenroom.runtime.http import ApiOptions, Token
from greenroom.runtime.http.access import NEEDS
from greenroom.runtime.http.openapi import document
from greenroom.runtime.records import ApprovalRequested, Failure
from greenroom.runtime.runs import Runs
from greenroom.transports import RunNotFound, of_tenant, open_transport

from .conftest import House, idle, newsroom, open_house

TOKENS = {
    "read": Token(name="read", scopes=["read"], token="read-read-read-read"),
    "run": Token(name="run", scopes=["run"], token="run-run-run-run-run"),
    "admin": Token(name="admin", scopes=["admin"], token="admin-admin-admin"),
    "acme": Token(name="acme", scopes=["read", "run"], tenant="acme", token="acme-acme-acme-acme"),
    "other": Token(name="other", scopes=["read", "run"], tenant="other", token="other-other-other"),
}
SENT = {
    "none": {},
    "read": {"authorization": "Bearer read-read-read-read"},
    "run": {"authorization": "Bearer run-run-run-run-run"},
    "admin": {"authorization": "Bearer admin-admin-admin"},
    "acme": {"authorization": "Bearer acme-acme-acme-acme"},
    "other": {"authorization": "Bearer other-other-other"},
}
WHO = ("none", "read", "run", "admin", "acme", "other")

LOOK, ACT, ALL = (401, 200, 403, 200, 200, 404), (401, 403, 202, 202, 202, 404), (401, 403, 403, 200, 403, 403)
ANY, OPEN = (401, 200, 200, 200, 200, 200), (200, 200, 200, 200, 200, 200)

EXPECTED: dict[str, tuple[int, ...]] = {
    # what is asked about is a run of acme's: none, read, run, admin, acme, other
    "POST /v1/workflows/newsroom/runs": (401, 403, 202, 202, 202, 202),
    "POST /v1/workflows/idle/runs": (401, 403, 202, 202, 202, 202),
    "GET /v1/runs": (401, 200, 403, 200, 200, 200),
    "POST /v1/runs/cancel": (401, 403, 200, 200, 200, 200),
    "POST /v1/runs/retry": (401, 403, 200, 200, 200, 200),
    "GET /v1/runs/{run_id}": LOOK,
    "GET /v1/runs/{run_id}/result": LOOK,
    "GET /v1/runs/{run_id}/events": LOOK,
    "GET /v1/runs/{run_id}/output": LOOK,
    "GET /v1/runs/{run_id}/trace": LOOK,
    "GET /v1/runs/{run_id}/approvals": LOOK,
    "POST /v1/runs/{run_id}/cancel": ACT,
    "POST /v1/runs/{run_id}/fork": ACT,
    "POST /v1/runs/{run_id}/retry": ACT,
    "POST /v1/runs/{run_id}/signals/{name}": ACT,
    "POST /v1/runs/{run_id}/approvals/{approval}": ACT,
    "POST /v1/chat/{workflow}": (401, 403, 200, 200, 200, 200),
    "GET /v1/chat/{workflow}/{chat_id}/stream": (401, 200, 403, 200, 200, 204),
    "POST /v1/chat/{workflow}/{chat_id}/stop": (401, 403, 202, 202, 202, 204),
    "GET /v1/workflows": (401, 200, 403, 200, 200, 200),
    "GET /v1/token": ANY,
    "GET /v1/system/workers": ALL,
    "GET /v1/system/tree": ALL,
    "GET /v1/system/providers": ALL,
    "GET /metrics": (401, 200, 403, 200, 403, 403),
    "GET /openapi.json": ANY,
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
}
"""The status of every operation by who asks."""

BODIES: dict[str, Any] = {
    "POST /v1/workflows/newsroom/runs": {"input": {"topic": "tea"}},
    "POST /v1/runs/{run_id}/signals/{name}": {"data": "short"},
    "POST /v1/runs/{run_id}/approvals/{approval}": {"decision": {"approved": True}},
    "POST /v1/chat/{workflow}": {"id": "c", "messages": [{"role": "user", "parts": []}], "input": {"topic": "tea"}},
}


@workflow
async def talk(prompt: str, topic: str = "") -> str:
    """Answer."""
    return prompt


@pytest.fixture
async def guarded() -> AsyncIterator[House]:
    async with open_house(ApiOptions(tokens=tuple(TOKENS.values())), workflows=(newsroom, idle, talk)) as house:
        yield house


async def run_of_acme(house: House, operation: str) -> str:
    """A run in the state that the operation is about."""
    run, _ = await house.runs.start("newsroom", b'{"topic":"tea"}', tenant="acme")
    await house.hand.claim(run.run_id)
    if operation.endswith("approvals/{approval}"):
        asked = ApprovalRequested(approval="p-1", name="publish", question="?", data=msgspec.Raw(b"null"))
        await house.hand.append(run.run_id, asked)
    elif operation.endswith("/retry"):
        await house.hand.fail(run.run_id, Failure(type="ValueError", message="no tea"))
    elif operation.startswith("GET"):
        await house.hand.complete(run.run_id)
    return run.run_id


def operations(house: House) -> set[str]:
    paths = document("", house.runs.workflows)["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}


async def test_every_operation_is_decided_on(guarded: House) -> None:
    """A new route needs a line in `NEEDS`, or it cannot be made, and one here."""
    found = operations(guarded) - {"POST /v1/workflows/talk/runs"}
    assert found == EXPECTED.keys()
    assert len(NEEDS) == len(EXPECTED) - 1


@pytest.mark.parametrize("operation", sorted(EXPECTED))
async def test_every_operation_answers_each_token_as_was_decided(guarded: House, operation: str) -> None:
    method, path = operation.split(" ")
    answered = []
    for who in WHO:
        run_id = await run_of_acme(guarded, operation)
        if "/chat/" in path and not path.endswith("{workflow}"):
            await guarded.runs.start("talk", b'{"prompt":"hi"}', tenant="acme", tags=("chat:c",))
        query = {"/v1/runs/cancel": "?status=running", "/v1/runs/retry": "?status=failed"}.get(path, "")
        place = (
            path + query
            if query
            else path.format(run_id=run_id, name="words", approval="p-1", workflow="talk", chat_id="c")
        )
        body = BODIES.get(operation, {}) if method == "POST" else None
        async with guarded.client.stream(method, place, json=body, headers=SENT[who]) as response:
            answered.append(response.status_code)
            if response.status_code >= 400:
                problem = msgspec.json.decode(await response.aread())
                check_refusal(who, problem, response.headers)
    assert dict(zip(WHO, answered, strict=True)) == dict(zip(WHO, EXPECTED[operation], strict=True))


def check_refusal(who: str, problem: dict[str, Any], headers: Any) -> None:
    kind = problem["type"].rpartition(":")[2]
    if problem["status"] == 401:
        assert kind == "unauthorized"
        assert headers["www-authenticate"] == 'Bearer realm="greenroom"'
    elif problem["status"] == 403:
        assert kind == "missing-scope"
        assert f"token '{who}'" in problem["detail"]
        assert any(f"'{scope}'" in problem["detail"] for scope in ("read", "run", "admin"))
    else:
        assert kind == "unknown-run"
    assert SENT[who].get("authorization", "Bearer -").split()[1] not in str(problem)


async def test_the_document_tells_the_scopes(guarded: House) -> None:
    paths = (await guarded.client.get("/openapi.json", headers=SENT["run"])).json()["paths"]
    assert paths["/v1/runs"]["get"]["security"] == [{"token": ["read"]}]
    assert paths["/v1/workflows/newsroom/runs"]["post"]["security"] == [{"token": ["run"]}]
    assert paths["/v1/system/workers"]["get"]["security"] == [{"token": ["admin"]}]
    assert paths["/livez"]["get"]["security"] == []
    assert "security" not in paths["/v1/token"]["get"]


async def test_a_token_is_told_what_it_may_do(guarded: House) -> None:
    told = {who: (await guarded.client.get("/v1/token", headers=SENT[who])).json() for who in WHO if who != "none"}
    assert told["read"] == {"name": "read", "scopes": ["read"], "tenant": None}
    assert told["admin"] == {"name": "admin", "scopes": ["read", "run", "admin"], "tenant": None}
    assert told["acme"] == {"name": "acme", "scopes": ["read", "run"], "tenant": "acme"}


async def test_without_tokens_whoever_asks_may_do_everything(house: House) -> None:
    told = (await house.client.get("/v1/token")).json()
    assert told == {"name": "open", "scopes": ["read", "run", "admin"], "tenant": None}


# --- tenants


async def test_a_token_starts_and_lists_runs_of_its_tenant_alone(guarded: House) -> None:
    theirs = await run_of_acme(guarded, "GET")
    started = await guarded.client.post("/v1/workflows/idle/runs", headers=SENT["other"])
    assert started.json()["tenant"] == "other"
    for query in ("", "?workflow=idle", "?tenant=other", "?limit=1"):
        listed = (await guarded.client.get(f"/v1/runs{query}", headers=SENT["other"])).json()
        assert [run["id"] for run in listed["data"]] == [started.json()["id"]]
    assert (await guarded.client.get("/v1/runs?tenant=acme", headers=SENT["other"])).json()["data"] == []
    everything = (await guarded.client.get("/v1/runs", headers=SENT["admin"])).json()["data"]
    assert {run["id"]: run["tenant"] for run in everything} == {theirs: "acme", started.json()["id"]: "other"}
    filtered = (await guarded.client.get("/v1/runs?tenant=acme", headers=SENT["admin"])).json()["data"]
    assert [run["id"] for run in filtered] == [theirs]


@pytest.mark.parametrize(
    ("body", "path"),
    [({"tenant": "acme"}, "$.tenant"), ({"run_id": "tea-1"}, "$.run_id"), ({"run_id": "acme.1"}, "$.run_id")],
)
async def test_the_body_cannot_choose_another_tenant(guarded: House, body: dict[str, Any], path: str) -> None:
    refused = await guarded.client.post("/v1/workflows/idle/runs", json=body, headers=SENT["other"])
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, path)
    assert (await guarded.client.get("/v1/runs", headers=SENT["admin"])).json()["data"] == []
    good = {"tenant": "other", "run_id": "other.tea-1"}
    started = await guarded.client.post("/v1/workflows/idle/runs", json=good, headers=SENT["other"])
    assert (started.status_code, started.json()["id"]) == (202, "other.tea-1")


async def test_a_tenant_acts_on_all_of_its_runs_and_on_no_others(guarded: House) -> None:
    """By filter, as on one: what another tenant asks for fits nothing. Each is retried once, whoever asks."""
    run_id = await run_of_acme(guarded, "POST /retry")
    for who, done in (("other", 0), ("acme", 1), ("admin", 0), ("acme", 0)):
        answer = await guarded.client.post("/v1/runs/retry?status=failed", headers=SENT[who])
        assert (answer.status_code, answer.json()["done"]) == (200, done)
    for who, matched in (("other", 0), ("acme", 1), ("admin", 1)):
        counted = await guarded.client.post("/v1/runs/cancel?status=queued", json={"dry_run": True}, headers=SENT[who])
        assert counted.json()["matched"] == matched
    assert (await guarded.client.get(f"/v1/runs/{run_id}", headers=SENT["other"])).status_code == 404


async def test_an_idempotency_key_is_the_tenants_own(guarded: House) -> None:
    """The same key of another tenant is another run; of the same one it is the same, or a conflict that names it."""
    start = "/v1/workflows/newsroom/runs"
    tea = {"input": {"topic": "tea"}}
    ids: dict[str, str] = {}
    for who in ("acme", "other", "admin", "acme"):
        answer = await guarded.client.post(start, json=tea, headers=SENT[who] | {"idempotency-key": "k"})
        assert answer.status_code == 202
        assert ids.setdefault(who, answer.json()["id"]) == answer.json()["id"]
    assert len(set(ids.values())) == 3
    conflict = await guarded.client.post(
        start, json={"input": {"topic": "coffee"}}, headers=SENT["acme"] | {"idempotency-key": "k"}
    )
    assert (conflict.status_code, "'k' belongs to run " + ids["acme"] in conflict.json()["detail"]) == (422, True)


async def test_the_same_chat_of_another_tenant_is_another_chat(guarded: House) -> None:
    said = {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]}
    ids = set()
    for who in ("acme", "other", "acme"):
        async with guarded.client.stream("POST", "/v1/chat/talk", json=said, headers=SENT[who]) as response:
            ids.add(response.headers["content-location"])
    assert len(ids) == 2
    await guarded.client.post("/v1/chat/talk/c/stop", headers=SENT["other"])
    runs = (await guarded.client.get("/v1/runs", headers=SENT["admin"])).json()["data"]
    assert {run["tenant"]: run["seq"] for run in runs} == {"acme": 1, "other": 2}


async def test_a_fork_stays_with_its_tenant(guarded: House) -> None:
    run_id = await run_of_acme(guarded, "GET")
    for who in ("admin", "acme"):
        forked = await guarded.client.post(f"/v1/runs/{run_id}/fork", headers=SENT[who])
        assert (forked.status_code, forked.json()["tenant"]) == (202, "acme")


async def test_what_a_tenant_may_not_call_is_not_there() -> None:
    """The view of a tenant names what it lets through: what is new in the contract stays shut until it is written."""
    async with open_transport("memory://") as store:
        view = of_tenant(store, "acme")
        for name in ("claim", "append", "renew", "prune", "unpin", "workers", "beat", "forget_worker", "blob_get"):
            assert not hasattr(view, name)
        run, _ = await Runs(store, {"idle": idle}).start("idle", b"{}", tenant="other")
        for call in (view.run, view.end, view.read, lambda run_id: view.post(run_id, [])):
            with pytest.raises(RunNotFound):
                await call(run.run_id)
        assert await view.lanes() == []


# --- what was there before


async def test_one_token_alone_may_do_everything() -> None:
    async with open_house(ApiOptions(token="correct-horse-battery-staple")) as house:
        headers = {"authorization": "Bearer correct-horse-battery-staple"}
        assert (await house.client.post("/v1/workflows/idle/runs", json={"tenant": "x"}, headers=headers)).is_success
        assert (await house.client.get("/v1/system/workers", headers=headers)).is_success
        assert (await house.client.get("/v1/system/workers")).status_code == 401


async def test_too_many_headers_are_refused(house: House) -> None:
    many = await house.client.get("/v1/runs", headers={f"x-{n}": "1" for n in range(101)})
    assert (many.status_code, many.json()["type"]) == (431, "urn:greenroom:problem:headers-too-large")
    async with open_house(ApiOptions(max_header_bytes=2000)) as small:
        assert (await small.client.get("/v1/runs", headers={"x-long": "1" * 2000})).status_code == 431
        assert (await small.client.get("/v1/runs")).status_code == 200
