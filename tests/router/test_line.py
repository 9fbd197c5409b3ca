"""Who waits, how long, and who is told: deadlines, shedding, tenants, positions."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.runtime.router import Limits, Position, Standing, Tenant, standing
from greenroom.runtime.router.scheduler import Scheduler
from greenroom.runtime.testing.clock import virtual_backend

from .conftest import QUESTION, Rig, RigMaker, deployment, open_rig
from .test_scheduler import Desk, lane, now, routes

STEADY_60: dict[str, Any] = {"limits": Limits(requests_per_min=60, burst_s=1)}


def single(**fields: Any) -> dict[str, Any]:
    return {"smart": (deployment("openai", **fields),)}


async def body(one: Rig, **options: Any) -> Any:
    return await one.router.request("/chat/completions", {"model": "smart", "messages": QUESTION}, **options)


async def test_a_call_whose_deadline_cannot_be_met_is_shed_at_once_and_told_when_to_come_again(rig: RigMaker) -> None:
    async with rig(models=single(**STEADY_60)) as one, anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(one.ask)
        await anyio.sleep(0.1)
        shed = await body(one, deadline_s=5)
        assert asyncio.get_running_loop().time() == pytest.approx(0.1)
        assert (shed.status_code, shed.json()["error"]["code"]) == (503, "deadline_unmet")
        assert 20 <= int(shed.headers["retry-after"]) <= 26
        assert "the call has 5.0 s left" in shed.json()["error"]["message"]
        await anyio.sleep(int(shed.headers["retry-after"]))
        assert (await body(one, deadline_s=5)).status_code == 200


async def test_the_deadline_of_the_scope_a_call_is_made_in_counts(rig: RigMaker) -> None:
    async with rig(models=single(**STEADY_60)) as one, anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(one.ask)
        await anyio.sleep(0.1)
        with anyio.fail_after(5), pytest.raises(openai.InternalServerError, match="expected to have room in"):
            await one.ask()


async def test_a_call_that_has_time_is_not_shed(rig: RigMaker) -> None:
    async with rig(models=single(**STEADY_60)) as one, anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one.ask)
        await anyio.sleep(0.1)
        assert (await body(one, deadline_s=12)).status_code == 200


async def test_an_answer_that_comes_too_late_is_a_504_that_blames_nobody(rig: RigMaker) -> None:
    async with rig("*:stall", models=single()) as one:
        late = await body(one, deadline_s=2)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
        assert asyncio.get_running_loop().time() == 2
        assert one.router.snapshot()[0].breaker == "closed"
        assert one.router.snapshot()[0].in_flight == 0


async def test_headers_say_a_calls_standing(rig: RigMaker) -> None:
    async with rig(models=single(**STEADY_60)) as one, anyio.create_task_group() as group:
        ended: list[str] = []

        async def ask(name: str, **headers: str) -> None:
            await one.ask(extra_headers={f"x-greenroom-{key}": value for key, value in headers.items()})
            ended.append(name)

        for number in range(3):
            group.start_soon(ask, f"{number}")
        await anyio.sleep(0.1)

        async def urgent() -> None:
            await ask("urgent", priority="3")

        group.start_soon(urgent)
        with pytest.raises(openai.BadRequestError, match="x-greenroom-priority is 'high': give a number"):
            await ask("wrong", priority="high")
    assert ended == ["0", "urgent", "1", "2"]


async def test_tenants_take_turns_by_weight_however_many_calls_one_has(rig: RigMaker) -> None:
    tenants = {"heavy": Tenant(weight=2.0)}
    async with rig(models=single(**STEADY_60), tenants=tenants) as one, anyio.create_task_group() as group:
        ended: list[str] = []

        async def ask(tenant: str) -> None:
            await body(one, tenant=tenant)
            ended.append(tenant)

        for tenant, calls in (("flood", 60), ("small", 6), ("heavy", 12)):
            for _ in range(calls):
                group.start_soon(ask, tenant)
    first = ended[:25]
    assert first.count("small") == 6
    assert first.count("heavy") == 12
    assert ended[-30:] == ["flood"] * 30


@settings(max_examples=60)
@given(arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.0, 0.4])), min_size=6, max_size=60))
def test_while_two_tenants_wait_neither_gets_two_more_than_the_other(arrivals: list[tuple[str, float]]) -> None:
    async def main() -> None:
        scheduler, way = Scheduler(now, 1000), routes(lane("a", requests_per_min=60, burst_s=1))
        waiting: dict[str, int] = dict.fromkeys("abc", 0)
        got: dict[str, int] = dict.fromkeys("abc", 0)

        async def call(tenant: str) -> None:
            waiting[tenant] += 1
            ticket = await scheduler.acquire(way, 1, frozenset(), scheduler.order(0, tenant, 1.0))
            waiting[tenant] -= 1
            got[tenant] = got.get(tenant, 0) + 1
            if any(not left for left in waiting.values()):
                got.update(dict.fromkeys(got, 0))
            else:
                assert max(got.values()) - min(got.values()) <= 2
            ticket.answered(1)

        async with anyio.create_task_group() as group:
            for tenant, gap_s in arrivals:
                group.start_soon(call, tenant)
                await anyio.sleep(gap_s)
        scheduler.close()

    backend, options = virtual_backend()
    anyio.run(main, backend=backend, backend_options=options)


async def test_a_call_that_waits_is_told_its_position_and_what_to_expect(rig: RigMaker) -> None:
    async with rig(models=single(**STEADY_60)) as one, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one.ask)
        await anyio.sleep(0.1)
        line = one.router.line("smart")
        assert (line.waiting, round(line.expected_s)) == (19, 20)
        told: list[tuple[float, Position]] = []
        standing.set(Standing(tell=lambda position: told.append((now(), position))))
        await one.ask()
    assert [position.ahead for _, position in told] == sorted((p.ahead for _, p in told), reverse=True)
    assert 2 <= len(told) <= 6
    for at, position in told:
        assert at + position.expected_s == pytest.approx(20, abs=1.2)
        assert position.model == "smart"


async def test_the_expectation_counts_every_deployment_and_those_that_come_back() -> None:
    desk = Desk()
    fast, slow = lane("fast", requests_per_min=120, burst_s=1), lane("slow", requests_per_min=60, burst_s=1)
    way = routes(fast, slow)
    for _ in range(3):
        await desk.call("first", way)
    assert desk.scheduler.expected(way, 1, (math.inf,)) == pytest.approx(0.35, abs=0.1)
    fast.paused_until = 10.0
    assert desk.scheduler.expected(way, 1, (math.inf,)) == pytest.approx(1, abs=0.1)


async def test_a_limit_found_by_trying_is_no_reason_to_shed(rig: RigMaker) -> None:
    """Where nothing is known calls begin slowly; their line moves faster than its present rate."""
    async with rig(models=single()) as one:
        answers = await asyncio.gather(*(body(one, deadline_s=6) for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}


async def test_retries_are_spread_and_nothing_is_lost_by_it() -> None:
    limits = Limits(requests_per_min=60_000, burst_s=60)
    broken = deployment("openai", limits=limits)
    models: dict[str, Any] = {"smart": (broken, deployment("gemini", limits=limits, tier=1))}
    async with open_rig("openai:stall:times=400", models=models, retry_ratio=0.0) as one:
        answers = await asyncio.gather(*(one.ask() for _ in range(400)))
        assert len(answers) == 400
        seconds: dict[int, int] = {}
        for seen in one.sim.seen:
            if seen.provider == "gemini":
                seconds[int(seen.at)] = seconds.get(int(seen.at), 0) + 1
        assert max(seconds.values()) <= 111
        assert 49 <= asyncio.get_running_loop().time() <= 52
