"""Libraries that take an OpenAI client take `llm`: inside a run their calls are routed and recorded like any other.

pydantic-ai is always tested. instructor asks for an older SDK than the one that is pinned for development, so its test
runs where it is installed.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from greenroom import WorkerSettings, component, emit, llm, workflow
from greenroom.runtime import records as r
from greenroom.runtime.router import Router, RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.simulator import IN_PROCESS, Fault, Simulator, SimulatorTransport
from greenroom.runtime.worker import open_worker
from greenroom.transports import open_transport


class City(BaseModel):
    name: str
    people: int


ROUTED = OpenAIProvider(openai_client=llm)


@component
async def describe(city: str) -> str:
    found = await Agent(OpenAIChatModel("smart", provider=ROUTED), output_type=City).run(f"Describe {city}")
    return found.output.name


@component
async def narrate(city: str) -> str:
    text = ""
    async with Agent(OpenAIChatModel("smart", provider=ROUTED)).run_stream(f"Tell about {city}") as told:
        async for piece in told.stream_text(delta=True):
            text += piece
            await emit(piece)
    return text


@component
async def respond(city: str) -> str:
    return (await Agent(OpenAIResponsesModel("gpt-5.2", provider=ROUTED)).run(f"Tell about {city}")).output


@component
async def instruct(city: str) -> str:
    instructor = pytest.importorskip("instructor", reason="instructor wants an older SDK")
    client = instructor.from_openai(llm)
    messages = [{"role": "user", "content": f"Describe {city}"}]
    found: City = await client.chat.completions.create(model="smart", response_model=City, messages=messages)
    return found.name


@workflow
async def tours(which: str) -> str:
    parts = {"describe": describe, "narrate": narrate, "respond": respond, "instruct": instruct}
    return await parts[which]("Bremerhaven")


async def run(which: str, sim: Simulator) -> tuple[str, list[Any], str]:
    """Run the workflow; return its result, its calls and its output."""
    router = Router(RouterConfig.from_env(IN_PROCESS), transport=SimulatorTransport(sim))
    async with (
        open_transport("memory://") as transport,
        open_worker(transport, {"tours": tours}, WorkerSettings(name="w"), router),
    ):
        runs = Runs(transport, {"tours": tours})
        started, _ = await runs.start("tours", msgspec.json.encode({"which": which}))
        result = msgspec.json.decode(await runs.result(started.run_id), type=str)
        records = [event.record async for event in runs.events(started.run_id)]
    shown = "".join(record.text for record in records if isinstance(record, r.OutputDelta))
    return result, [record for record in records if isinstance(record, r.LLMCall)], shown


@pytest.mark.parametrize(("which", "model"), [("describe", "smart"), ("respond", "gpt-5.2"), ("instruct", "smart")])
async def test_their_calls_are_routed_and_recorded(which: str, model: str) -> None:
    if which == "instruct":
        pytest.importorskip("instructor", reason="it wants an older SDK")
    result, [call], _ = await run(which, Simulator(faults=[Fault.parse("openai:503:times=1")]))
    assert result
    assert (call.status, call.asked_model) == ("ok", model)
    assert call.output_tokens > 0


async def test_their_streams_are_shown_as_they_come() -> None:
    result, [call], shown = await run("narrate", Simulator())
    assert shown == result
    assert call.stream
