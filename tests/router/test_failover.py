"""What the caller sees of every fault that a provider can have: nothing, where another deployment can answer; else a
clear error of the SDK. And what the router concludes."""

from __future__ import annotations

import asyncio
import itertools

import openai
import pytest

from greenroom.runtime.router import Limits
from greenroom.runtime.simulator import Fault, FaultKind
from greenroom.runtime.simulator import Limits as Enforced

from .conftest import RigMaker, deployment

ONCE = {
    FaultKind.RATE_LIMIT: "limited",
    FaultKind.QUOTA: "quota",
    FaultKind.ERROR: "unavailable",
    FaultKind.AUTH: "refused",
    FaultKind.RESET: "unavailable",
    FaultKind.STALL: "unavailable",
    FaultKind.SLOW: "unavailable",
    FaultKind.CUT: "unavailable",
    FaultKind.TRUNCATE: "unavailable",
    FaultKind.MALFORMED: "unavailable",
    FaultKind.ERROR_EVENT: "unavailable",
    FaultKind.HTML: "unavailable",
    FaultKind.EMPTY: "unavailable",
}
SLOW = {FaultKind.BROWN_OUT, FaultKind.RAMP}
"""They make answers late, and do not spoil them."""

STREAMED = [
    FaultKind.CUT,
    FaultKind.TRUNCATE,
    FaultKind.STALL,
    FaultKind.MALFORMED,
    FaultKind.ERROR_EVENT,
]


def only(provider: str) -> dict[str, tuple[object, ...]]:
    return {"smart": (deployment(provider),)}


@pytest.mark.parametrize("kind", ONCE)
@pytest.mark.parametrize("faulty", ["openai", "gemini"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_one_provider_is_answered_by_the_other(
    rig: RigMaker, kind: FaultKind, faulty: str, stream: bool
) -> None:
    tiers = {"smart": tuple(deployment(name, tier=name != faulty) for name in ("openai", "gemini"))}
    async with rig(f"{faulty}:{kind.value}:after=0", models=tiers) as one:
        text = await one.read() if stream else (await one.ask()).choices[0].message.content
        assert text
        [record] = one.records
        assert record.attempts[0].deployment.startswith(faulty)
        assert [attempt.outcome for attempt in record.attempts] == [ONCE[kind], "ok"]
        assert (record.status, record.reason, record.stream) == ("ok", "failover", stream)
        assert record.provider != faulty


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("provider", ["openai", "gemini"])
async def test_a_stream_that_fails_after_its_first_token_raises_and_says_how(
    rig: RigMaker, kind: FaultKind, provider: str
) -> None:
    async with rig(f"{provider}:{kind.value}:after=2", models=only(provider)) as one:
        stream, shown = await one.ask(stream=True), ""

        async def read() -> None:
            nonlocal shown
            async for chunk in stream:
                shown += chunk.choices[0].delta.content or ""

        with pytest.raises(openai.APIError, match=f"{provider}/m: .*(stream|no data)") as caught:
            await read()
        assert len(shown) == 24
        assert "\n" not in str(caught.value)
        [record] = one.records
        assert (record.status, record.attempts[0].outcome) == ("failed", "unavailable")
        assert one.router.snapshot()[0].in_flight == 0


async def test_an_error_event_of_a_provider_keeps_its_message(rig: RigMaker) -> None:
    async with rig("gemini:error_event:after=1", models=only("gemini")) as one:
        with pytest.raises(openai.APIError, match="The server had an error"):
            await one.read()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("auth", openai.AuthenticationError),
        ("quota", openai.RateLimitError),
        ("400", openai.BadRequestError),
        ("422", openai.UnprocessableEntityError),
        ("503", openai.InternalServerError),
        ("html", openai.InternalServerError),
        ("reset", openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "gemini"])
async def test_the_last_refusal_is_the_sdks_own_error(
    rig: RigMaker, fault: str, error: type[openai.APIStatusError], provider: str
) -> None:
    async with rig(f"*:{fault}", models=only(provider), max_attempts=2) as one:
        with pytest.raises(error) as caught:
            await one.ask()
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["message"]
        assert one.records[0].status == "failed"


async def test_a_refused_key_is_an_error_at_once_and_is_not_tried_again(rig: RigMaker) -> None:
    async with rig("*:auth", models=only("openai")) as one:
        for _ in range(2):
            with pytest.raises(openai.AuthenticationError):
                await one.ask()
        assert asyncio.get_running_loop().time() == 0
        assert one.statuses() == [("openai", 401)]


async def test_who_waits_for_a_deployment_that_turns_out_refused_is_told_at_once(rig: RigMaker) -> None:
    models = {"smart": (deployment("openai", limits=Limits(concurrency=1)),)}
    async with rig("*:quota", models=models) as one:
        answers = await asyncio.gather(*(one.ask() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(answer, openai.RateLimitError) for answer in answers)
        assert len(one.sim.seen) == 1


async def test_a_bad_request_is_the_callers_and_costs_the_deployment_nothing(rig: RigMaker) -> None:
    async with rig() as one:
        for _ in range(10):
            with pytest.raises(openai.BadRequestError, match="non-empty"):
                await one.ask(messages=[])
        assert {lane.breaker for lane in one.router.snapshot()} == {"closed"}
        assert len(one.sim.seen) == 10


async def test_an_outage_opens_the_breaker_and_single_probes_find_its_end(rig: RigMaker) -> None:
    async with rig("openai:503:until=20", models=only("openai")) as one:
        answers = await asyncio.gather(*(one.ask() for _ in range(50)), return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        assert not failed
        asked = [seen.at for seen in one.sim.seen if seen.status == 503]
        assert sum(at < 2 for at in asked) <= 50
        probes = [at for at in asked if at >= 2]
        assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(probes))
        assert 1 <= len(probes) <= 5
        assert one.router.snapshot()[0].breaker == "closed"


async def test_a_pause_that_a_provider_asks_for_is_kept(rig: RigMaker) -> None:
    for provider, told_s in (("openai", 1.0), ("gemini", 1.0)):
        async with rig("*:rate_limit:times=1", models=only(provider)) as one:
            started = asyncio.get_running_loop().time()
            await one.ask()
            first, second = one.sim.seen
            assert (first.status, second.status) == (429, 200)
            assert told_s <= second.at - first.at < told_s + 0.5
            assert asyncio.get_running_loop().time() - started >= told_s


async def test_a_paused_deployment_leaves_its_calls_to_the_next_tier(rig: RigMaker) -> None:
    tiers = {"smart": (deployment("openai"), deployment("gemini", tier=1))}
    async with rig("openai:rate_limit:times=1", models=tiers) as one:
        await asyncio.gather(*(one.ask() for _ in range(3)))
        assert asyncio.get_running_loop().time() < 1


async def test_where_limits_are_wrong_nothing_is_lost(rig: RigMaker) -> None:
    wrong, real = Limits(requests_per_min=6000), Enforced(requests_per_min=120, burst_s=10)
    async with rig(limits=wrong, enforced=real) as one:
        await asyncio.gather(*(one.ask() for _ in range(200)))
        refused = [seen for seen in one.sim.seen if seen.status == 429]
        assert len(refused) < 200


async def test_failures_back_off_where_there_is_nowhere_else_to_go(rig: RigMaker) -> None:
    one_only = {"smart": (deployment("openai", breaker=deployment("openai").breaker),)}
    async with rig("openai:503:times=2", models=one_only) as one:
        await one.ask()
        times = [seen.at for seen in one.sim.seen]
        assert times[1] - times[0] >= 0.125
        assert times[2] - times[1] >= 0.25


async def test_a_call_gives_up_after_its_attempts(rig: RigMaker) -> None:
    async with rig("*:500", models=only("openai"), max_attempts=2) as one:
        with pytest.raises(openai.InternalServerError):
            await one.ask()
        assert len(one.sim.seen) == 2


async def test_a_call_does_not_give_up_while_everything_is_down(rig: RigMaker) -> None:
    async with rig("*:503:until=20", max_attempts=2) as one:
        await one.ask()
        assert 20 <= asyncio.get_running_loop().time() <= 30


async def test_a_call_too_long_for_one_model_goes_to_another_and_blames_nobody(rig: RigMaker) -> None:
    small = deployment("openai", limits=Limits(tokens_per_min=100))
    async with rig(models={"smart": (small, deployment("gemini"))}) as one:
        for _ in range(3):
            await one.ask(max_completion_tokens=500)
        assert {seen.provider for seen in one.sim.seen} == {"gemini"}


def test_every_fault_is_covered() -> None:
    assert {*ONCE, *SLOW} == set(FaultKind)
    assert Fault.parse("openai:cut").kind is FaultKind.CUT
