"""The real SDK through the router: everything of it that an application uses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from greenroom import llm
from greenroom.runtime.router import Limits, Prices, Router, RouterConfig
from greenroom.runtime.simulator import IN_PROCESS, Latency

from .conftest import QUESTION, RigMaker, deployment

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Report(BaseModel):
    title: str
    stars: int


@pytest.mark.parametrize("provider", ["openai", "gemini"])
class TestEveryProvider:
    async def test_chat(self, rig: RigMaker, provider: str) -> None:
        async with rig(models={"smart": (deployment(provider),)}) as one:
            answer = await one.ask(seed=7, user="somebody")  # Gemini refuses these two: they are left out
            assert answer.choices[0].finish_reason == "stop"
            [record] = one.records
            assert (record.input_tokens, record.output_tokens) == (
                answer.usage.prompt_tokens,
                answer.usage.completion_tokens,
            )
            assert (record.asked_model, record.model, record.reason) == ("smart", "m", "room")

    async def test_streaming_shows_usage_only_to_who_asked(self, rig: RigMaker, provider: str) -> None:
        async with rig(models={"smart": (deployment(provider),)}) as one:
            plain = [chunk async for chunk in await one.ask(stream=True)]
            asked = [chunk async for chunk in await one.ask(stream=True, stream_options={"include_usage": True})]
            assert all(chunk.choices for chunk in plain)
            assert asked[-1].usage is not None
            assert all(record.output_tokens > 0 for record in one.records)
            assert all(record.first_token_s == pytest.approx(0.02) for record in one.records)

    async def test_a_tool_call(self, rig: RigMaker, provider: str) -> None:
        async with rig(models={"smart": (deployment(provider),)}) as one:
            answer = await one.ask(tools=[TOOL])
            [call] = answer.choices[0].message.tool_calls
            assert call.function.name == "weather"
            assert "city" in json.loads(call.function.arguments)
            streamed = [chunk async for chunk in await one.ask(tools=[TOOL], stream=True)]
            assert streamed[-1].choices[0].finish_reason == "tool_calls"

    async def test_structured_output(self, rig: RigMaker, provider: str) -> None:
        async with rig(models={"smart": (deployment(provider),)}) as one:
            answer = await one.client.chat.completions.parse(
                model="smart",
                messages=QUESTION,
                response_format=Report,
            )
            assert isinstance(answer.choices[0].message.parsed, Report)

    async def test_embeddings(self, rig: RigMaker, provider: str) -> None:
        async with rig(models={"embed": (deployment(provider),)}) as one:
            found = await one.client.embeddings.create(model="embed", input=["one", "two"], dimensions=8)
            assert [len(item.embedding) for item in found.data] == [8, 8]
            assert one.records[0].input_tokens == 2


async def test_models_are_listed(rig: RigMaker) -> None:
    async with rig() as one:
        assert [model.id async for model in one.client.models.list()] == ["m", "smart"]


async def test_an_unknown_model_is_one_clear_sentence(rig: RigMaker) -> None:
    async with rig() as one:
        with pytest.raises(openai.NotFoundError, match="no model is named 'smarter': this router has m, smart"):
            await one.ask("smarter")
        assert not one.sim.seen


async def test_no_key_is_one_clear_sentence() -> None:
    async with Router(RouterConfig.from_env({})) as router:
        with pytest.raises(openai.AuthenticationError, match="set OPENAI_API_KEY or GEMINI_API_KEY"):
            await router.client().chat.completions.create(model="smart", messages=QUESTION)


async def test_llm_outside_a_router_is_one_clear_sentence() -> None:
    with pytest.raises(openai.BadRequestError, match="llm was called outside a run"):
        await llm.chat.completions.create(model="smart", messages=QUESTION)


async def test_llm_inside_a_router_uses_it(rig: RigMaker) -> None:
    async with rig() as one:
        await llm.chat.completions.create(model="smart", messages=QUESTION)
        assert len(one.records) == 1


async def test_a_closed_router_is_one_clear_sentence(rig: RigMaker) -> None:
    async with rig() as one:
        pass
    with pytest.raises(openai.InternalServerError, match="the router is not open"):
        await one.ask()


async def test_closing_the_router_turns_away_who_waits(rig: RigMaker) -> None:
    models = {"smart": (deployment("openai", limits=Limits(requests_per_min=1)),)}
    async with rig(models=models) as one:
        await one.ask()
        waits = asyncio.gather(one.ask(), one.ask(), return_exceptions=True)
        await asyncio.sleep(1)
        assert one.router.waiting == 2
    assert ["closed while" in str(error) for error in await waits] == [True, True]


async def test_a_path_that_no_deployment_serves_is_refused_and_breaks_nothing(rig: RigMaker) -> None:
    async with rig(models={"smart": (deployment("gemini"),)}) as one:
        with pytest.raises(openai.NotFoundError, match="no deployment of 'smart' serves /responses"):
            await one.client.responses.create(model="smart", input="hello")
        await one.ask()


async def test_what_is_no_json_post_is_refused(rig: RigMaker) -> None:
    async with rig() as one:
        with pytest.raises(openai.BadRequestError, match="GET /files is not routed"):
            await one.client.files.list()


async def test_a_call_larger_than_every_limit_is_the_callers_error(rig: RigMaker) -> None:
    async with rig(limits=Limits(tokens_per_min=100)) as one:
        with pytest.raises(openai.BadRequestError, match="more than any deployment of 'smart' is allowed in a minute"):
            await one.ask(max_completion_tokens=200)


async def test_a_call_that_finds_no_room_in_time_is_told_who_is_busy(rig: RigMaker) -> None:
    async with rig(limits=Limits(requests_per_min=1), max_wait_s=5) as one:
        answers = await asyncio.gather(*(one.ask() for _ in range(3)), return_exceptions=True)
        [error] = [answer for answer in answers if isinstance(answer, Exception)]
        assert isinstance(error, openai.InternalServerError)
        assert "no deployment of 'smart' had room within 5 s: openai/m (closed: busy)" in str(error)
        assert error.response.headers["retry-after"]


async def test_a_timeout_of_the_caller_is_a_timeout_error_and_frees_the_place(rig: RigMaker) -> None:
    async with rig("*:stall") as one:
        with pytest.raises(openai.APITimeoutError):
            await one.ask(timeout=1.5)
        assert asyncio.get_running_loop().time() == pytest.approx(1.5)
        assert sum(lane.in_flight for lane in one.router.snapshot()) == 0
        assert {outcome for lane in one.router.snapshot() for outcome in lane.outcomes} == {"canceled"}


async def test_a_stream_that_is_not_read_to_its_end_gives_its_place_back(rig: RigMaker) -> None:
    async with rig(latency=Latency(first_token_s=0.1, tokens_per_s=30, jitter=0)) as one:
        async with await one.ask(stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        unread = await one.ask(stream=True)
        await unread.close()
        assert sum(lane.in_flight for lane in one.router.snapshot()) == 0
        assert [record.status for record in one.records] == ["closed", "closed"]


async def test_a_reader_that_went_away_holds_a_place_no_longer_than_the_total_timeout(rig: RigMaker) -> None:
    async with rig() as one:
        kept = await one.ask(stream=True)
        await asyncio.sleep(21)
        assert sum(lane.in_flight for lane in one.router.snapshot()) == 0
        with pytest.raises(openai.APIError, match="total timeout"):
            async for _ in kept:
                pass


async def test_router_request_answers_in_openais_shape(rig: RigMaker) -> None:
    async with rig() as one:
        response = await one.router.request("/chat/completions", {"model": "smart", "messages": QUESTION})
        assert response.json()["choices"][0]["message"]["content"]
        refused = await one.router.request("/chat/completions", {"model": "smart", "messages": []})
        assert (refused.status_code, set(refused.json()["error"])) == (400, {"message", "type", "param", "code"})


async def test_prices_make_costs(rig: RigMaker) -> None:
    async with rig(models={"smart": (deployment("openai", prices=Prices(input=1.0, output=10.0)),)}) as one:
        await one.ask()
        [record] = one.records
        assert record.cost_usd == pytest.approx((record.input_tokens + 10 * record.output_tokens) / 1e6)


def test_the_environment_of_the_simulator_makes_a_router() -> None:
    config = RouterConfig.from_env(IN_PROCESS)
    assert set(config.models) == {"smart", "fast", "embed"}
