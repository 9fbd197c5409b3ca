"""Budgets, the cache, hedges and key pools: what costs money, and what saves it."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import openai
import pytest

from greenroom.runtime.router import (
    Budget,
    CachePolicy,
    HedgePolicy,
    Limits,
    Prices,
    RouterConfig,
    RouterConfigInvalid,
    Tenant,
    budget,
)
from greenroom.runtime.simulator import Fault, Latency

from .conftest import RigMaker, deployment

PRICED: dict[str, Any] = {"smart": (deployment("openai", prices=Prices(input=0.0, output=1000.0)),)}


def body(text: str = "Where do lighthouse keepers sleep?") -> dict[str, Any]:
    return {"model": "smart", "messages": [{"role": "user", "content": text}]}


async def test_a_budget_ends_with_one_clear_sentence_and_bounds_what_is_called_inside(rig: RigMaker) -> None:
    async with rig(models=PRICED) as one:

        async def inner() -> None:
            await one.ask(max_completion_tokens=10)

        with budget(tokens=1000, name="all of it") as outer, budget(usd=0.02, name="the summary") as purse:
            await inner()
            await inner()
            with pytest.raises(
                openai.APIStatusError, match=r"the summary has spent 0.02 of its 0.02 dollars"
            ) as caught:
                await inner()
        assert caught.value.status_code == 402
        assert purse.usd == pytest.approx(0.02)
        assert outer.tokens == purse.tokens > 20
        await inner()
        assert len(one.sim.seen) == 3
        assert one.records[2].status == "failed"


async def test_a_tenants_budget_is_whole_again_after_its_time(rig: RigMaker) -> None:
    tenants = {"acme": Tenant(budget=Budget(tokens=1, per_s=3600))}
    async with rig(tenants=tenants) as one:
        first = await one.router.request("/chat/completions", body(), tenant="acme")
        spent = await one.router.request("/chat/completions", body(), tenant="acme")
        other = await one.router.request("/chat/completions", body(), tenant="other")
        assert [first.status_code, spent.status_code, other.status_code] == [200, 402, 200]
        assert "tenant acme has spent" in spent.json()["error"]["message"]
        await anyio.sleep(float(spent.headers["retry-after"]))
        assert (await one.router.request("/chat/completions", body(), tenant="acme")).status_code == 200


async def test_the_stream_that_is_read_is_charged(rig: RigMaker) -> None:
    async with rig(models=PRICED) as one:
        with budget(usd=1) as purse:
            await one.read(max_completion_tokens=10)
        assert purse.usd == pytest.approx(0.01)


async def test_equal_questions_at_once_are_one_call_and_later_ones_none(rig: RigMaker) -> None:
    async with rig(cache=CachePolicy(ttl_s=60)) as one:
        answers = await asyncio.gather(*(one.ask() for _ in range(20)))
        assert len({answer.choices[0].message.content for answer in answers}) == 1
        await one.ask()
        assert len(one.sim.seen) == 1
        assert [record.reason for record in one.records].count("cached") == 20
        await one.ask(extra_headers={"x-greenroom-fresh": "1"})
        await one.ask(extra_headers={"x-greenroom-tenant": "other"})
        await one.ask(messages=[{"role": "user", "content": "Another question"}])
        assert len(one.sim.seen) == 4
        await anyio.sleep(61)
        await one.ask()
        assert len(one.sim.seen) == 5


async def test_who_gives_up_takes_nobodys_answer_away_and_failures_are_not_kept(rig: RigMaker) -> None:
    slow = Latency(first_token_s=1, tokens_per_s=0, jitter=0)
    async with rig(cache=CachePolicy(), latency=slow) as one, anyio.create_task_group() as group:
        leader = anyio.CancelScope()

        async def lead() -> None:
            with leader:
                await one.ask()

        group.start_soon(lead)
        await anyio.sleep(0.5)
        group.start_soon(one.ask)
        await anyio.sleep(0.1)
        leader.cancel()
        await one.ask()
        assert len(one.sim.seen) == 2
        one.sim.faults.append(Fault.parse("*:400:times=1"))
        with pytest.raises(openai.BadRequestError):
            await one.ask(messages=[{"role": "user", "content": "?"}])
        await one.ask(messages=[{"role": "user", "content": "?"}])


async def test_the_cache_is_bounded(rig: RigMaker) -> None:
    async with rig(cache=CachePolicy(entries=2)) as one:
        for number in (1, 2, 3, 3, 2, 1):
            await one.ask(messages=[{"role": "user", "content": f"question {number}"}])
        assert len(one.sim.seen) == 4


HEDGE = HedgePolicy(percentile=90, share=0.5, least_s=0.1)


def both(**fields: Any) -> dict[str, Any]:
    limits = Limits(requests_per_min=6000, burst_s=60)
    return {"smart": (deployment("openai", limits=limits, **fields), deployment("gemini", limits=limits, tier=1))}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unusually_slow_answer_is_hedged_and_the_first_one_counts(rig: RigMaker, stream: bool) -> None:
    async with rig(models=both(), hedge=HEDGE) as one:
        for _ in range(25):
            await one.ask()
        one.sim.faults.append(Fault.parse("openai:stall:times=1:after=0"))
        started = asyncio.get_running_loop().time()
        assert (await one.read()) if stream else (await one.ask()).choices
        assert asyncio.get_running_loop().time() - started < 0.5
        record = one.records[-1]
        assert (record.reason, record.provider, record.status) == ("hedge", "gemini", "ok")
        lanes = {lane.deployment: lane for lane in one.router.snapshot()}
        assert lanes["openai/m"].outcomes["outrun"] == 1
        assert [lane.in_flight for lane in lanes.values()] == [0, 0]


async def test_hedges_have_a_budget_and_are_off_by_default(rig: RigMaker) -> None:
    async with rig(models=both(), hedge=HedgePolicy(percentile=50, share=0.05, least_s=0.0)) as one:
        for _ in range(100):
            await one.ask()
        one.sim.faults.append(Fault.parse("openai:ramp:until=1:factor=50"))
        for _ in range(100):
            await one.ask()
        hedges = sum(record.reason == "hedge" for record in one.records)
        assert len(one.sim.seen) <= 200 + 10
        assert hedges <= 10
    assert RouterConfig(models={}).hedge is None


async def test_a_hedge_that_is_refused_leaves_the_first_attempt_to_answer(rig: RigMaker) -> None:
    async with rig(models=both(), hedge=HEDGE) as one:
        for _ in range(25):
            await one.ask()
        one.sim.faults += [Fault.parse("openai:brown_out:factor=100:share=1"), Fault.parse("gemini:503")]
        assert (await one.ask()).choices
        assert one.records[-1].provider == "openai"


async def test_a_caller_that_gives_up_ends_both_attempts(rig: RigMaker) -> None:
    async with rig(models=both(), hedge=HEDGE) as one:
        for _ in range(25):
            await one.ask()
        one.sim.faults.append(Fault.parse("*:stall"))
        with anyio.move_on_after(3):
            await one.ask()
        assert [lane.in_flight for lane in one.router.snapshot()] == [0, 0]


POOL = {"provider": "openai", "model": "m", "key_env": ["KEY_A", "KEY_B"], "limits": {"requests_per_min": 60}}
KEYS = {"KEY_A": "a", "KEY_B": "b"}


def test_several_keys_are_deployments_with_their_own_limits_or_parts_of_one_accounts() -> None:
    own = RouterConfig.from_table({"models": {"smart": [POOL]}}, KEYS).models["smart"]
    assert [(one.name, one.key.reveal(), one.limits.share) for one in own] == [
        ("openai/m@KEY_A", "a", 1.0),
        ("openai/m@KEY_B", "b", 1.0),
    ]
    shared = RouterConfig.from_table({"models": {"smart": [{**POOL, "one_account": True}]}}, KEYS).models["smart"]
    assert [one.limits.share for one in shared] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"models": {"smart": [{**POOL, "key_env": ["KEY_A", "KEY_A"]}]}}, "key_env names a variable twice"),
        ({"models": {"smart": [{**POOL, "key_env": []}]}}, "key_env"),
        ({"stream_failover": "splice"}, "stream_failover is 'splice': give fail or reset"),
        ({"retry_ratio": -1}, "retry_ratio is -1"),
        ({"hedge": {"percentile": 100}}, "hedge: give a percentile between 0 and 100"),
        ({"cache": {"ttl_s": 0}}, "cache: give a ttl_s above 0"),
        ({"tenants": {"acme": {"weight": 0}}}, "tenants.acme.weight is 0"),
        ({"tenants": {"acme": {"budget": {"usd": -1}}}}, "tenants.acme.budget.usd is -1"),
        ({"tenants": {"acme": {"share": 1}}}, "router.tenants: .*unknown field `share`"),
    ],
)
def test_a_mistake_in_what_costs_money_is_one_sentence(table: dict[str, Any], says: str) -> None:
    with pytest.raises(RouterConfigInvalid, match=says):
        RouterConfig.from_table(table, {**KEYS, "OPENAI_API_KEY": "k"})


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(RouterConfigInvalid, match=r"budget.usd is 0"), budget(usd=0):
        pass
