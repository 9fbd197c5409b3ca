"""The endpoints of runs, over a real socket: what each call answers, and when."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from greenroom.runtime.records import Failure, LeaseTaken, StepCompleted, StepStarted
from greenroom.transports import Terms

START = "/v1/workflows/newsroom/runs"
TEA: dict[str, Any] = {"input": {"topic": "tea"}}


async def test_a_started_run_is_accepted_and_can_be_found(house: Any) -> None:
    """202, with where to look and when."""
    response = await house.client.post(START, json=TEA | {"tags": ["a"], "metadata": {"who": "me"}, "timeout_s": 60})
    assert response.status_code == 202
    assert response.headers["retry-after"] == "1"
    run = response.json()
    assert response.headers["location"] == run["links"]["self"] == f"/v1/runs/{run['id']}"
    assert run["status"] == "queued"
    assert run["seq"] == 1
    assert run["input"] == {"topic": "tea", "posts": 3}
    assert (run["tags"], run["metadata"], run["timeout_s"]) == (["a"], {"who": "me"}, 60)
    assert run["created"].endswith("Z")
    assert not {"result", "error", "waiting_on"} & run.keys()
    assert (await house.client.get(run["links"]["self"])).json() == run


async def test_a_workflow_without_arguments_needs_no_body(house: Any) -> None:
    response = await house.client.post("/v1/workflows/idle/runs")
    assert (response.status_code, response.json()["input"]) == (202, {})


async def test_a_trace_id_is_continued(house: Any) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = await house.client.post(START, json=TEA, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert response.json()["trace_id"] == trace


async def test_prefer_wait_answers_with_the_finished_run(house: Any) -> None:
    """The request is held until the run has ended, and no longer."""
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await house.client.post(START, json=TEA | {"run_id": "w"}, headers={"prefer": "wait=30"}))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await house.hand.claim("w")
        await house.hand.complete("w", {"title": "Tea", "words": 1})
    (response,) = answers
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.json()["status"] == "completed"
    assert response.json()["result"] == {"title": "Tea", "words": 1}
    assert "retry-after" not in response.headers


async def test_prefer_wait_gives_up_in_time(house: Any) -> None:
    response = await house.client.post(START, json=TEA, headers={"prefer": "respond-async, wait=0"})
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")
    response = await house.client.post(START, json=TEA, headers={"prefer": "wait=1"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")


async def test_respond_async_is_echoed(house: Any) -> None:
    response = await house.client.post(START, json=TEA, headers={"prefer": "respond-async"})
    assert (response.status_code, response.headers["preference-applied"]) == (202, "respond-async")


async def test_a_known_key_gives_the_same_run(house: Any) -> None:
    """202 while it goes on, 200 once it has ended; another payload is refused."""
    headers = {"idempotency-key": "k1"}
    first = await house.client.post(START, json=TEA, headers=headers)
    again = await house.client.post(START, json=TEA, headers=headers)
    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    run_id = first.json()["id"]
    assert again.json()["id"] == run_id
    await house.hand.claim(run_id)
    await house.hand.complete(run_id)
    ended = await house.client.post(START, json=TEA, headers=headers)
    assert (ended.status_code, ended.json()["id"]) == (200, run_id)
    other = await house.client.post(START, json={"input": {"topic": "coffee"}}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:greenroom:problem:key-reused")


async def test_twenty_requests_with_one_key_make_one_run(house: Any) -> None:
    ids: list[tuple[int, str, bool]] = []

    async def ask() -> None:
        response = await house.client.post(START, json=TEA, headers={"idempotency-key": "race"})
        ids.append((response.status_code, response.json()["id"], "idempotent-replayed" in response.headers))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert {(status, run) for status, run, _ in ids} == {(202, ids[0][1])}
    assert sum(not replayed for *_, replayed in ids) == 1
    assert len((await house.client.get("/v1/runs")).json()["data"]) == 1


async def test_a_chosen_run_id_is_taken_once(house: Any) -> None:
    assert (await house.client.post(START, json=TEA | {"run_id": "mine"})).json()["id"] == "mine"
    again = await house.client.post(START, json=TEA | {"run_id": "mine"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:greenroom:problem:run-exists")


async def test_a_run_is_sent_again_only_when_it_changed(house: Any) -> None:
    """Its state counts as well as its log: a claim writes no record."""
    run_id = await house.start()
    first = await house.client.get(f"/v1/runs/{run_id}")
    known = {"if-none-match": first.headers["etag"]}
    same = await house.client.get(f"/v1/runs/{run_id}", headers=known)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    await house.store.claim("silent", {"newsroom": Terms()}, limit=10, lease_s=60)
    claimed = await house.client.get(f"/v1/runs/{run_id}", headers=known)
    assert (claimed.status_code, claimed.json()["status"]) == (200, "running")


async def test_a_failed_run_is_found_with_its_error_as_a_problem(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.fail(run_id, Failure(type="ValueError", message="no tea"))
    run = await house.client.get(f"/v1/runs/{run_id}")
    assert run.status_code == 200
    assert run.json()["error"] == {
        "type": "urn:greenroom:problem:run-failed",
        "title": "The run failed",
        "status": 424,
        "detail": "ValueError: no tea",
    }
    result = await house.client.get(f"/v1/runs/{run_id}/result")
    assert (result.status_code, result.headers["content-type"]) == (424, "application/problem+json")
    assert "no tea" in result.json()["detail"]


async def test_a_result_is_given_alone_once_there_is_one(house: Any) -> None:
    run_id = await house.start()
    early = await house.client.get(f"/v1/runs/{run_id}/result")
    assert (early.status_code, early.headers["retry-after"], early.json()["status"]) == (202, "1", "queued")
    late: list[httpx2.Response] = []

    async def ask() -> None:
        late.append(await house.client.get(f"/v1/runs/{run_id}/result", headers={"prefer": "wait=20"}))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await house.hand.claim(run_id)
        await house.hand.complete(run_id, {"title": "Tea"})
    assert (late[0].status_code, late[0].json()) == (200, {"title": "Tea"})


async def test_runs_are_listed_newest_first_page_by_page(house: Any) -> None:
    """Following `Link: rel=next` visits every run that matches, once."""
    ids = [await house.start(posts=n) for n in range(5)]
    await house.client.post("/v1/workflows/idle/runs", json={"tags": ["x"]})
    seen: list[str] = []
    url = "/v1/runs?workflow=newsroom&limit=2"
    while url:
        page = await house.client.get(url)
        seen += [run["id"] for run in page.json()["data"]]
        assert ("link" in page.headers) == (page.json()["next_cursor"] is not None)
        url = page.headers.get("link", "").partition("<")[2].partition(">")[0]
    assert seen == ids[::-1]
    tagged = (await house.client.get("/v1/runs?tag=x")).json()["data"]
    assert [run["workflow"] for run in tagged] == ["idle"]
    assert "input" not in tagged[0]


async def test_runs_are_filtered_by_status_and_time(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.start()
    running = (await house.client.get("/v1/runs?status=running")).json()["data"]
    assert [run["id"] for run in running] == [run_id]
    assert len((await house.client.get("/v1/runs?created_after=2001-01-01T00:00:00Z")).json()["data"]) == 2
    assert (await house.client.get("/v1/runs?created_after=2999-01-01T00:00:00Z")).json()["data"] == []


async def test_a_run_is_canceled_by_asking(house: Any) -> None:
    """Asked for: 202, and again 202; ended: 409."""
    run_id = await house.start()
    asked = await house.client.post(f"/v1/runs/{run_id}/cancel", json={"reason": "late"})
    assert (asked.status_code, asked.json()["id"]) == (202, run_id)
    assert (await house.client.post(f"/v1/runs/{run_id}/cancel")).status_code == 202
    await house.hand.claim(run_id)
    await house.hand.cancel(run_id, "late")
    ended = await house.client.post(f"/v1/runs/{run_id}/cancel")
    assert (ended.status_code, ended.json()["type"]) == (409, "urn:greenroom:problem:run-ended")
    assert (await house.client.get(f"/v1/runs/{run_id}")).json()["error"]["detail"] == "late"
    assert (await house.client.get(f"/v1/runs/{run_id}/result")).status_code == 409


async def test_events_are_read_as_pages_of_json(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "a", "b")
    await house.hand.complete(run_id)
    seqs: list[int] = []
    after, complete = 0, False
    while not complete:
        path = f"/v1/runs/{run_id}/events?after={after}&limit=2"
        page = (await house.client.get(path, headers={"accept": "application/json"})).json()
        seqs += [event["seq"] for event in page["data"]]
        after, complete = page["next_after"], page["complete"]
    assert seqs == [1, 2, 3, 4, 5, 6]
    path = f"/v1/runs/{run_id}/events?after=6"
    page = (await house.client.get(path, headers={"accept": "application/json"})).json()
    assert page == {"data": [], "next_after": 6, "complete": True}


async def test_the_output_so_far_is_read_as_text_and_as_json(house: Any) -> None:
    """Resets are applied: what a dead attempt showed is not there."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "half ")
    await house.hand.reset(run_id)
    await house.hand.say(run_id, "whole ", "tea\u2028", attempt=2)
    text = await house.client.get(f"/v1/runs/{run_id}/output", headers={"accept": "text/plain"})
    assert (text.text, text.headers["content-type"]) == ("whole tea\u2028", "text/plain; charset=utf-8")
    output = (await house.client.get(f"/v1/runs/{run_id}/output", headers={"accept": "application/json"})).json()
    assert output == {"text": "whole tea\u2028", "complete": False, "seq": 7}


async def test_a_run_has_a_trace(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    step = StepStarted(step="s-1", name="fetch", attempt=1)
    await house.hand.append(run_id, step, StepCompleted(step="s-1", attempt=1, result=msgspec.Raw(b"1")))
    await house.hand.complete(run_id)
    trace = (await house.client.get(f"/v1/runs/{run_id}/trace")).json()
    assert (trace["status"], trace["steps_executed"]) == ("completed", 1)
    assert [span["name"] for span in trace["spans"]] == ["fetch"]


async def test_a_record_of_a_newer_version_is_streamed_as_it_is(house: Any) -> None:
    """Nothing is decoded on the way, so an API may be older than its workers."""
    run_id = await house.start()
    await house.hand.claim(run_id)

    class Future(LeaseTaken, frozen=True, kw_only=True):
        kind = "future.thing"

    await house.hand.append(run_id, Future(worker="w", build="b", fence=9))
    (frame,) = await house.read(f"/v1/runs/{run_id}/events", 1, last=3)
    assert (frame.event, frame.data["data"]["fence"]) == ("future.thing", 9)


async def test_a_run_is_forked_and_retried_over_http(house: Any) -> None:
    """New runs, with where they are; what has not failed is not retried."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.append(run_id, StepStarted(step="s", name="s", attempt=1))
    await house.hand.append(run_id, StepCompleted(step="s", attempt=1, result=msgspec.Raw(b"1")))
    refused = await house.client.post(f"/v1/runs/{run_id}/retry")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:greenroom:problem:no-fork")
    unknown = await house.client.post(f"/v1/runs/{run_id}/fork", json={"at": "x"})
    assert unknown.status_code == 409
    headers = {"idempotency-key": "k"}
    forked = await house.client.post(f"/v1/runs/{run_id}/fork", json={"input": {"topic": "rum"}}, headers=headers)
    assert forked.status_code == 202
    assert (forked.json()["input"], forked.json()["seq"]) == ({"topic": "rum", "posts": 3}, 3)
    assert forked.headers["location"] == f"/v1/runs/{forked.json()['id']}"
    again = await house.client.post(f"/v1/runs/{run_id}/fork", json={"input": {"topic": "rum"}}, headers=headers)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (forked.json()["id"], "true")
    await house.hand.fail(run_id, Failure(type="OSError", message="down"))
    assert (await house.client.post(f"/v1/runs/{run_id}/retry")).status_code == 202


async def test_a_run_may_have_a_lane_and_a_delay(house: Any) -> None:
    """Priority, tenant, and when it may start."""
    body = {"input": {"topic": "tea"}, "priority": 3, "tenant": "ann", "delay_s": 60}
    started = await house.client.post("/v1/workflows/newsroom/runs", json=body)
    run = await house.store.run(started.json()["id"])
    assert (run.lane.priority, run.lane.tenant) == (3, "ann")
    assert run.due == pytest.approx(run.created + 60, abs=5)
    refused = await house.client.post("/v1/workflows/newsroom/runs", json=body | {"delay_s": -1})
    assert refused.status_code == 422
