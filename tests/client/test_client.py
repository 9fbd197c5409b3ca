"""Calls of the client, against the real API on a socket, or in process."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from greenroom import ConfigInvalid
from greenroom import client as public
from greenroom.client import (
    AnswerInvalid,
    Client,
    NoResult,
    Problem,
    Refused,
    RunInfo,
    Unreachable,
    WaitTimedOut,
)
from greenroom.runtime.http import ApiOptions
from greenroom.runtime.http.problems import Problem as Told
from greenroom.runtime.http.views import RunObject
from greenroom.runtime.records import ApprovalRequested, Failure, SignalReceived
from greenroom.transports import RunFilter

from ..http.conftest import Article, open_house

_ANY = RunFilter()


async def test_a_run_is_started_waited_for_and_read_as_a_type(house: Any, client: Client) -> None:
    run = await client.start("newsroom", {"topic": "tea"}, tags=["a"], metadata={"order": "7"})
    assert run.info is not None
    assert (run.info.status.value, run.info.tags, run.info.metadata) == ("queued", ("a",), {"order": "7"})
    await house.hand.claim(run.id)
    await house.hand.complete(run.id, Article(title="Tea", words=3))
    assert await run.result(timeout=30, as_type=Article) == Article(title="Tea", words=3)
    assert await client.run(run.id).result() == {"title": "Tea", "words": 3}
    assert (await run.view()).status.value == "completed"
    with pytest.raises(AnswerInvalid, match=r"the result of run .* does not fit as_type: Expected `str`"):
        await run.result(as_type=str)


async def test_a_key_is_one_run_and_calls_without_one_are_runs_of_their_own(client: Client) -> None:
    runs = [(await client.start("newsroom", {"topic": "tea"}, key=key)).id for key in ("k", "k", None, None)]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3
    with pytest.raises(Refused, match="use another key=") as refused:
        await client.start("newsroom", {"topic": "coffee"}, key="k")
    assert (refused.value.type, refused.value.status) == ("key-reused", 422)


async def test_a_start_can_wait_for_the_end(house: Any, client: Client) -> None:
    async def work() -> None:
        while not (await house.runs.list(_ANY)).runs:
            await anyio.lowlevel.checkpoint()
        run_id = (await house.runs.list(_ANY)).runs[0].run_id
        await house.hand.claim(run_id)
        await house.hand.complete(run_id, "done")

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        run = await client.start("newsroom", {"topic": "tea"}, wait_s=30)
    assert run.info is not None
    assert run.info.status.value == "completed"
    assert await run.result() == "done"


async def test_an_end_without_a_result_is_an_error_that_carries_the_problem(house: Any, client: Client) -> None:
    failed = await client.start("newsroom", {"topic": "tea"})
    await house.hand.claim(failed.id)
    await house.hand.fail(failed.id, Failure(type="ValueError", message="no tea"))
    for run in (failed, client.run(failed.id)):
        with pytest.raises(NoResult, match="ValueError: no tea") as refused:
            await run.result(timeout=30)
        assert refused.value.type == "run-failed"
    canceled = await client.start("newsroom", {"topic": "tea"})
    assert (await canceled.cancel("enough")).id == canceled.id
    await house.hand.claim(canceled.id)
    await house.hand.cancel(canceled.id, "enough")
    with pytest.raises(NoResult, match="enough") as refused:
        await canceled.result(timeout=30)
    assert refused.value.type == "run-canceled"


async def test_waiting_can_end_before_the_run(client: Client) -> None:
    run = await client.start("newsroom", {"topic": "tea"})
    with pytest.raises(WaitTimedOut, match="it goes on; ask again later"):
        await run.result(timeout=0.05)


async def test_a_refusal_says_what_is_wrong_and_where(client: Client) -> None:
    with pytest.raises(Refused, match=r"input of newsroom is invalid at \$\.topic") as refused:
        await client.start("newsroom", {"topic": 7})
    assert refused.value.type == "invalid-input"
    assert refused.value.problem.errors[0].path == "$.input.topic"
    with pytest.raises(Refused, match="unknown-run, 404"):
        await client.run("none").view()
    with pytest.raises(Refused, match="no workflow is named 'none'"):
        await client.start("none")
    with pytest.raises(Refused, match="cursor-ahead"):
        await anext(client.run((await client.start("idle")).id).events(after=99))


async def test_runs_are_listed_over_all_pages(client: Client) -> None:
    started = [(await client.start("newsroom", {"topic": str(n)}, tags=["x"])).id for n in range(5)]
    await client.start("idle")
    assert [info.id async for info in client.runs(tag="x", page=2)] == started[::-1]
    assert len([info async for info in client.runs(page=2)]) == 6
    assert [info.id async for info in client.runs(workflow="idle", status="failed")] == []


async def test_signals_approvals_forks_and_retries_go_through(house: Any, client: Client) -> None:
    run = await client.start("newsroom", {"topic": "tea"})
    await run.signal("words", "more", key="s1")
    await run.signal("words", "more", key="s1")
    await house.hand.claim(run.id)
    await house.hand.append(run.id, ApprovalRequested(approval="p-1", name="publish", question="Publish?"))
    signals = [s for s in await house.store.read(run.id) if s.kind == SignalReceived.kind]
    assert {msgspec.json.decode(s.body)["id"] for s in signals} == {"s1"}
    assert [(a.approval, a.decision) for a in await run.approvals()] == [("p-1", None)]
    decided = await run.decide("p-1", {"approved": True}, by="ann")
    assert decided.by == "ann"
    with pytest.raises(Refused, match="decided otherwise"):
        await run.decide("p-1", {"approved": False})
    await house.hand.fail(run.id, Failure(type="ValueError", message="no tea"))
    again = await run.retry(key="r")
    assert (await run.retry(key="r")).id == again.id != run.id
    forked = await run.fork(input={"topic": "coffee"})
    assert forked.info is not None
    assert msgspec.json.decode(forked.info.input)["topic"] == "coffee"
    with pytest.raises(Refused, match="only one that failed can be retried"):
        await again.retry()


async def test_the_token_is_sent_and_never_shown() -> None:
    token = "a-token-of-the-server"
    async with open_house(ApiOptions(token=token)) as house:
        async with Client(house.url, token=token) as client:
            assert (await client.start("idle")).info is not None
            assert "a-token" not in repr(client)
        async with Client(house.url.replace("http://", "http://user:secret@")) as client:
            assert "secret" not in repr(client)
            with pytest.raises(Refused, match=r"Client\(url, token=\.\.\.\)") as refused:
                await client.start("idle")
            assert "secret" not in str(refused.value)


async def test_a_server_that_is_not_there_or_is_another_is_said(unused_port: int) -> None:
    async with Client(f"http://user:secret@127.0.0.1:{unused_port}", patience_s=0.3) as client:
        with pytest.raises(
            Unreachable, match=f"127.0.0.1:{unused_port}.* cannot be reached .*give Client more"
        ) as lost:
            await client.start("newsroom", {"topic": "tea"})
        assert "secret" not in str(lost.value)
        with pytest.raises(Unreachable, match=r"gave up after 0\.3 s"):
            await client.run("r").output()
    other = httpx2.MockTransport(lambda request: httpx2.Response(200, text="<html>"))
    async with Client("http://other", transport=other) as client:
        with pytest.raises(AnswerInvalid, match="http://other/v1/runs/r answered 200 with something"):
            await client.run("r").view()
        with pytest.raises(AnswerInvalid, match="http://other/v1/runs/r/output answered 200 with something"):
            await client.run("r").output()


def test_a_client_that_cannot_be_is_refused_at_once() -> None:
    for arguments, wrong in (
        ({"base_url": "localhost:8800"}, "Client.base_url: is no URL"),
        ({"base_url": "http://"}, "Client.base_url"),
        ({"base_url": "http://x", "token": "a\nb"}, "Client.token"),
        ({"base_url": "http://x", "patience_s": float("nan")}, "Client.patience_s"),
    ):
        with pytest.raises(ConfigInvalid, match=wrong):
            Client(**arguments)


class Flaky(httpx2.AsyncBaseTransport):
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.keys: list[str | None] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.keys.append(request.headers.get("idempotency-key"))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def accepted() -> httpx2.Response:
    when = "2026-01-01T00:00:00Z"
    run = {"id": "r", "workflow": "w", "status": "queued", "created": when, "updated": when, "seq": 1}
    return httpx2.Response(202, json=run)


async def test_what_can_be_repeated_is_and_with_the_same_key() -> None:
    busy = httpx2.Response(503, headers={"retry-after": "0"})
    flaky = Flaky(httpx2.ReadError("cut"), busy, accepted(), accepted())
    async with Client("http://x", transport=flaky) as client:
        await client.start("w")
        await client.start("w")
    assert len(flaky.keys) == 4
    assert len(set(flaky.keys[:3])) == 1
    assert flaky.keys[3] not in (None, flaky.keys[0])


async def test_what_may_have_been_done_is_not_repeated() -> None:
    """A cancel has no key; only when nothing was sent is it sent again."""
    flaky = Flaky(httpx2.ConnectError("refused"), accepted(), httpx2.ReadError("cut"))
    async with Client("http://x", transport=flaky) as client:
        await client.run("r").cancel()
        with pytest.raises(Unreachable, match="it may or may not have been done: look at the run"):
            await client.run("r").cancel()
    assert flaky.answers == []


async def test_retry_after_is_honoured_and_not_beyond_patience() -> None:
    flaky = Flaky(httpx2.Response(503, headers={"retry-after": "3600"}))
    async with Client("http://x", transport=flaky) as client:
        with pytest.raises(Unreachable, match="answered 503; gave up after 30 s"):
            await client.run("r").view()


def test_the_client_s_values_have_the_names_that_the_api_tells() -> None:
    told = {field.encode_name for field in msgspec.structs.fields(RunObject)}
    assert {field.encode_name for field in msgspec.structs.fields(RunInfo)} == told - {"links"}
    assert Problem.__struct_fields__ == Told.__struct_fields__
    assert public.Client is Client
