"""Workers that share limits through their store: no window sees more, nobody hoards, and what one knows all know."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.runtime.router import Limits
from greenroom.runtime.router.holding import FOREVER, Holding
from greenroom.runtime.simulator import Fault, Latency
from greenroom.runtime.simulator import Limits as Enforced
from greenroom.runtime.testing.clock import virtual_backend
from greenroom.transports import Draw, Transport

from .conftest import QUESTION, busiest
from .fleet import cut_store, fleet

BURST = Limits(requests_per_min=3600, burst_s=1.0)
ENFORCED = Enforced(requests_per_min=3600, burst_s=1.0)


async def test_workers_drain_a_burst_at_the_sum_of_shared_limits(anyio_backend: Any) -> None:
    """4 workers, 800 calls at once, two providers of 60/s with a burst of 60."""
    async with fleet(4, limits=BURST, enforced=ENFORCED) as one:
        await asyncio.gather(*(one.rigs[n % 4].ask(max_completion_tokens=6) for n in range(800)))
        assert set(one.statuses()) == {200}
        assert asyncio.get_running_loop().time() <= ((800 - 120) / 120 + 0.02) * 1.05
        assert one.sim.over_limit_windows() == 0


async def test_a_worker_gets_all_that_others_do_not_use(anyio_backend: Any) -> None:
    async with fleet(4, limits=BURST, enforced=ENFORCED) as one:
        await asyncio.gather(*(one.rigs[0 if n % 8 else 1].ask(max_completion_tokens=6) for n in range(800)))
        assert set(one.statuses()) == {200}
        assert asyncio.get_running_loop().time() <= ((800 - 120) / 120 + 0.02) * 1.07


def now() -> float:
    return asyncio.get_running_loop().time()


async def room(store: Transport) -> dict[str, float]:
    """What is left for one more worker."""
    (grant,) = await store.draw("looks", [Draw(reservoir="openai/m", bounds={}, known=-1)], lease_s=1)
    return grant.room


async def test_places_are_shared_and_everybody_gets_some(anyio_backend: Any) -> None:
    """8 places, 4 workers, calls of a second: the provider would refuse a ninth."""
    limits, enforced = Limits(concurrency=8), Enforced(concurrency=8)
    slow = Latency(first_token_s=1.0, tokens_per_s=0, jitter=0)
    async with fleet(4, limits=limits, enforced=enforced, latency=slow, providers=("openai",)) as one:
        ended: list[int] = []

        async def ask(number: int) -> None:
            await one.rigs[number].ask(max_completion_tokens=4)
            ended.append(number)

        await asyncio.gather(*(ask(n % 4) for n in range(96)))
        assert set(one.statuses()) == {200}
        assert now() <= 96 / 8 * 1.0 * 1.3
        assert min(ended[:64].count(number) for number in range(4)) >= 8


async def test_tokens_are_shared_and_what_was_not_used_comes_back(anyio_backend: Any) -> None:
    """A minute of 20,000 tokens, calls that may take a thousand and take 125: 160 go in the first minute."""
    limits, enforced = Limits(tokens_per_min=20_000), Enforced(tokens_per_min=20_000)
    async with fleet(3, limits=limits, enforced=enforced, providers=("openai",)) as one:
        await asyncio.gather(*(one.rigs[n % 3].ask(max_completion_tokens=1000) for n in range(300)))
        assert set(one.statuses()) == {200}
        assert busiest((seen.at, seen.tokens) for seen in one.sim.seen) <= 20_000
        assert sum(seen.at < 10 for seen in one.sim.seen) > 140
        assert now() < 60.5 * 1.15


async def test_what_is_not_used_is_given_back(anyio_backend: Any) -> None:
    """Soon after the last call, and all of it when a worker leaves."""
    limits = Limits(requests_per_min=60, concurrency=4, tokens_per_min=10_000)
    async with fleet(2, limits=limits, providers=("openai",)) as one:
        await asyncio.gather(*(one.rigs[0].ask(max_completion_tokens=10) for _ in range(3)))
        await asyncio.sleep(3)
        left = await room(one.store)
        assert left["places"] == 4
        assert left["tokens"] > 10_000 - 3 * 200
        assert left["requests"] >= 4


async def test_a_call_costs_no_round_trip(anyio_backend: Any) -> None:
    """Steady traffic of 50 a second is provided for: a few draws a second."""
    limits = Limits(requests_per_min=6000, concurrency=50)
    async with cut_store() as store, fleet(1, limits=limits, store=store) as one:
        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(one.rigs[0].ask())
                await asyncio.sleep(0.02)
        assert store.draws < 60


async def test_one_probe_over_all_workers(anyio_backend: Any) -> None:
    """Four workers with calls that wait: a provider that is down sees one call a second, and its end is noticed."""
    async with fleet(4, "openai:503:until=30", providers=("openai",), max_attempts=3, max_down_s=60) as one:
        await asyncio.gather(*(one.rigs[n % 4].ask(max_completion_tokens=6) for n in range(40)))
        failed = [seen.at for seen in one.sim.seen if seen.status == 503]
        late = [at for at in failed if at > 5]
        assert 3 <= len(late) <= 25 / 8 * 1.5 + 2
        assert len({round(at, 2) for at in late}) == len(late)
        assert now() <= 30 + 8 + 1


async def test_a_pause_that_one_was_asked_for_is_kept_by_all(anyio_backend: Any) -> None:
    """One 429, and the others' calls of the next seconds do not go there."""
    async with fleet(3, "openai:rate_limit:times=1", limits=BURST, providers=("openai",)) as one:
        await one.rigs[0].ask()
        assert one.statuses() == [429, 200]
        first, second = (seen.at for seen in one.sim.seen)
        pause = second - first
        assert pause > 0.1
        one.sim.reset()
        one.sim.faults[:] = [Fault.parse("openai:rate_limit:times=1")]
        begun = now()

        async def later() -> None:
            await asyncio.sleep(0.05)
            await one.rigs[1].ask()

        await asyncio.gather(one.rigs[0].ask(), later())
        assert sorted(one.statuses()) == [200, 200, 429]
        assert now() - begun >= pause


async def test_a_limit_that_one_has_learned_is_known_to_all(anyio_backend: Any) -> None:
    """Nothing is configured; the provider tells one of them, and none is refused."""
    enforced = Enforced(requests_per_min=60, burst_s=6)
    async with fleet(3, enforced=enforced, providers=("openai",)) as one:
        await one.rigs[0].ask()
        await asyncio.sleep(2)
        await asyncio.gather(*(one.rigs[n % 3].ask() for n in range(30)))
        assert set(one.statuses()) == {200}
        assert now() < 40


async def test_without_the_store_what_is_held_is_used_and_then_calls_wait(anyio_backend: Any) -> None:
    """They fail by their deadline, saying why; when it is back they go on."""
    async with (
        cut_store() as store,
        fleet(1, limits=BURST, enforced=ENFORCED, store=store, providers=("openai",)) as one,
        asyncio.TaskGroup() as group,
    ):
        rig = one.rigs[0]
        for _ in range(20):
            await rig.ask()
        store.down = True
        seen = len(one.sim.seen)
        for _ in range(3):
            await rig.ask(timeout=1.0)
        assert len(one.sim.seen) == seen + 3, "what is held is used"
        await asyncio.sleep(4)
        body = {"model": "smart", "messages": QUESTION}
        response = await rig.router.request("/chat/completions", body, deadline_s=5)
        assert response.status_code == 504
        assert "limits are shared, and the store cannot be asked: the store is being moved" in response.text
        assert len(one.sim.seen) == seen + 3
        waits = group.create_task(rig.ask())
        await asyncio.sleep(5)
        store.down = False
        await waits
        assert set(one.statuses()) == {200}


calls = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0]), st.sampled_from([10, 100, 900])),
    min_size=1,
    max_size=60,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    calls=calls,
    requests=st.sampled_from([None, 6, 60, 1200]),
    tokens=st.sampled_from([None, 2500, 30_000]),
    places=st.sampled_from([None, 1, 3]),
    burst_s=st.sampled_from([1.0, 6.0, 60.0]),
    latency_s=st.sampled_from([0.0, 0.02, 1.0]),
    seed=st.integers(0, 3),
)
def test_shared_limits_are_never_exceeded_and_never_refused(
    calls: list[tuple[int, float, int]],
    requests: int | None,
    tokens: int | None,
    places: int | None,
    burst_s: float,
    latency_s: float,
    seed: int,
) -> None:
    limits = Limits(requests_per_min=requests, tokens_per_min=tokens, concurrency=places, burst_s=burst_s)
    enforced = Enforced(
        requests_per_min=requests, tokens_per_min=tokens, concurrency=places, burst_s=60 if tokens else burst_s
    )
    latency = Latency(first_token_s=latency_s, tokens_per_s=0, jitter=0.2)

    async def main() -> None:
        async with fleet(3, limits=limits, enforced=enforced, latency=latency, max_wait_s=1e6) as one:
            async with asyncio.TaskGroup() as group:
                for worker, pause, size in calls:
                    await asyncio.sleep(pause)
                    group.create_task(one.rigs[worker].ask(max_completion_tokens=size))
            assert set(one.statuses()) == {200}
            for provider in ("openai", "gemini"):
                seen = [seen for seen in one.sim.seen if seen.provider == provider]
                if requests is not None:
                    assert busiest((one.at, 1) for one in seen) <= requests
                if tokens is not None:
                    assert busiest((one.at, one.tokens) for one in seen) <= tokens

    backend, options = virtual_backend(seed)
    anyio.run(main, backend=backend, backend_options=options)


def test_what_is_held_is_of_no_use_from_the_end_of_its_lease_on() -> None:
    """By the worker's own clock, whatever it was kept from doing meanwhile: others may have it by now."""
    starved: list[bool] = []
    holding = Holding(lambda: starved.append(True), lambda: None)
    holding.until, holding.requests, holding.tokens, holding.places = 3.0, 5.0, 1000.0, 2.0
    assert holding.wait(10, in_flight=0, down=False, now=2.99) == 0.0
    assert not starved
    assert holding.wait(10, in_flight=0, down=False, now=3.0) == FOREVER
    assert starved
