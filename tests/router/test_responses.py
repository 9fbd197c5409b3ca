"""The SDK's Responses through the router: whole, streamed, tools, structured output, pictures; and what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from .conftest import Rig, RigMaker, deployment
from .test_sdk import Report

ASKED = "Where do lighthouse keepers sleep?"
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BOTH = {"smart": (deployment("openai"), deployment("openai", "m2"))}


async def streamed(one: Rig, **options: Any) -> list[Any]:
    return [event async for event in await one.client.responses.create(model="smart", stream=True, **options)]


async def test_a_response_is_the_chats_answer_and_its_usage_is_recorded(rig: RigMaker) -> None:
    async with rig(models={"smart": (deployment("openai"),)}) as one:
        answer = await one.client.responses.create(model="smart", input=ASKED)
        chat = await one.ask()
        assert answer.output_text
        assert (answer.status, answer.output_text) == ("completed", chat.choices[0].message.content)
        assert answer.usage is not None
        assert (one.records[0].input_tokens, one.records[0].output_tokens) == (
            answer.usage.input_tokens,
            answer.usage.output_tokens,
        )
        assert one.records[0].path == "/responses"


async def test_a_stream_ends_with_the_whole_response(rig: RigMaker) -> None:
    async with rig(models=BOTH) as one:
        events = await streamed(one, input=[{"role": "user", "content": ASKED}], instructions="Answer in one line.")
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        assert events[-1].response.output_text == text
        assert one.records[0].output_tokens == events[-1].response.usage.output_tokens > 0
        assert one.records[0].first_token_s == pytest.approx(0.02)


async def test_an_answer_cut_to_length_is_incomplete_and_no_failure(rig: RigMaker) -> None:
    async with rig(models=BOTH) as one:
        answer = await one.client.responses.create(model="smart", input=ASKED, max_output_tokens=4)
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert (await streamed(one, input=ASKED, max_output_tokens=4))[-1].type == "response.incomplete"
        assert [record.status for record in one.records] == ["ok", "ok"]


async def test_a_tool_is_called_and_its_output_taken(rig: RigMaker) -> None:
    async with rig(models=BOTH) as one:
        answer = await one.client.responses.create(model="smart", input=ASKED, tools=[TOOL])
        [call] = answer.output
        assert call.type == "function_call"
        assert "city" in json.loads(call.arguments)
        events = await streamed(one, input=ASKED, tools=[TOOL])
        done = next(event for event in events if event.type == "response.function_call_arguments.done")
        assert done.arguments == "".join(event.delta for event in events if event.type.endswith("arguments.delta"))
        given: Any = [
            {"role": "user", "content": ASKED},
            call.model_dump(),
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
        ]
        assert (await one.client.responses.create(model="smart", input=given, tools=[TOOL])).output_text


async def test_structured_output_is_parsed(rig: RigMaker) -> None:
    async with rig(models=BOTH) as one:
        answer = await one.client.responses.parse(model="smart", input=ASKED, text_format=Report)
        assert isinstance(answer.output_parsed, Report)


async def test_a_picture_goes_through(rig: RigMaker) -> None:
    async with rig(models=BOTH) as one:
        parts: Any = [
            {"type": "input_text", "text": ASKED},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
        ]
        assert (
            await one.client.responses.create(model="smart", input=[{"role": "user", "content": parts}])
        ).output_text
        chat: Any = [
            {"type": "text", "text": ASKED},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
        assert (await one.ask(messages=[{"role": "user", "content": chat}])).choices[0].message.content


@pytest.mark.parametrize(
    "fault", ["error_event:after=0", "truncate:after=0", "malformed:after=0", "cut:after=0", "503"]
)
async def test_a_stream_that_fails_before_its_first_token_goes_elsewhere_unseen(rig: RigMaker, fault: str) -> None:
    async with rig(f"openai:{fault}:times=1", models=BOTH) as one:
        events = await streamed(one, input=ASKED)
        assert events[-1].type == "response.completed"
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [attempt.outcome for attempt in one.records[0].attempts] == ["unavailable", "ok"]


@pytest.mark.parametrize("fault", ["error_event", "truncate", "malformed", "cut"])
async def test_a_stream_that_fails_after_it_is_an_error_and_never_a_silent_end(rig: RigMaker, fault: str) -> None:
    async with rig(f"openai:{fault}:after=2", models=BOTH) as one:
        with pytest.raises(openai.APIError, match="stream"):
            await streamed(one, input=ASKED)
        assert [record.status for record in one.records] == ["failed"]


@pytest.mark.parametrize("given", [[], [1], 7])
async def test_what_is_no_input_is_the_callers_error(rig: RigMaker, given: Any) -> None:
    async with rig(models=BOTH) as one:
        with pytest.raises(openai.BadRequestError, match="'input'"):
            await one.client.responses.create(model="smart", input=given)
        assert len(one.statuses()) == 1


async def test_gemini_does_not_serve_them_and_is_left_out(rig: RigMaker) -> None:
    async with rig() as one:
        for _ in range(4):
            await one.client.responses.create(model="smart", input=ASKED)
        assert {provider for provider, _ in one.statuses()} == {"openai"}
