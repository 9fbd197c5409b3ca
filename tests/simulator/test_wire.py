"""What the simulated providers say on the wire, in process and on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest

from greenroom.runtime.simulator import (
    NOTICE,
    Fault,
    Latency,
    Limits,
    ProviderPlan,
    Simulator,
    SimulatorTransport,
    simulator_app,
)

OPENAI, GEMINI = "http://sim/openai/v1", "http://sim/gemini/v1beta/openai"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Which harbour has the oldest crane?"}]}


def simulator(*faults: str, seed: int = 0, limits: Limits | None = None) -> Simulator:
    latency = Latency(first_token_s=0.2, tokens_per_s=100, jitter=0.3)
    return Simulator(
        [
            ProviderPlan(name=name, models=("m",), limits=limits or Limits(), latency=latency)
            for name in ("openai", "gemini")
        ],
        faults=map(Fault.parse, faults),
        seed=seed,
    )


def client(sim: Simulator) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=SimulatorTransport(sim), headers={"authorization": "Bearer k"})


async def say(sim: Simulator, base: str, **changes: Any) -> httpx2.Response:
    async with client(sim) as http:
        return await http.post(f"{base}/chat/completions", json={**ASK, **changes})


def events(response: httpx2.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [msgspec.json.decode(line) for line in lines[:-1]]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_seed_gives_the_same_answer_at_the_same_time(stream: bool) -> None:
    loop, found = asyncio.get_running_loop(), []
    for seed in (1, 1, 2):
        started = loop.time()
        response = await say(simulator(seed=seed), OPENAI, stream=stream)
        found.append((response.text, round(loop.time() - started, 6)))
    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_every_answer_says_what_it_is() -> None:
    sim = simulator("gemini:503:times=1", "gemini:html:times=1")
    async with client(sim) as http:
        responses = [
            await say(sim, OPENAI),
            await say(sim, OPENAI, stream=True),
            await say(sim, GEMINI),
            await say(sim, GEMINI),
            await say(sim, GEMINI, model="unknown"),
            await http.get(f"{OPENAI}/models"),
            await http.get("http://sim/elsewhere"),
        ]
    assert [response.headers["x-greenroom-simulator"] for response in responses] == [NOTICE] * 7
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(simulator_app(sim))) as http:
        assert (await http.get("http://sim/_sim/state")).json()["notice"] == NOTICE


async def test_openai_tells_its_limits_and_how_long_to_wait() -> None:
    sim = simulator(limits=Limits(requests_per_min=60, burst_s=2))
    first = await say(sim, OPENAI, max_tokens=3)
    assert first.headers["x-ratelimit-limit-requests"] == "60"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    answers = await asyncio.gather(*(say(sim, OPENAI, max_tokens=3) for _ in range(4)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) in (2, 3)
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(refused[0].headers["retry-after-ms"]) <= 1000
    await asyncio.sleep(int(refused[0].headers["retry-after-ms"]) / 1000)
    assert (await say(sim, OPENAI)).status_code == 200


async def test_gemini_refuses_with_a_list_and_no_headers() -> None:
    sim = simulator(limits=Limits(requests_per_min=60, burst_s=1))
    await say(sim, GEMINI, max_tokens=3)
    refused = (await asyncio.gather(*(say(sim, GEMINI) for _ in range(2))))[1]
    assert refused.status_code == 429
    [found] = refused.json()
    assert found["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert found["error"]["details"][0]["retryDelay"].endswith("s")
    assert not [name for name in refused.headers if name.startswith(("x-ratelimit", "retry-after"))]
    assert (await say(sim, GEMINI, seed=3)).json()[0]["error"]["status"] == "INVALID_ARGUMENT"


async def test_tokens_are_reserved_and_what_was_not_used_goes_back() -> None:
    sim = simulator(limits=Limits(tokens_per_min=1000))
    assert (await say(sim, OPENAI, max_tokens=900)).status_code == 200
    assert (await say(sim, OPENAI, max_tokens=500)).status_code == 200
    both = await asyncio.gather(*(say(sim, OPENAI, max_tokens=500) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [200, 429]


async def test_more_calls_than_places_are_refused() -> None:
    sim = simulator(limits=Limits(concurrency=1))
    both = await asyncio.gather(*(say(sim, OPENAI) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [200, 429]
    assert sim.providers["openai"].in_flight == 0


async def test_usage_comes_at_the_end_for_who_asks_and_in_every_chunk_from_gemini() -> None:
    sim = simulator()
    plain = events(await say(sim, OPENAI, stream=True))
    assert not any("usage" in event for event in plain)
    assert plain[-1]["choices"][0]["finish_reason"] == "stop"
    asked = events(await say(sim, OPENAI, stream=True, stream_options={"include_usage": True}))
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["completion_tokens"] > 0
    assert all("usage" in event for event in events(await say(sim, GEMINI, stream=True)))


async def test_a_stream_says_what_the_whole_answer_says() -> None:
    sim = simulator()
    whole = (await say(sim, OPENAI)).json()["choices"][0]["message"]["content"]
    streamed = events(await say(sim, OPENAI, stream=True))
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in streamed) == whole


async def test_an_answer_is_cut_to_the_length_that_was_asked_for() -> None:
    choice = (await say(simulator(), OPENAI, max_completion_tokens=5)).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 20


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"model": "x"}, 404, "does not exist"),
        ({"model": 3}, 400, "must provide a model"),
        ({"messages": []}, 400, "non-empty"),
    ],
)
async def test_bad_requests_are_refused_as_the_providers_do(changes: dict[str, Any], status: int, says: str) -> None:
    response = await say(simulator(), OPENAI, **changes)
    assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")
    assert says in response.json()["error"]["message"]


async def test_a_request_without_a_key_is_refused() -> None:
    async with httpx2.AsyncClient(transport=SimulatorTransport(simulator())) as http:
        assert (await http.post(f"{OPENAI}/chat/completions", json=ASK)).status_code == 401


async def test_a_fault_strikes_when_where_and_as_often_as_it_says() -> None:
    sim = simulator("openai:500:times=1", "openai:502:from=10:until=20")
    assert [(await say(sim, base)).status_code for base in (OPENAI, OPENAI, GEMINI)] == [500, 200, 200]
    await asyncio.sleep(11 - sim.now())
    assert [(await say(sim, base)).status_code for base in (OPENAI, GEMINI)] == [502, 200]
    await asyncio.sleep(20 - sim.now())
    assert (await say(sim, OPENAI)).status_code == 200


async def test_a_share_of_the_calls_is_hit_the_same_ones_for_a_seed() -> None:
    async def struck(seed: int) -> list[int]:
        sim = simulator("*:503:share=0.5", seed=seed)
        return [(await say(sim, OPENAI, max_tokens=1)).status_code for _ in range(40)]

    assert await struck(1) == await struck(1)
    assert await struck(1) != await struck(2)
    assert 8 <= (await struck(1)).count(503) <= 32


async def test_limits_change_under_way_and_each_minute_is_judged_by_those_of_its_time() -> None:
    sim = simulator(limits=Limits(requests_per_min=60))
    for _ in range(30):
        assert (await say(sim, GEMINI, max_tokens=1)).status_code == 200
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(simulator_app(sim))) as http:
        refused = await http.post("http://sim/_sim/limits", json={"gemini": {"requests_per_min": 1}, "none": {}})
        assert (refused.status_code, "'none' is not simulated" in refused.text) == (400, True)
        assert (await say(sim, GEMINI, max_tokens=1)).status_code == 200
        state = (await http.post("http://sim/_sim/limits", json={"gemini": {"requests_per_min": 2}})).json()
    assert state["providers"]["gemini"]["limits"]["requests_per_min"] == 2
    await asyncio.sleep(120)
    assert [(await say(sim, GEMINI, max_tokens=1)).status_code for _ in range(3)] == [200, 200, 429]
    assert sim.over_limit_windows() == 1
    assert (await say(sim, OPENAI)).status_code == 200
