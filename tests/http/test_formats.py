"""A run's output told in the words of front ends, and workflows as chats, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greenroom import Workflow, workflow
from greenroom.runtime.http.ag_ui import AgUi
from greenroom.runtime.http.envelope import Envelope, Framed
from greenroom.runtime.http.formats import Message
from greenroom.runtime.http.ui_message import UiMessage
from greenroom.runtime.log import fold_output
from greenroom.runtime.records import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    Failure,
    OutputDelta,
    OutputReset,
    Record,
    RunCompleted,
    RunTimedOut,
    Status,
    decode,
    encode,
)
from greenroom.transports import Lane, Run, RunState, Stored

from .conftest import House, newsroom, open_house

NULL = msgspec.Raw(b"null")


@workflow
async def talk(prompt: str, messages: list[dict[str, Any]], tone: str = "plain") -> str:
    """Answer a message."""
    return f"{tone}: {prompt} ({len(messages)})"


@pytest.fixture
async def chats() -> AsyncIterator[House]:
    workflows: list[Workflow[..., Any]] = [talk, newsroom]
    async with open_house(workflows=workflows) as house:
        yield house


async def parts(response: httpx2.Response, until: str | None = None) -> list[Any]:
    """The stream's data, to its end or to a part of one type."""
    read: list[Any] = []
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            read.append("DONE")
        elif line.startswith("data: "):
            read.append(msgspec.json.decode(line.removeprefix("data: ")))
            if read[-1]["type"] == until:
                break
    return read


def types(read: list[Any]) -> list[str]:
    return [part if part == "DONE" else part["type"] for part in read]


def row(seq: int) -> Run:
    return Run(
        run_id="r", lane=Lane(workflow="w"), state=RunState.RUNNING, seq=seq, control_seq=0, created=0, updated=0,
        due=None, owner=None, fence=1, waiting_on=None, key=None, tags=(),
    )  # fmt: skip


def stored(*records: Record) -> list[Stored]:
    return [Stored(n, 0.0, entry.kind, entry.body) for n, entry in enumerate(map(encode, records), 1)]


def told(message: Message, log: list[Stored]) -> list[Any]:
    batch = [Framed(record, Envelope("r", "t")) for record in log]
    lines = (message.begin() + b"".join(message.tell(batch))).split(b"\n\n")
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: {")]


def read_ui(read: list[Any]) -> str:
    """The text that the AI SDK's reader ends with, by its rules."""
    texts: dict[str, str] = {}
    live: set[str] = set()
    for part in read:
        match part:
            case {"type": "text-start", "id": name}:
                assert name not in texts
                texts[name] = ""
                live.add(name)
            case {"type": "text-delta", "id": name, "delta": delta}:
                assert name in live
                texts[name] += delta
            case {"type": "text-end", "id": name}:
                live.remove(name)
            case {"type": "reset-step"}:
                texts, live = {}, set()
    assert not live
    return "".join(texts.values())


def read_ag_ui(read: list[Any]) -> str:
    """The text that an AG-UI agent ends with, by its rules."""
    messages: dict[str, str] = {}
    live: set[str] = set()
    for event in read:
        match event:
            case {"type": "TEXT_MESSAGE_START", "messageId": name}:
                assert not live
                messages.setdefault(name, "")
                live.add(name)
            case {"type": "TEXT_MESSAGE_CONTENT", "messageId": name, "delta": delta}:
                assert name in live
                assert delta
                messages[name] += delta
            case {"type": "TEXT_MESSAGE_END", "messageId": name}:
                live.remove(name)
            case {"type": "MESSAGES_SNAPSHOT", "messages": []}:
                assert not live
                messages = {}
    assert not live
    return "".join(messages.values())


STEPS, ATTEMPTS = st.sampled_from("ab"), st.integers(1, 2)
DELTAS = st.builds(OutputDelta, step=STEPS, attempt=ATTEMPTS, text=st.text("xyz\n", max_size=3))
RESETS = st.builds(OutputReset, step=STEPS, attempt=ATTEMPTS)
OTHERS = st.one_of(
    st.builds(Status, step=st.just("a"), message=st.just("busy")),
    st.builds(ApprovalRequested, approval=st.sampled_from("pq"), name=st.just("p"), question=st.just("?")),
    st.builds(ApprovalResolved, approval=st.sampled_from("pq"), decision=st.just(NULL)),
)
SHOWN = st.lists(st.one_of(DELTAS, DELTAS, RESETS, OTHERS), min_size=2, max_size=15)


@example(
    records=[
        OutputDelta(step="a", attempt=1, text="x"),
        OutputDelta(step="b", attempt=1, text="y"),
        OutputReset(step="b", attempt=1),
    ],
    known=1,
    size=2,
)
@example(
    records=[
        OutputDelta(step="a", attempt=1, text="x"),
        ApprovalRequested(approval="p", name="p", question="?"),
        OutputDelta(step="a", attempt=1, text="y"),
    ],
    known=1,
    size=5,
)
@given(records=SHOWN, known=st.integers(0, 5) | st.integers(0, 17), size=st.integers(1, 5))
def test_a_reader_ends_with_the_text_that_counts_wherever_it_comes_in(
    records: list[Record], known: int, size: int
) -> None:
    """Law 5, in both vocabularies: any log, any moment of coming, any pages."""
    log = stored(*records, RunCompleted(result=NULL))
    for words, read in ((UiMessage("r"), read_ui), (AgUi("r"), read_ag_ui)):
        message = Message(row(min(known, len(log))), words)
        pages = [told(message, log[at : at + size]) for at in range(0, len(log), size)]
        flat = [part for n, page in enumerate(pages) for part in (page if n == 0 else page[len(list(words.begin())) :])]
        assert read(flat) == fold_output(map(decode, log))


def test_what_was_taken_back_before_the_reader_came_is_never_told() -> None:
    log = stored(
        OutputDelta(step="a", attempt=1, text="dead"),
        OutputReset(step="a", attempt=1),
        OutputDelta(step="a", attempt=2, text="live"),
        RunCompleted(result=NULL),
    )
    read = told(Message(row(3), UiMessage("r")), log)
    assert "dead" not in str(read)
    assert types(read) == [
        "start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish",
    ]  # fmt: skip


async def test_a_run_is_told_as_a_ui_message(house: Any) -> None:
    """Status passes, approvals stay, a dead attempt is taken back; the headers are those that the SDK looks for."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    read: list[Any] = []
    path = f"/v1/runs/{run_id}/output?format=ui-message"
    async with house.client.stream("GET", path) as response, anyio.create_task_group() as group:
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-cache"

        async def follow() -> None:
            read.extend(await parts(response))

        group.start_soon(follow)
        await house.hand.say(run_id, "half")
        await house.hand.reset(run_id)
        await house.hand.append(
            run_id,
            Status(step="write", message="writing"),
            OutputDelta(step="write", attempt=2, text="whole"),
            ApprovalRequested(
                approval="publish-1", name="publish", question="Publish?", data=msgspec.Raw(b'{\n"a":1}')
            ),
        )
        assert (await house.client.post(
            f"/v1/runs/{run_id}/approvals/publish-1", json={"decision": {"approved": True}, "by": "ann"}
        )).status_code == 202  # fmt: skip
        await house.hand.complete(run_id)
    assert read[0] == {"type": "start", "messageId": run_id, "messageMetadata": {"run_id": run_id}}
    assert read[-1] == "DONE"
    assert read[-2] == {"type": "finish", "finishReason": "stop"}
    assert read_ui(read) == "whole"
    status = next(part for part in read if part != "DONE" and part["type"] == "data-status")
    assert status == {
        "type": "data-status", "data": {"step": "write", "message": "writing", "data": None}, "transient": True,
    }  # fmt: skip
    asked, decided = (part for part in read if part != "DONE" and part["type"] == "data-approval")
    assert asked["id"] == decided["id"] == "publish-1"
    assert (asked["data"]["decision"], decided["data"]["decision"]["approved"]) == (None, True)
    assert (asked["data"]["data"], decided["data"]["by"]) == ({"a": 1}, "ann")


async def test_each_end_has_its_part(house: Any) -> None:
    ends = []
    for end in ("complete", "fail", "cancel"):
        run_id = await house.start()
        await house.hand.claim(run_id)
        await house.hand.say(run_id, "text")
        if end == "complete":
            await house.hand.complete(run_id)
        elif end == "fail":
            await house.hand.fail(run_id, Failure(type="ValueError", message="no tea"))
        else:
            await house.hand.cancel(run_id, "enough")
        async with house.client.stream("GET", f"/v1/runs/{run_id}/output?format=ui-message") as response:
            ends.append((await parts(response))[-3:])
    assert ends == [
        [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}, "DONE"],
        [{"type": "finish-step"}, {"type": "error", "errorText": "ValueError: no tea"}, "DONE"],
        [{"type": "finish-step"}, {"type": "abort", "reason": "enough"}, "DONE"],
    ]
    late = told(Message(row(1), UiMessage("r")), stored(RunTimedOut(timeout_s=5)))
    assert late[-1] == {"type": "error", "errorText": "the run took longer than 5 s"}


async def test_a_run_is_told_as_ag_ui_events(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "a", "b")
    await house.hand.complete(run_id, {"title": "ab"})
    async with house.client.stream("GET", f"/v1/runs/{run_id}/output?format=ag-ui") as response:
        read = await parts(response)
    assert read == [
        {"type": "RUN_STARTED", "threadId": run_id, "runId": run_id},
        {"type": "TEXT_MESSAGE_START", "messageId": run_id, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": run_id, "delta": "ab"},
        {"type": "TEXT_MESSAGE_END", "messageId": run_id},
        {"type": "RUN_FINISHED", "threadId": run_id, "runId": run_id, "result": {"title": "ab"}},
    ]


async def test_a_reader_that_has_the_end_gets_204_and_any_other_the_whole(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "all")
    await house.hand.complete(run_id)
    path = f"/v1/runs/{run_id}/output?format=ui-message"
    assert (await house.client.get(path, headers={"last-event-id": "5"})).status_code == 204
    async with house.client.stream("GET", path, headers={"last-event-id": "4"}) as response:
        assert read_ui(await parts(response)) == "all"


async def test_a_format_that_is_none_is_refused(house: Any) -> None:
    run_id = await house.start()
    refused = await house.client.get(f"/v1/runs/{run_id}/output?format=xml")
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "query.format")
    assert "native, ui-message, ag-ui" in refused.json()["detail"]
    other = await house.client.get(f"/v1/runs/{run_id}/output?format=ag-ui", headers={"accept": "application/json"})
    assert other.status_code == 406


async def test_a_stream_that_is_drained_says_that_it_is_not_whole(house: Any) -> None:
    """Without a last word a chat would show half an answer as the answer."""
    run_id = await house.start()
    for name, word in (("ui-message", "error"), ("ag-ui", "RUN_ERROR")):
        house.app.state.streams.draining = False
        async with house.client.stream("GET", f"/v1/runs/{run_id}/output?format={name}") as response:
            lines = response.aiter_lines()
            await anext(lines)
            house.app.state.streams.drain()
            rest = [line async for line in lines]
        last = msgspec.json.decode([line for line in rest if line.startswith("data: ")][-1].removeprefix("data: "))
        assert last["type"] == word
        assert "connect again" in str(last)


# --- chats


def turn(text: str = "tea?", chat: str = "c1", message: str = "m1", **more: Any) -> dict[str, Any]:
    said = {"id": message, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [said], "trigger": "submit-message", "messageId": None} | more


async def test_a_message_is_answered_by_one_run_however_often_it_is_sent(chats: Any) -> None:
    found = []
    for sent in (turn(), turn(), turn(message="m2"), turn("coffee?"), turn(chat="c2")):
        async with chats.client.stream("POST", "/v1/chat/talk", json=sent) as response:
            first, *_ = await parts(response, "start")
            found.append((first["messageId"], response.headers.get("idempotent-replayed")))
            location = response.headers["content-location"]
            assert location == f"/v1/runs/{first['messageId']}/output?format=ui-message"
    assert found[1] == (found[0][0], "true")
    assert len({run for run, _ in found}) == 4


async def test_a_chat_s_messages_are_the_workflow_s_arguments(chats: Any) -> None:
    sent = turn(input={"tone": "dry"}, anything="else")
    async with chats.client.stream("POST", "/v1/chat/talk", json=sent) as response:
        first, *_ = await parts(response, "start")
    run = (await chats.client.get(f"/v1/runs/{first['messageId']}")).json()
    assert run["input"] == {"prompt": "tea?", "messages": sent["messages"], "tone": "dry"}
    assert run["tags"] == ["chat:c1"]


async def test_regenerating_is_another_run(chats: Any) -> None:
    found = set()
    for _ in range(2):
        async with chats.client.stream("POST", "/v1/chat/talk", json=turn(trigger="regenerate-message")) as response:
            found.add((await parts(response, "start"))[0]["messageId"])
    assert len(found) == 2


async def test_a_workflow_that_takes_no_messages_is_no_chat(chats: Any) -> None:
    refused = await chats.client.post("/v1/chat/newsroom", json=turn())
    assert refused.status_code == 422
    assert "takes `messages` or `prompt`" in refused.json()["detail"]
    for sent in ({"id": "c"}, turn(trigger="other"), turn() | {"id": ""}):
        assert (await chats.client.post("/v1/chat/talk", json=sent)).status_code == 422
    assert (await chats.client.get("/v1/runs")).json()["data"] == []
    for method, path in (("POST", ""), ("GET", "/c1/stream"), ("POST", "/c1/stop")):
        lost = await chats.client.request(method, f"/v1/chat/none{path}", json=turn() if method == "POST" else None)
        assert (lost.status_code, lost.json()["type"]) == (404, "urn:greenroom:problem:unknown-workflow")


async def test_a_chat_is_resumed_by_its_id_while_an_answer_is_given(chats: Any) -> None:
    assert (await chats.client.get("/v1/chat/talk/c1/stream")).status_code == 204
    async with chats.client.stream("POST", "/v1/chat/talk", json=turn()) as response:
        run_id = (await parts(response, "start"))[0]["messageId"]
    await chats.hand.claim(run_id)
    await chats.hand.say(run_id, "hal", "f")
    async with chats.client.stream("GET", "/v1/chat/talk/c1/stream") as response:
        lines = [await parts(response, "text-delta")]
        assert [part.get("delta") for part in lines[0]][-1] == "half"
    assert (await chats.client.get("/v1/chat/talk/c2/stream")).status_code == 204
    await chats.hand.complete(run_id)
    assert (await chats.client.get("/v1/chat/talk/c1/stream")).status_code == 204


async def test_stopping_a_chat_cancels_what_answers_in_it(chats: Any) -> None:
    """Hanging up did not."""
    assert (await chats.client.post("/v1/chat/talk/c1/stop")).status_code == 204
    async with chats.client.stream("POST", "/v1/chat/talk", json=turn()) as response:
        run_id = (await parts(response, "start"))[0]["messageId"]
    assert (await chats.client.get(f"/v1/runs/{run_id}")).json()["status"] == "queued"
    stopped = await chats.client.post("/v1/chat/talk/c1/stop")
    assert (stopped.status_code, stopped.json()["id"]) == (202, run_id)
    assert (await chats.store.read(run_id))[-1].kind == CancelRequested.kind
