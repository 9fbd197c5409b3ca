"""A tenant's budget, counted over all workers on one store: in batches, and what is approximate about it."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx2

from greenroom.runtime.router import Budget, Limits, Prices, Tenant
from greenroom.runtime.router.share import IDLE_S

from .conftest import QUESTION, Rig, RigMaker, deployment
from .fleet import cut_store, fleet

PRICED: dict[str, Any] = {"prices": Prices(input=0.0, output=1000.0)}
"""A cent for ten tokens."""


def acme(**bounds: float) -> dict[str, Tenant]:
    return {"acme": Tenant(budget=Budget(**bounds))}


async def ask(rig: Rig, tokens: int = 10, tenant: str = "acme") -> httpx2.Response:
    body = {"model": "smart", "messages": QUESTION, "max_completion_tokens": tokens}
    return await rig.router.request("/chat/completions", body, tenant=tenant)


async def test_what_one_worker_spends_all_have_spent(anyio_backend: Any) -> None:
    """Half a second later; one that was idle hears it with the draw that its call needs. Others have their own."""
    async with fleet(2, tenants=acme(usd=0.03), fields=PRICED) as one:
        first, second = one.rigs
        assert [(await ask(first)).status_code for _ in range(3)] == [200, 200, 200]
        await asyncio.sleep(2 * IDLE_S)
        spent = await ask(second)
        assert (spent.status_code, spent.json()["error"]["code"]) == (402, "budget_spent")
        assert "tenant acme has spent 0.03 of its 0.03 dollars" in spent.text
        assert (await ask(second, tenant="other")).status_code == 200


async def test_a_worker_that_comes_hears_what_was_spent_before_its_first_call(anyio_backend: Any) -> None:
    async with cut_store() as store:
        async with fleet(1, tenants=acme(tokens=10), store=store) as one:
            assert (await ask(one.rigs[0])).status_code == 200
        async with fleet(1, tenants=acme(tokens=10), store=store) as one:
            assert (await ask(one.rigs[0])).status_code == 402
            assert not one.sim.seen


async def test_a_budget_is_crossed_by_what_is_spent_within_half_a_second_and_costs_no_round_trips(
    anyio_backend: Any,
) -> None:
    """Four workers of 20 calls a second and 100 tokens each: of 100,000 tokens at most a twelfth more is spent."""
    async with cut_store() as store, fleet(4, tenants=acme(tokens=100_000), store=store) as one:
        answers: list[httpx2.Response] = []

        async def work(rig: Rig) -> None:
            while not answers or answers[-1].status_code == 200:
                answers.append(await ask(rig, 100))
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for rig in one.rigs:
                group.create_task(work(rig))
        seconds = asyncio.get_running_loop().time()
        spent = sum(answer.json()["usage"]["total_tokens"] for answer in answers if answer.status_code == 200)
        most = max(answer.json()["usage"]["total_tokens"] for answer in answers if answer.status_code == 200)
        assert 100_000 <= spent <= 100_000 + 4 * most * (1 + 20 * (IDLE_S + 0.1))
        assert store.draws <= 4 * (seconds / IDLE_S * 2 + 4)
        assert len(answers) > 4 * store.draws


async def test_what_was_spent_comes_back_as_the_period_moves_on(anyio_backend: Any) -> None:
    async with fleet(2, tenants=acme(tokens=10, per_s=3600)) as one:
        first, second = one.rigs
        assert (await ask(first)).status_code == 200
        await asyncio.sleep(1)
        assert (await ask(second)).status_code == 402
        await asyncio.sleep(3500)
        refused = await ask(second)
        assert refused.status_code == 402
        assert float(refused.headers["retry-after"]) <= 3600 / 240
        await asyncio.sleep(200)
        assert [(await ask(rig)).status_code for rig in one.rigs] == [200, 200]


async def test_what_was_spent_while_the_store_was_away_is_told_when_it_is_back(anyio_backend: Any) -> None:
    async with cut_store() as store, fleet(2, tenants=acme(usd=0.02), store=store, fields=PRICED) as one:
        first, _ = one.rigs
        assert (await ask(first)).status_code == 200
        store.down = True
        assert (await ask(first)).status_code == 200
        await asyncio.sleep(1.5)
        store.down = False
        await asyncio.sleep(4)
        assert [(await ask(rig)).status_code for rig in one.rigs] == [402, 402]


async def test_calls_that_wait_in_line_are_not_sent_when_their_budget_is_used_up_meanwhile(rig: RigMaker) -> None:
    """Forty ask at once and one goes a second; the budget is for two."""
    models = {"smart": (deployment("openai", limits=Limits(requests_per_min=60, burst_s=1), **PRICED),)}
    async with rig(models=models, tenants=acme(usd=0.02)) as one:
        statuses: list[int] = []

        async def asking() -> None:
            statuses.append((await ask(one)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(asking)
        assert sorted(statuses) == [200] * 2 + [402] * 38
        assert len(one.sim.seen) == 2
        assert one.router.waiting == 0
