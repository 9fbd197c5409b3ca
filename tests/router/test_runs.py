"""Calls inside runs: providers that are all down park the run, and a broken stream starts its step again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import openai
import pytest

from greenroom import Retry, RunFailed, Timeout, WorkerSettings, component, emit, fan_out, llm, sleep, workflow
from greenroom.runtime import records as r
from greenroom.runtime.portraits import portrait_of, want
from greenroom.runtime.records import Event
from greenroom.runtime.router import BreakerPolicy, Limits, Router, RouterConfig, budget
from greenroom.runtime.runs import Runs
from greenroom.runtime.simulator import Fault, ProviderPlan, Simulator, SimulatorTransport
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.runtime.worker import open_worker
from greenroom.transports import open_transport

from .conftest import QUESTION, STEADY, RigMaker, deployment

ONCE = Retry(attempts=1)
FAST = BreakerPolicy(failures=3)


@component(retry=ONCE)
async def ask(number: int) -> str:
    answer = await llm.chat.completions.create(
        model="smart", messages=[{"role": "user", "content": f"lighthouse {number}"}], max_completion_tokens=8
    )
    return answer.choices[0].message.content or ""


@component(retry=ONCE)
async def tell(number: int) -> str:
    text = ""
    stream: Any = await llm.chat.completions.create(model="smart", messages=QUESTION, stream=True)
    async for chunk in stream:
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        text += piece
        await emit(piece)
    return text


@component(retry=ONCE, timeout=Timeout(attempt_s=3))
async def hurried(number: int) -> str:
    return await ask.fn(number)


@component(retry=ONCE)
async def both(number: int) -> int:
    return len(await fan_out(ask, [number, number + 100]))


@workflow
async def asks(number: int) -> str:
    return await ask(number)


@workflow
async def tells(number: int) -> str:
    return await tell(number)


@workflow
async def nests(number: int) -> int:
    return await both(number)


@workflow
async def hurries(number: int) -> str:
    return await hurried(number)


@workflow
async def spends(number: int) -> float:
    """Spend in a step, in one with steps inside, then rest so long that the run is parked, and go on elsewhere."""
    with budget(tokens=number, name="the whole run") as purse:
        await ask(1)
        await both(2)
        await sleep(3600)
        await ask(3)
        return purse.tokens


WORKFLOWS = {one.name: one for one in (asks, tells, nests, hurries, spends)}


class Stage:
    def __init__(self, runs: Runs, sim: Simulator, router: Router) -> None:
        self.runs, self.sim, self.router = runs, sim, router

    async def start(self, name: str, number: int = 0, **options: Any) -> str:
        run, _ = await self.runs.start(name, b'{"number": %d}' % number, **options)
        return run.run_id

    async def log(self, run_id: str) -> list[Event]:
        return [event async for event in self.runs.events(run_id)]


@asynccontextmanager
async def stage(*faults: str, limits: Limits | None = None, **settings: Any) -> AsyncIterator[Stage]:
    clock = asyncio.get_running_loop().time
    plans = [ProviderPlan(name=name, models=("*",), latency=STEADY) for name in ("openai", "gemini")]
    sim = Simulator(plans, faults=map(Fault.parse, faults), clock=clock)
    limits = limits or Limits(requests_per_min=6000)
    models = {"smart": tuple(deployment(name, limits=limits, breaker=FAST) for name in ("openai", "gemini"))}
    router = Router(RouterConfig(models=models, **settings), transport=SimulatorTransport(sim), seed=0)
    async with open_transport("memory://", clock=clock) as transport:
        worker = WorkerSettings(name="w", seed=0, build="test")
        async with open_worker(transport, WORKFLOWS, worker, router):
            yield Stage(Runs(transport, WORKFLOWS), sim, router)


def kinds(log: list[Event], kind: type[r.Record]) -> list[Any]:
    return [event.record for event in log if isinstance(event.record, kind)]


@pytest.mark.parametrize("name", ["asks", "nests"])
async def test_providers_that_are_all_down_park_the_run_and_it_goes_on_by_itself(name: str) -> None:
    async with stage("*:503:until=600") as one:
        scout, run_id = [await one.start(name, number) for number in range(2)]
        await one.runs.result(scout)
        log = await one.log(run_id)
        assert isinstance(log[-1].record, r.RunCompleted)
        parked = kinds(log, r.RunParked)
        assert parked
        assert all("room for smart: openai/m (down for" in record.waiting_on for record in parked)
        assert not kinds(log, r.StepRetrying)
        assert 600 <= log[-1].ts <= 670
        refused = [seen for seen in one.sim.seen if seen.status == 503]
        assert len(refused) <= 2.2 * 600 + 50
        assert len(kinds(log, r.LLMCall)) == {"asks": 1, "nests": 2}[name]
        assert all(record.status == "ok" for record in kinds(log, r.LLMCall))


async def test_a_budget_counts_what_was_spent_before_the_run_was_parked() -> None:
    """Each call once: those of steps, and of steps inside them, that answer from the log."""
    async with stage() as one:
        run_id = await one.start("spends", 1_000_000)
        await one.runs.result(run_id)
        log = await one.log(run_id)
        assert kinds(log, r.RunParked)
        calls = kinds(log, r.LLMCall)
        assert len(calls) == 4
        (done,) = kinds(log, r.RunCompleted)
        assert float(bytes(done.result)) == sum(call.input_tokens + call.output_tokens for call in calls)


async def test_a_budget_that_was_spent_before_the_run_was_parked_stays_spent() -> None:
    async with stage() as one:
        free = await one.start("spends", 1_000_000)
        await one.runs.result(free)
        before = [call.input_tokens + call.output_tokens for call in kinds(await one.log(free), r.LLMCall)][:3]
        run_id = await one.start("spends", sum(before))
        with pytest.raises(RunFailed, match="the whole run has spent"):
            await one.runs.result(run_id)
        log = await one.log(run_id)
        assert kinds(log, r.RunParked)
        assert [call.status for call in kinds(log, r.LLMCall)] == ["ok", "ok", "ok", "failed"]


async def test_the_end_of_an_outage_is_noticed_within_a_second_by_one_probe_and_not_by_a_herd() -> None:
    async with stage("*:503:until=100", limits=Limits(requests_per_min=60_000)) as one:
        runs = [await one.start("asks", number) for number in range(60)]
        for run_id in runs:
            await one.runs.result(run_id)
        at = [seen.at for seen in one.sim.seen if seen.status == 200]
        assert len(at) == 60
        assert min(at) <= 101.5
        assert max(at) <= 165
        before = [seen.at for seen in one.sim.seen if 5 <= seen.at < 100]
        assert len(before) <= 2.2 * 95  # a probe a second and provider
        assert not kinds(await one.log(runs[0]), r.RunFailed)


async def test_outside_a_run_a_call_waits_to_its_deadline_and_says_who_was_down_since_when(rig: RigMaker) -> None:
    async with rig("*:503", max_wait_s=30) as one:
        with pytest.raises(openai.InternalServerError) as caught:
            await one.ask()
        assert asyncio.get_running_loop().time() == pytest.approx(34, abs=6)
        for name in ("openai/m", "gemini/m"):
            assert f"{name} (down for " in str(caught.value)
        assert "503 The server is overloaded" in str(caught.value)
        assert "asked again in" in str(caught.value)
        assert caught.value.response.headers["retry-after"]


async def test_a_run_that_waits_for_room_says_so_and_keeps_its_tenants_turn() -> None:
    async with stage(limits=Limits(requests_per_min=30, burst_s=2)) as one:
        flood = [await one.start("asks", number, tenant="flood") for number in range(30)]
        await anyio.sleep(2)
        small = await one.start("asks", 99, tenant="small")
        log = await one.log(small)
        assert log[-1].ts < 6
        waiting = [record.message for record in kinds(await one.log(flood[-1]), r.Status)]
        assert waiting[0].startswith("waiting for smart: ")
        assert 3 <= len(waiting) <= 8
        assert not kinds(await one.log(flood[-1]), r.RunParked)


async def test_an_attempts_timeout_is_its_calls_deadline() -> None:
    async with stage(limits=Limits(requests_per_min=6, burst_s=10)) as one:
        for number in range(5):
            await one.start("asks", number)
        await anyio.sleep(0.5)
        hurried_run = await one.start("hurries", 9)
        with pytest.raises(RunFailed, match=r"smart.* is expected to have room in"):
            await one.runs.result(hurried_run)
        assert asyncio.get_running_loop().time() < 2


@pytest.mark.parametrize("kind", ["cut", "truncate", "error_event"])
async def test_a_stream_that_breaks_after_its_first_token_starts_its_step_again_if_told_to(kind: str) -> None:
    async with stage(f"*:{kind}:after=3:times=2", stream_failover="reset") as one:
        run_id = await one.start("tells")
        result = await one.runs.result(run_id)
        log = await one.log(run_id)
        assert len(kinds(log, r.OutputReset)) == 2
        assert not kinds(log, r.StepRetrying)
        shown = ""
        for event in log:
            if isinstance(event.record, r.OutputReset):
                shown = ""
            elif isinstance(event.record, r.OutputDelta):
                shown += event.record.text
        assert shown == msgspec.json.decode(result)


async def test_it_does_not_start_again_for_ever_and_not_unless_told_to() -> None:
    async with stage("*:cut:after=3:times=50", stream_failover="reset") as one:
        with pytest.raises(RunFailed, match="stream cut"):
            await one.runs.result(await one.start("tells"))
        assert sum(seen.status == 200 for seen in one.sim.seen) == 6
    async with stage("*:cut:after=3:times=1") as one:
        with pytest.raises(RunFailed, match="stream cut"):
            await one.runs.result(await one.start("tells"))


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_day_of_incidents_loses_nothing() -> None:
    """Both providers fail in turns and together, limits change, answers get slow; 1,056 runs start over the day."""
    hour = 3600
    faults = [
        f"openai:503:from={2 * hour}:until={4 * hour}",
        f"gemini:rate_limit:share=0.5:from={3 * hour}:until={5 * hour}",
        f"*:503:from={6 * hour}:until={7 * hour}",
        f"gemini:stall:share=0.2:from={8 * hour}:until={9 * hour}",
        f"openai:brown_out:factor=20:from={10 * hour}:until={12 * hour}",
        f"*:html:share=0.3:from={13 * hour}:until={14 * hour}",
        f"gemini:reset:from={15 * hour}:until={18 * hour}",
        f"openai:cut:share=0.5:after=0:from={16 * hour}:until={17 * hour}",
        f"*:529:from={20 * hour}:until={20 * hour + 600}",
    ]
    strict = Enforced(requests_per_min=12, burst_s=60)
    async with stage(*faults) as one, anyio.create_task_group() as group:

        async def tighten() -> None:
            """Gemini allows less than is configured for an hour, and says so by 429s alone."""
            counts = one.sim.providers["gemini"].counts
            await anyio.sleep(hour / 2)
            one.sim.limit({"gemini": strict})
            before = counts.get("429", 0)
            await anyio.sleep(hour)
            one.sim.limit({"gemini": Enforced()})
            refused.append(counts.get("429", 0) - before)

        group.start_soon(tighten)
        refused: list[int] = []
        runs = []
        for number in range(360):
            burst = 30 if number % 15 == 0 else 1
            runs += [await one.start("asks", 1000 * number + part) for part in range(burst)]
            await anyio.sleep(240)
        for run_id in runs:
            assert await one.runs.result(run_id)
        seen = {record.status for record in one.sim.seen}
        assert {200, 429, 503, 529, 0} <= seen
        assert 0 < refused[0] <= 20
        assert one.sim.over_limit_windows() <= refused[0]  # a limit that nobody tells is found by a refusal


async def test_whoever_looks_at_a_worker_sees_where_the_calls_of_its_runs_went() -> None:
    async with stage("openai:503:share=1") as one:
        await want(one.runs.transport)
        run = await one.start("asks", 1)
        await one.log(run)
        await anyio.sleep(10)
        portrait = await portrait_of(one.runs.transport, "w")
        assert portrait is not None
        [decision] = portrait.decisions
        [call] = kinds(await one.log(run), r.LLMCall)
        assert (decision.run_id, decision.step, decision.deployment) == (run, call.step, call.deployment)
        assert decision.asked_model == "smart"
        assert decision.tried[-1] == "gemini/m: ok"
        lanes = {lane.deployment: lane for lane in portrait.deployments}
        assert lanes["gemini/m"].outcomes == {"ok": 1}
        assert len(lanes["gemini/m"].latencies) == 1
        assert lanes["gemini/m"].requests_per_min == 6000
        assert portrait.lines[0].waiting == 0
