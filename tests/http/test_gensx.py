"""GenSX's routes, asked as its client asks: with the paths, bodies and headers of `@gensx/client`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from greenroom.runtime.http import ApiOptions, Token
from greenroom.runtime.records import (
    ApprovalRequested,
    Failure,
    OutputDelta,
    OutputReset,
    Status,
    StepCompleted,
    StepStarted,
)
from greenroom.transports import READY

from .conftest import House, open_house

LOCAL = "/gensx"
CLOUD = "/gensx/org/acme/projects/tea/environments/prod"
SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(ApiOptions(gensx=True)) as house:
        yield house


async def told(response: httpx2.Response) -> list[dict[str, Any]]:
    """The messages of a stream, as their client reads them; in SSE the id stands on the frame too."""
    found = []
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            found.append({"frame": line.removeprefix("id: ")})
        elif line.startswith("data: "):
            message = msgspec.json.decode(line.removeprefix("data: "))
            assert found[-1] == {"frame": message["id"]}
            found[-1] = message
        elif line and not line.startswith(":"):
            found.append(msgspec.json.decode(line))
    return found


def words(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert all(message["timestamp"].endswith("Z") for message in messages)
    return [{name: value for name, value in m.items() if name not in ("id", "timestamp")} for m in messages]


async def whole_run(house: House, run_id: str) -> None:
    """Everything that is told, in one log."""
    raw = msgspec.Raw(b'{"posts":3}')
    await house.hand.claim(run_id)
    await house.hand.append(run_id, StepStarted(step="write-1", name="write", attempt=1))
    await house.hand.append(run_id, Status(step="write-1", message="reading", data=raw))
    await house.hand.append(run_id, OutputDelta(step="write-1", attempt=1, text="Tea is "))
    await house.hand.append(run_id, OutputReset(step="write-1", attempt=1))
    await house.hand.append(run_id, StepStarted(step="write-1", name="write", attempt=2))
    await house.hand.append(run_id, OutputDelta(step="write-1", attempt=2, text="Tea was "))
    await house.hand.append(run_id, StepStarted(step="ask-1", name="publish", attempt=1, waits_for="approval"))
    await house.hand.append(run_id, ApprovalRequested(approval="ask-1", name="publish", question="Now?"))
    await house.hand.append(run_id, OutputDelta(step="write-1", attempt=2, text="hot"))
    await house.hand.append(run_id, StepCompleted(step="write-1", attempt=2, result=msgspec.Raw(b'"x"')))
    await house.hand.complete(run_id, {"title": "Tea"})


def all_of(run_id: str) -> list[dict[str, Any]]:
    component = {"componentName": "write", "componentId": "write-1"}
    asked = {"approval": "ask-1", "name": "publish", "question": "Now?"}
    return [
        {"type": "start", "workflowName": "newsroom", "workflowExecutionId": run_id},
        {"type": "component-start", **component},
        {"type": "event", "label": "reading", "data": {"posts": 3}},
        {"type": "output", "content": "Tea is "},
        {"type": "event", "label": "output-reset", "data": {"text": ""}},
        {"type": "output", "content": "Tea was "},
        {"type": "event", "label": "approval", "data": asked},
        {"type": "output", "content": "hot"},
        {"type": "component-end", **component},
        {"type": "end"},
    ]


@pytest.mark.parametrize("where", [LOCAL, CLOUD])
async def test_an_execution_is_started_and_its_progress_told_live(house: House, where: str) -> None:
    """What `start` and `getProgress` do, on localhost and with the cloud's paths."""
    started = await house.client.post(f"{where}/workflows/newsroom/start", json={"topic": "tea"})
    run_id = started.json()["executionId"]
    assert (started.status_code, started.json()["executionStatus"]) == (202, "queued")
    assert started.headers["x-execution-id"] == run_id
    progress = f"{where.partition('/projects')[0]}/workflowExecutions/{run_id}/progress"
    for accept in (SSE, NDJSON):
        async with house.client.stream("GET", progress, headers={"accept": accept}) as response:
            assert response.headers["content-type"].partition(";")[0] == accept
            if accept == SSE:
                await whole_run(house, run_id)
            assert words(await told(response)) == all_of(run_id)
    assert (await house.client.get(progress.replace("progress", "output"))).json() == {"output": "Tea was hot"}


async def test_progress_goes_on_behind_the_last_message(house: House) -> None:
    """From every message that there is: no gap and no duplicate, though one record is told in two messages."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.complete(run_id, {"title": "Tea"})
    progress = f"{LOCAL}/workflowExecutions/{run_id}/progress"

    async def ask(**how: Any) -> list[dict[str, Any]]:
        async with house.client.stream("GET", progress, **how) as response:
            assert response.status_code == 200
            return await told(response)

    whole = await ask()
    assert [message["type"] for message in whole] == ["start", "output", "end"]
    assert whole[1]["content"] == '{"title":"Tea"}'
    for number, message in enumerate(whole[:-1], 1):
        assert await ask(headers={"last-event-id": message["id"]}) == whole[number:]
        assert await ask(params={"lastEventId": message["id"]}) == whole[number:]
    done = await house.client.get(progress, headers={"last-event-id": whole[-1]["id"]})
    assert done.status_code == 204
    ahead = await house.client.get(progress, headers={"last-event-id": "99"})
    assert (ahead.status_code, ahead.json()["type"]) == (409, "urn:greenroom:problem:cursor-ahead")
    wrong = await house.client.get(progress, headers={"last-event-id": "x"})
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (400, "header.Last-Event-Id")


@pytest.mark.parametrize("accept", [SSE, NDJSON])
async def test_a_run_is_streamed_by_the_call_that_starts_it(house: House, accept: str) -> None:
    """What `runRaw` does."""
    async with anyio.create_task_group() as group:
        post = house.client.stream(
            "POST", f"{LOCAL}/workflows/newsroom", json={"topic": "tea"}, headers={"accept": accept}
        )
        async with post as response:
            run_id = response.headers["x-execution-id"]
            group.start_soon(whole_run, house, run_id)
            assert words(await told(response)) == all_of(run_id)


async def test_a_run_is_waited_for(house: House) -> None:
    """What `run` does; a run that fails is a 422 with its error."""
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await house.client.post(f"{LOCAL}/workflows/newsroom", json={"topic": "tea"}))

    for ends in ("completes", "fails"):
        async with anyio.create_task_group() as group, house.store.watch(READY) as watch:
            group.start_soon(ask)
            await watch.wait(30)
            listed = (await house.client.get("/v1/runs?status=queued")).json()["data"]
            await house.hand.claim(listed[0]["id"])
            if ends == "completes":
                await house.hand.complete(listed[0]["id"], {"title": "Tea"})
            else:
                await house.hand.fail(listed[0]["id"], Failure(type="ValueError", message="no tea"))
    done, failed = answers
    assert (done.status_code, done.json()["executionStatus"], done.json()["output"]) == (
        200,
        "completed",
        {"title": "Tea"},
    )
    assert (failed.status_code, failed.json()["executionStatus"], failed.json()["error"]) == (
        422,
        "failed",
        "ValueError: no tea",
    )
    run_id = failed.json()["executionId"]
    shown = (await house.client.get(f"{LOCAL}/workflows/newsroom/executions/{run_id}")).json()
    assert shown["logs"] == {"stderr": "ValueError: no tea"}
    assert shown["finishedAt"] >= shown["createdAt"]
    listed = (await house.client.get(f"{LOCAL}/workflows/newsroom/executions")).json()["executions"]
    assert [one["executionStatus"] for one in listed] == ["failed", "completed"]
    async with house.client.stream("GET", f"{LOCAL}/workflowExecutions/{run_id}/progress") as response:
        assert [message["type"] for message in await told(response)] == ["start", "error", "end"]


async def test_workflows_are_listed_with_their_schemas(house: House) -> None:
    listed = (await house.client.get(f"{LOCAL}/workflows")).json()["workflows"]
    assert [one["name"] for one in listed] == ["newsroom", "idle"]
    assert listed[0] == (await house.client.get(f"{LOCAL}/workflows/newsroom")).json()
    assert listed[0]["inputSchema"]["$defs"]["newsroom.input"]["required"] == ["topic"]
    for path in ("workflows/nothing", "workflows/nothing/executions", "workflowExecutions/nothing/output"):
        assert (await house.client.get(f"{LOCAL}/{path}")).status_code == 404
    assert (await house.client.post(f"{LOCAL}/workflows/newsroom/start", json={"topc": "tea"})).status_code == 422
    run_id = await house.start()
    assert (await house.client.get(f"{LOCAL}/workflows/idle/executions/{run_id}")).status_code == 404


async def test_tokens_and_tenants_hold_here_too() -> None:
    held = (("one", ["read", "run"], "acme"), ("two", ["read", "run"], "other"), ("look", ["read"], ""))
    tokens = tuple(
        Token(name=name, scopes=scopes, tenant=tenant, token=f"{name}-{name}-{name}-token")
        for name, scopes, tenant in held
    )
    async with open_house(ApiOptions(gensx=True, tokens=tokens)) as house:
        sent = {one.name: {"authorization": f"Bearer {one.name}-{one.name}-{one.name}-token"} for one in tokens}
        start = f"{LOCAL}/workflows/idle/start"
        assert (await house.client.post(start)).status_code == 401
        assert (await house.client.post(start, headers=sent["look"])).status_code == 403
        run_id = (await house.client.post(start, headers=sent["one"])).json()["executionId"]
        for path in ("progress", "output"):
            asked = f"{LOCAL}/workflowExecutions/{run_id}/{path}"
            assert (await house.client.get(asked, headers=sent["two"])).status_code == 404
        theirs = f"{LOCAL}/workflows/idle/executions"
        assert (await house.client.get(theirs, headers=sent["two"])).json() == {"executions": []}
        assert len((await house.client.get(theirs, headers=sent["look"])).json()["executions"]) == 1


async def test_the_routes_are_not_there_unless_asked_for() -> None:
    async with open_house() as house:
        assert (await house.client.get(f"{LOCAL}/workflows")).status_code == 404
