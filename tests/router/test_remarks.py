"""What answers say of themselves gets into the account of the call, whole or streamed; nonsense does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime.calls import llm_record
from greenroom.runtime.records import LLMCall, decode, encode
from greenroom.runtime.router import CallRecord, Router, RouterConfig, observer
from greenroom.runtime.router.remarks import Remarks, remarks_of
from greenroom.transports import Stored

from .conftest import QUESTION, RigMaker, deployment

CHAT = {
    "id": "chatcmpl-7",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
    ],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 192},
    },
}
RESPONSE = {
    "id": "resp_7",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "output": [],
    "usage": {
        "input_tokens": 328,
        "input_tokens_details": {"cached_tokens": 256},
        "output_tokens": 52,
        "output_tokens_details": {"reasoning_tokens": 40},
    },
}


def test_a_chat_and_a_response_say_it_in_their_own_places() -> None:
    assert remarks_of(CHAT) == Remarks(
        response_id="chatcmpl-7", finish_reasons=("stop", "length"), cached_tokens=1920, reasoning_tokens=192
    )
    assert remarks_of(RESPONSE) == Remarks(
        response_id="resp_7", finish_reasons=("max_output_tokens",), cached_tokens=256, reasoning_tokens=40
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "usage",
                    "choices",
                    "finish_reason",
                    "status",
                    "incomplete_details",
                    "reason",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "output_tokens_details",
                    "reasoning_tokens",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=4))
def test_whatever_comes_the_account_stays_an_account(chunks: list[Any]) -> None:
    remarks = Remarks()
    for chunk in chunks:
        remarks = remarks_of(chunk, remarks)
    assert msgspec.json.decode(msgspec.json.encode(remarks), type=Remarks) == remarks
    assert remarks.cached_tokens >= 0
    assert len(remarks.response_id) <= 200
    assert len(remarks.finish_reasons) <= 16


class Provider(httpx2.AsyncBaseTransport):
    """Answers every call with one body."""

    def __init__(self, body: bytes, kind: str = "application/json") -> None:
        self._body = body
        self._kind = kind

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        async def blocks() -> AsyncIterator[bytes]:
            yield self._body

        return httpx2.Response(200, headers={"content-type": self._kind}, content=blocks())


async def told(provider: Provider, **options: Any) -> CallRecord:
    """Make a call; the account of it."""
    records: list[CallRecord] = []
    config = RouterConfig(models={"smart": (deployment("openai"),)})
    token = observer.set(records.append)
    try:
        async with Router(config, transport=provider) as router:
            answer = await router.client().chat.completions.create(model="smart", messages=QUESTION, **options)
            if options:
                async for _ in answer:
                    pass
    finally:
        observer.reset(token)
    [record] = records
    return record


async def test_a_whole_answer_s_remarks_are_told() -> None:
    record = await told(Provider(json.dumps(CHAT).encode()))
    assert record.remarks == remarks_of(CHAT)
    assert (record.input_tokens, record.output_tokens) == (2006, 300)


async def test_a_stream_s_remarks_are_gathered_from_its_chunks() -> None:
    def chunk(**more: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}

    chunks = [
        chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        *(chunk(choices=[{"index": 0, "delta": {"content": "tea "}, "finish_reason": None}]) for _ in range(5)),
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk(choices=[], usage=CHAT["usage"]),
    ]
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks) + b"data: [DONE]\n\n"
    record = await told(Provider(body, "text/event-stream"), stream=True)
    assert record.remarks == Remarks(
        response_id="chatcmpl-7", finish_reasons=("stop",), cached_tokens=1920, reasoning_tokens=192
    )


async def test_the_simulator_s_answers_have_an_id_and_a_reason(rig: RigMaker) -> None:
    async with rig() as one:
        await one.ask()
        await one.read()
        await one.ask(max_completion_tokens=2)
        for record in one.records:
            assert record.remarks.response_id
        assert [record.remarks.finish_reasons for record in one.records] == [("stop",), ("stop",), ("length",)]


def test_they_are_in_the_log_s_record_and_a_log_without_them_is_read_as_ever() -> None:
    call = CallRecord(
        status="ok", deployment="d", provider="openai", model="m", asked_model="smart", input_tokens=9, output_tokens=1,
        cost_usd=None, latency_s=1.0, first_token_s=None, queued_s=0.0, stream=False, reason="room", attempts=(),
        remarks=remarks_of(CHAT),
    )  # fmt: skip
    record = llm_record(call)
    entry = encode(record)
    assert decode(Stored(1, 0.0, entry.kind, entry.body)).record == record
    assert record.finish_reasons == ("stop", "length")
    old = msgspec.json.decode(entry.body)
    for name in ("cached_tokens", "reasoning_tokens", "response_id", "finish_reasons"):
        del old[name]
    read = decode(Stored(1, 0.0, entry.kind, msgspec.json.encode(old))).record
    assert isinstance(read, LLMCall)
    assert (read.cached_tokens, read.response_id, read.finish_reasons, read.input_tokens) == (0, "", (), 9)


@pytest.mark.parametrize("bad", [-1, True, "7", 1.5, 2**60, None])
def test_a_number_that_cannot_be_is_left_out(bad: Any) -> None:
    assert remarks_of({"usage": {"prompt_tokens_details": {"cached_tokens": bad}}}).cached_tokens == 0
