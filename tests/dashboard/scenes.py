"""Runs to look at: one in progress, one with 5,000 steps, one that failed, one that waits for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from greenroom.runtime.portraits import Decision, Line, Part, Portrait
from greenroom.runtime.records import (
    ApprovalRequested,
    Failure,
    LLMAttempt,
    LLMCall,
    OutputReset,
    Record,
    RunCompleted,
    RunFailed,
    RunParked,
    Status,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepStarted,
)
from greenroom.runtime.router import LaneSnapshot
from greenroom.transports import Finish, Park, RunState, WorkerInfo

from .conftest import raw

if TYPE_CHECKING:
    from .conftest import House


def begin(step: str, attempt: int = 1, scope: str = "", name: str = "") -> StepStarted:
    return StepStarted(step=step, name=name or step.partition(":")[0], attempt=attempt, scope=scope)


def end(step: str, result: object = "done", attempt: int = 1) -> StepCompleted:
    return StepCompleted(step=step, attempt=attempt, result=raw(result))


def call(step: str, model: str = "gpt-5-mini", attempt: int = 1, seconds: float = 0.25) -> LLMCall:
    return LLMCall(
        step=step,
        attempt=attempt,
        status="ok",
        deployment="openai-east",
        provider="openai",
        model=model,
        asked_model="fast",
        input_tokens=812,
        output_tokens=143,
        cached_tokens=640,
        reasoning_tokens=64,
        response_id="chatcmpl-B9xQ2",
        finish_reasons=("stop",),
        cost_usd=0.00049,
        seconds=seconds,
        first_token_s=seconds / 2,
        queued_s=seconds / 4,
        stream=True,
        reason="most tokens to spare of 3 deployments",
        attempts=(
            LLMAttempt(deployment="gemini-eu", outcome="failed", seconds=0.01, error="429: quota exceeded"),
            LLMAttempt(deployment="openai-east", outcome="completed", seconds=seconds),
        ),
    )


async def in_progress(house: House, ago: float = 14) -> str:
    """A newsroom that is writing its article for the second time."""
    house.clock.set(ago)
    run = await house.start(tags=("demo", "tea"), metadata={"asked_by": "ann"})
    house.clock.go(0.7)
    await house.claim(run)
    await house.append(run, Status(step="", message="fetching"), begin("fetch"))
    posts = [f"post {n}" for n in range(6)]
    await house.append(run, end("fetch", posts), Status(step="", message="analysing"), after=0.6)
    for n in range(6):
        step = f"analyse:{n}"
        told = Status(step=step, message=f"reading post {n}")
        await house.append(run, begin(step), told, begin(f"skim:{n}", scope=step), after=0.05)
    for n in range(6):
        step = f"analyse:{n}"
        await house.append(run, end(f"skim:{n}"), after=0.08)
        if n == 2:
            late = Failure(type="RateLimited", message="429 from openai-east: try again in 600 ms")
            await house.append(run, StepRetrying(step=step, attempt=1, error=late, delay_s=0.6), after=0.2)
        else:
            await house.append(run, call(step), end(step, {"mood": "glad", "claims": ["tea is hot"]}), after=0.3)
    await house.append(run, begin("analyse:2", attempt=2))
    await house.append(
        run, call("analyse:2", attempt=2, seconds=0.8), end("analyse:2", {"mood": "cross"}, attempt=2), after=0.9
    )
    await house.append(run, Status(step="", message="reporting"), begin("report"))
    report = call("report", "gemini-3-flash", seconds=1.1)
    await house.append(run, report, end("report", {"headline": "Tea is hot"}), after=1.2)
    await house.append(run, Status(step="", message="writing"), begin("write"))
    await house.say(run, "Tea is cold. ", "That much is certain", after=0.8)
    lost = Failure(type="StreamCut", message="the stream ended without a finish reason")
    taken_back = OutputReset(step="write", attempt=1)
    await house.append(run, StepRetrying(step="write", attempt=1, error=lost, delay_s=0.5), taken_back, after=0.7)
    await house.append(run, begin("write", attempt=2), Status(step="write", message="second draft"), after=0.5)
    story = (
        "Tea is hot again. Six people who wrote about it this week agree on little else: ",
        "one drinks it for breakfast, two at work, and ",
        "three would rather have coffee.\n\n",
    )
    await house.say(run, *story, attempt=2, after=0.6)
    house.clock.set(None)
    return run


async def of_many_steps(house: House, steps: int = 5000) -> str:
    """A digest of very many items, in batches, some of them tried twice."""
    house.clock.set(300)
    run = await house.start("digest", tags=("nightly",))
    await house.claim(run)
    for batch in range(steps // 50):
        scope = f"batch:{batch}"
        await house.append(run, begin(scope), after=0.1)
        items = [f"item:{batch}.{n}" for n in range(49)]
        await house.append(run, *(begin(item, scope=scope) for item in items))
        for some in range(0, 49, 7):
            done: list[Record] = []
            for n in range(some, some + 7):
                if n % 17 == 3:
                    failure = Failure(type="Timeout", message="no answer in 1 s")
                    retried = StepRetrying(step=items[n], attempt=1, error=failure, delay_s=0.1)
                    done += [retried, begin(items[n], 2, scope)]
                else:
                    done.append(end(items[n], {"item": n}))
            await house.append(run, *done, after=0.06 + 0.03 * (batch % 5))
        await house.append(run, *(end(items[n], attempt=2) for n in range(3, 49, 17)), after=0.2)
        await house.append(run, end(scope, {"items": 49}))
    await house.append(run, RunCompleted(result=raw({"items": steps})), to=Finish(RunState.COMPLETED))
    house.clock.set(None)
    return run


async def failed(house: House) -> str:
    """A newsroom that found nothing."""
    run = await house.start(tags=("demo",))
    await house.claim(run)
    failure = Failure(type="LookupError", message="no post is about 'moss': there are posts about tea", step="fetch")
    await house.append(run, begin("fetch"), StepFailed(step="fetch", attempt=1, error=failure))
    await house.append(run, RunFailed(error=failure), to=Finish(RunState.FAILED))
    return run


async def waiting(house: House, question: str = "Publish 'Tea is hot'?", ago: float | None = None) -> str:
    """A newsroom that asks whether to publish."""
    house.clock.set(ago)
    run = await house.start(tags=("demo",))
    await house.claim(run)
    ask = StepStarted(step="approval:publish", name="publish", attempt=1, waits_for="approval")
    about = raw({"headline": "Tea is hot", "words": 412})
    asked = ApprovalRequested(approval="publish-1", name="publish", question=question, data=about)
    await house.append(run, begin("write"))
    await house.append(run, end("write"), ask, asked, after=2.5)
    parked = RunParked(waiting_on="approval publish")
    length = (await house.store.run(run)).seq
    await house.append(run, parked, to=Park(None, parked.waiting_on, length + 1))
    house.clock.set(None)
    return run


async def over(house: House, runs: int = 9) -> None:
    """Runs that have ended well."""
    for n in range(runs):
        house.clock.set(4000 - 400 * n)
        run = await house.start("digest" if n % 3 else "newsroom", tags=("nightly",) if n % 2 else ())
        await house.claim(run)
        done = RunCompleted(result=raw("ok"))
        await house.append(run, begin("fetch"), end("fetch"), done, to=Finish(RunState.COMPLETED), after=0.7 * n + 0.2)
    house.clock.set(None)


def actor(name: str, mailbox: int = 0, handled: int = 0, **more: Any) -> Part:
    return Part(name=name, kind="actor", state="running", mailbox=mailbox, handled=handled, capacity=10_000, **more)


def over_all(name: str, *children: Part, kind: str = "one_for_one", **more: Any) -> Part:
    return Part(name=name, kind=kind, state="running", children=children, **more)


def run_of(run: str) -> Part:
    return over_all(run, actor("log", 2, 41), actor("body"), actor("control"), kind="rest_for_one")


def tree_of(*runs: str, omitted: int = 0, mailbox: int = 340) -> Part:
    """A worker as it looks while it executes some runs."""
    analyse = over_all(
        "analyse",
        actor("1", mailbox, 812),
        actor("2", mailbox - 28, 807),
        Part(
            name="3", kind="actor", state="restarting", mailbox=9, handled=640, restarts=2, crashes=2, capacity=10_000,
            dropped=1,
        ),
    )  # fmt: skip
    parts = (
        actor("router", 0, 0),
        over_all("components", over_all("fetch", actor("1", 0, 96)), analyse, over_all("write", actor("1", 4, 31))),
        over_all("runs", *map(run_of, runs), omitted=omitted),
        over_all("upkeep", actor("schedules"), actor("retention"), actor("portrait")),
        actor("heartbeat"),
        actor("claimer"),
    )
    return over_all("worker", *parts)


def lanes_of(*, ill: bool) -> tuple[LaneSnapshot, ...]:
    """Two deployments, the second one well or not."""
    took = tuple(0.6 + 0.3 * math.sin(n / 3) + 0.02 * n for n in range(40))
    east = LaneSnapshot(
        deployment="openai/gpt-5.2",
        provider="openai",
        model="gpt-5.2",
        breaker="closed",
        why="",
        in_flight=14,
        tokens_used=132_400,
        outcomes={"ok": 1841, "limited": 3},
        requests_per_min=500,
        tokens_per_min=200_000,
        concurrency=64,
        latencies=took,
    )
    about: dict[str, Any] = (
        {"breaker": "open", "why": "503: The model is overloaded. Please try again later.", "down_s": 12.4}
        if ill
        else {"breaker": "closed", "why": ""}
    )
    eu = LaneSnapshot(
        deployment="gemini/gemini-3-pro",
        provider="gemini",
        model="gemini-3-pro",
        in_flight=0 if ill else 6,
        tokens_used=18_000,
        outcomes={"ok": 402, "unavailable": 9} if ill else {"ok": 771},
        requests_per_min=300,
        concurrency=32,
        rate=4.5 if ill else None,
        latencies=took[::-2],
        **about,
    )
    return east, eu


async def fleet(house: House, *runs: str) -> None:
    """Two workers that show themselves, and one that has not yet."""
    now = await house.store.now()
    decided = [
        Decision(
            at=now - 1.3 * n,
            run_id=runs[0] if runs else "0" * 32,
            step="write",
            asked_model="smart",
            deployment="openai/gpt-5.2",
            status="ok",
            reason=("room", "failover", "waited")[n % 3],
            seconds=0.9 + n / 10,
            queued_s=0.4 if n % 3 == 2 else 0.0,
            first_token_s=0.31,
            tokens=955 + 31 * n,
            tried=("gemini/gemini-3-pro: unavailable", "openai/gpt-5.2: ok") if n % 3 == 1 else ("openai/gpt-5.2: ok",),
        )
        for n in range(8)
    ]
    line = Line(model="smart", waiting=23, expected_s=4.2)
    shown = {
        "worker-1": Portrait(
            at=now, tree=tree_of(*runs, omitted=41), deployments=lanes_of(ill=False), lines=(line,),
            decisions=tuple(decided),
        ),
        "worker-2": Portrait(at=now, tree=tree_of(mailbox=30), deployments=lanes_of(ill=True)),
    }  # fmt: skip
    for name in ("worker-1", "worker-2", "worker-3"):
        info = WorkerInfo(name=name, build="b42", started=now - 5000, beat=now, running=44, draining=name == "worker-3")
        await house.store.beat(info)
        if name in shown:
            await house.store.cache_put(f"portraits/{name}", msgspec.json.encode(shown[name]), ttl_s=600)


async def furnish(house: House) -> dict[str, str]:
    """One of each."""
    await over(house)
    big = await of_many_steps(house)
    parked = await waiting(house, ago=180)
    bad = await failed(house)
    live = await in_progress(house)
    return {"big": big, "failed": bad, "parked": parked, "live": live, "queued": await house.start("digest")}
