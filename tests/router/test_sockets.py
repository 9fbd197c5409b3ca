"""The same over real sockets: the SDK, the router, and the simulator as a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from greenroom.runtime.router import Router, RouterConfig
from greenroom.runtime.simulator import Fault, Latency, ProviderPlan, Simulator, serve_simulator

from .conftest import LOOPS, QUESTION

FAST = Latency(first_token_s=0.001, tokens_per_s=0, jitter=0)
PLANS = tuple(ProviderPlan(name=name, models=("*",), latency=FAST) for name in ("openai", "gemini"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def served(*faults: str) -> AsyncIterator[tuple[openai.AsyncOpenAI, Router, Simulator]]:
    sim = Simulator(PLANS, faults=map(Fault.parse, faults))
    async with serve_simulator(sim) as at, Router(RouterConfig.from_env(at.env)) as router:
        yield router.client(), router, sim


async def read(client: openai.AsyncOpenAI) -> str:
    stream: Any = await client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@pytest.mark.parametrize(
    "fault", ["", "openai:cut:after=0", "openai:reset", "openai:truncate:after=0", "openai:503", "gemini:html"]
)
@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_calls_and_streams_are_answered_whatever_one_provider_does(fault: str) -> None:
    async with served(*filter(None, [fault])) as (client, router, sim):
        answers = await asyncio.gather(*(read(client) for _ in range(6)))
        whole = await client.chat.completions.create(model="smart", messages=QUESTION)
        assert all(answers)
        assert whole.choices[0].message.content
        assert all(lane.in_flight == 0 for lane in router.snapshot())
        assert sim.seen


async def test_a_connection_cut_in_mid_stream_is_an_error_and_not_an_end() -> None:
    async with served("*:cut:after=2") as (client, _, _):
        with pytest.raises(openai.APIError, match="stream cut"):
            await read(client)


@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_a_provider_that_is_not_there_is_named() -> None:
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    config = RouterConfig(models=RouterConfig.from_env(env).models, max_attempts=1, max_wait_s=1)
    async with Router(config) as router:
        with pytest.raises(
            openai.InternalServerError,
            match=r"openai/gpt-5.2 \(down for .*: no connection to 127.0.0.1:9: Connection refused",
        ):
            await router.client().chat.completions.create(model="smart", messages=QUESTION)
