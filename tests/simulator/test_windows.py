"""The record by which law 8 is checked, and the faults that make answers late."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime.simulator import (
    Fault,
    Latency,
    Limits,
    PlanInvalid,
    ProviderPlan,
    Simulator,
    SimulatorTransport,
    tier_plans,
)
from greenroom.runtime.simulator.windows import Windows


@given(at=st.lists(st.floats(0, 300), max_size=60), limit=st.integers(1, 10))
def test_over_is_what_counting_every_window_finds(at: list[float], limit: int) -> None:
    windows = Windows()
    for one in at:
        windows.add(one, 10)
    starts = {int(one) for one in at}
    counts = [sum(start <= int(one) < start + 60 for one in at) for start in starts]
    assert windows.over(Limits(requests_per_min=limit)) == sum(count > limit for count in counts)
    assert windows.over(Limits(tokens_per_min=limit * 10)) == sum(count > limit for count in counts)
    assert windows.over(Limits()) == 0
    assert windows.busiest() == (max(counts, default=0), 10 * max(counts, default=0))


async def ask(http: httpx2.AsyncClient) -> tuple[int, float]:
    started = asyncio.get_running_loop().time()
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    answer = await http.post("/openai/v1/chat/completions", json=body, headers={"authorization": "Bearer k"})
    return answer.status_code, asyncio.get_running_loop().time() - started


def client(*faults: str, limits: Limits | None = None) -> tuple[Simulator, httpx2.AsyncClient]:
    plan = ProviderPlan(
        name="openai",
        models=("*",),
        limits=limits or Limits(),
        latency=Latency(first_token_s=1.0, tokens_per_s=0, jitter=0),
    )
    sim = Simulator([plan], faults=map(Fault.parse, faults), clock=asyncio.get_running_loop().time)
    return sim, httpx2.AsyncClient(transport=SimulatorTransport(sim), base_url="http://simulator.invalid")


async def test_a_client_that_ignores_limits_is_found_out_also_by_what_was_refused() -> None:
    sim, http = client(limits=Limits(requests_per_min=5))
    async with http:
        for _ in range(6):
            await ask(http)
        assert sim.over_limit_windows() == 1
        assert sim.state()["over_limit_windows"] == 1


async def test_a_ramp_gets_slower_up_to_its_factor() -> None:
    _, http = client("openai:ramp:until=100:factor=11")
    async with http:
        took = []
        for _ in range(14):
            took.append((await ask(http))[1])
        assert took == sorted(took)
        assert 1 <= took[0] < 1.2
        assert took[-1] > 2


async def test_a_brown_out_is_slow_and_refuses_some() -> None:
    _, http = client("openai:brown_out:factor=4")
    async with http:
        answers = [await ask(http) for _ in range(60)]
        refused = sum(status == 503 for status, _ in answers)
        assert 8 <= refused <= 30
        assert {took for status, took in answers if status == 200} == {4.0}


def test_tiers_and_ramps_that_make_no_sense_are_refused() -> None:
    assert tier_plans("1")[0].limits.requests_per_min == 500
    with pytest.raises(PlanInvalid, match="tier 'gold' is unknown: give free, 1"):
        tier_plans("gold")
    with pytest.raises(PlanInvalid, match="a ramp has to end: give until"):
        Fault.parse("openai:ramp")
    with pytest.raises(PlanInvalid, match="factor makes no sense"):
        Fault.parse("openai:brown_out:factor=0.5")
