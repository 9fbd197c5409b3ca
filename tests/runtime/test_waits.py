"""Waiting inside a run: timers, signals, approvals, child runs, parking. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import (
    Approval,
    Decision,
    Retry,
    RunCanceled,
    RunFailed,
    RunTimedOut,
    Signal,
    StepFailed,
    child,
    component,
    emit,
    fan_out,
    sleep,
    workflow,
)
from greenroom.runtime import records as r
from greenroom.runtime.errors import DecisionConflict, DefinitionInvalid, GreenroomError, InputInvalid, UnknownInlet
from greenroom.runtime.log import recorded_twice
from greenroom.runtime.records import Event
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.crash import crash_everywhere
from greenroom.transports import RunEnded, RunState, log_topic

House = Callable[..., Any]

LONG_S = 1800.0


async def log_of(runs: Runs, run_id: str) -> list[Event]:
    return [event async for event in runs.events(run_id)]


async def until_state(runs: Runs, run_id: str, state: RunState) -> None:
    async with runs.transport.watch(log_topic(run_id)) as watch:
        while (await runs.transport.run(run_id)).state is not state:
            await watch.wait(5.0)


words = Signal("words", str)
publish = Approval("publish", Decision)


@component
async def mark(text: str) -> str:
    return text.upper()


# --- timers


@workflow
async def nap(seconds: float) -> str:
    before = await mark("before")
    await sleep(seconds)
    return before + await mark("after")


async def test_a_long_sleep_parks_the_run_and_ends_on_time(house: House) -> None:
    home = house(nap)
    async with home.worker() as worker:
        began = anyio.current_time()
        run, _ = await home.runs.start("nap", b'{"seconds": 3600}')
        await until_state(home.runs, run.run_id, RunState.WAITING)
        parked = await home.runs.transport.run(run.run_id)
        await anyio.sleep(10)
        assert (parked.waiting_on, parked.owner, worker.running) == ("timer", None, 0)
        assert await home.runs.result(run.run_id) == b'"BEFOREAFTER"'
        assert 2 * LONG_S <= anyio.current_time() - began < 2 * LONG_S + 3
    events = await log_of(home.runs, run.run_id)
    assert [e.kind for e in events].count("run.parked") == 1
    assert not any(getattr(e.record, "takeover", False) for e in events)
    assert recorded_twice(events) == []


async def test_a_short_sleep_stays_in_memory(house: House) -> None:
    home = house(nap)
    async with home.worker(park_after_s=10):
        run, _ = await home.runs.start("nap", b'{"seconds": 5}')
        await home.runs.result(run.run_id)
    assert "run.parked" not in [e.kind for e in await log_of(home.runs, run.run_id)]


async def test_a_sleep_goes_on_where_it_was_on_another_worker(house: House) -> None:
    home = house(nap)
    began = anyio.current_time()
    async with home.worker("a", park_after_s=1000):
        run, _ = await home.runs.start("nap", b'{"seconds": 100}')
        await anyio.sleep(60)
    async with home.worker("b", park_after_s=1000):
        await home.runs.result(run.run_id)
    assert 100 <= anyio.current_time() - began < 103


async def test_a_sleep_outside_a_run_is_a_sleep() -> None:
    began = anyio.current_time()
    assert await nap(3) == "BEFOREAFTER"
    assert anyio.current_time() - began == pytest.approx(3)


async def test_a_pause_between_attempts_of_a_days_length_parks_and_is_kept(house: House) -> None:
    tries: list[float] = []

    @component(retry=Retry(attempts=3, first_s=LONG_S, factor=1, max_s=LONG_S, jitter=0))
    async def shaky() -> int:
        tries.append(anyio.current_time())
        if len(tries) < 3:
            raise OSError("down")
        return len(tries)

    @workflow
    async def insist() -> int:
        return await shaky()

    home = house(insist)
    async with home.worker():
        run, _ = await home.runs.start("insist", b"{}")
        await until_state(home.runs, run.run_id, RunState.WAITING)
        assert await home.runs.result(run.run_id) == b"3"
    assert [b - a for a, b in pairwise(tries)] == pytest.approx([LONG_S, LONG_S], abs=2)


async def test_a_deadline_ends_a_parked_run(house: House) -> None:
    @workflow(timeout=3600)
    async def forever() -> None:
        await words.receive()

    home = house(forever)
    async with home.worker():
        began = anyio.current_time()
        run, _ = await home.runs.start("forever", b"{}")
        with pytest.raises(RunTimedOut):
            await home.runs.result(run.run_id)
        assert 3600 <= anyio.current_time() - began < 3603


# --- signals


@workflow(signals=[words])
async def listen(count: int) -> list[str]:
    return [await words.receive() for _ in range(count)]


async def test_signals_are_taken_once_each_in_order_also_those_that_came_early(house: House) -> None:
    home = house(listen)
    run, _ = await home.runs.start("listen", b'{"count": 3}')
    await home.runs.inlets.signal(run.run_id, "words", b'"one"')
    async with home.worker():
        await until_state(home.runs, run.run_id, RunState.WAITING)
        await home.runs.inlets.signal(run.run_id, "words", b'"two"')
        await home.runs.inlets.signal(run.run_id, "words", b'"three"')
        assert await home.runs.result(run.run_id) == b'["one","two","three"]'
    events = await log_of(home.runs, run.run_id)
    taken = [e.record.taken for e in events if isinstance(e.record, r.StepCompleted)]
    assert taken == [e.seq for e in events if e.kind == "signal.received"]


async def test_a_signal_wakes_a_parked_run_promptly(house: House) -> None:
    home = house(listen)
    async with home.worker():
        run, _ = await home.runs.start("listen", b'{"count": 1}')
        await until_state(home.runs, run.run_id, RunState.WAITING)
        await anyio.sleep(LONG_S)
        began = anyio.current_time()
        await home.runs.inlets.signal(run.run_id, "words", b'"hello"')
        assert await home.runs.result(run.run_id) == b'["hello"]'
        assert anyio.current_time() - began < 0.1


async def test_of_signals_with_one_id_only_the_first_counts(house: House) -> None:
    home = house(listen)
    run, _ = await home.runs.start("listen", b'{"count": 2}')
    for text, name in (("a", "1"), ("b", "1"), ("c", "2")):
        await home.runs.inlets.signal(run.run_id, "words", msgspec.json.encode(text), id=name)
    async with home.worker():
        assert await home.runs.result(run.run_id) == b'["a","c"]'


async def test_a_wait_for_a_signal_ends_with_its_default_or_an_error(house: House) -> None:
    @workflow(signals=[words])
    async def patient() -> list[str]:
        first = await words.receive(timeout=LONG_S, default="nothing")
        try:
            await words.receive(timeout=LONG_S)
        except StepFailed as error:
            return [first, error.failure.type]
        return []

    home = house(patient)
    async with home.worker():
        run, _ = await home.runs.start("patient", b"{}")
        assert await home.runs.result(run.run_id) == b'["nothing","WaitTimedOut"]'


async def test_what_does_not_fit_is_refused_and_not_written(house: House) -> None:
    home = house(listen)
    run, _ = await home.runs.start("listen", b'{"count": 1}')
    with pytest.raises(InputInvalid, match=r"input of words is invalid at \$: Expected `str`, got `int`"):
        await home.runs.inlets.signal(run.run_id, "words", b"1")
    with pytest.raises(UnknownInlet, match="no signal for workflow listen 'wrods' here: there is words"):
        await home.runs.inlets.signal(run.run_id, "wrods", b"1")
    assert (await home.runs.transport.run(run.run_id)).seq == 1
    await home.runs.inlets.signal(run.run_id, "words", b'"x"')
    async with home.worker():
        await home.runs.result(run.run_id)
    with pytest.raises(RunEnded):
        await home.runs.inlets.signal(run.run_id, "words", b'"late"')


async def test_a_signal_is_not_lost_while_the_run_is_being_parked(house: House) -> None:
    """Two waits, and the second signal comes at every moment around the parking of the first."""

    @workflow(signals=[words])
    async def two() -> list[str]:
        other = Signal("other", str)
        return list(await asyncio.gather(words.receive(), other.receive(timeout=LONG_S, default="-")))

    for ticks in range(12):
        home = house(two)
        async with home.worker(park_after_s=1.0):
            run, _ = await home.runs.start("two", b"{}")
            await anyio.sleep(0.999)
            for _ in range(ticks):
                await anyio.sleep(0.0005)
            began = anyio.current_time()
            await home.runs.inlets.signal(run.run_id, "words", b'"x"')
            while "step.completed" not in [s.kind for s in await home.runs.transport.read(run.run_id)]:
                await anyio.sleep(0.5)
                assert anyio.current_time() - began < 5, f"lost after {ticks} ticks"
            await home.runs.cancel(run.run_id)
            with pytest.raises(RunCanceled):
                await home.runs.result(run.run_id)


async def test_a_signal_outside_a_run_says_what_to_do() -> None:
    with pytest.raises(GreenroomError, match="start a run"):
        await words.receive()


def test_two_signals_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionInvalid, match="two signals or approvals are named 'words'"):
        workflow(signals=[words, Signal("words", int)])


# --- approvals


@workflow(approvals=[publish])
async def edition(title: str) -> str:
    await emit(f"draft of {title}")
    decision = await publish.request("Publish it?", data={"title": title}, timeout=2 * LONG_S)
    return f"{title}: {'yes' if decision.approved else 'no'} {decision.comment}".strip()


async def test_a_decision_ends_an_approval_once(house: House) -> None:
    home = house(edition)
    async with home.worker():
        run, _ = await home.runs.start("edition", b'{"title": "Tea"}')
        await until_state(home.runs, run.run_id, RunState.WAITING)
        assert (await home.runs.transport.run(run.run_id)).waiting_on == "approval publish"
        [asked] = await home.runs.inlets.approvals(run.run_id)
        assert (asked.question, bytes(asked.data), asked.decision) == ("Publish it?", b'{"title":"Tea"}', None)
        with pytest.raises(InputInvalid, match="missing required field `approved`"):
            await home.runs.inlets.decide(run.run_id, asked.approval, b"{}")
        with pytest.raises(UnknownInlet, match="no approval of run"):
            await home.runs.inlets.decide(run.run_id, "nothing", b"{}")
        view, new = await home.runs.inlets.decide(run.run_id, asked.approval, b'{"approved": true}', by="ann")
        assert (bytes(view.decision or b""), view.by, new) == (b'{"approved":true,"comment":""}', "ann", True)
        assert (await home.runs.inlets.decide(run.run_id, asked.approval, b'{"approved":true}'))[1] is False
        with pytest.raises(DecisionConflict, match="decided otherwise"):
            await home.runs.inlets.decide(run.run_id, asked.approval, b'{"approved": false}')
        assert await home.runs.result(run.run_id) == b'"Tea: yes"'
    events = await log_of(home.runs, run.run_id)
    assert [e.kind for e in events].count("approval.requested") == 1
    assert [e.kind for e in events].count("approval.resolved") == 1


async def test_an_approval_that_nobody_decides_fails_in_time(house: House) -> None:
    home = house(edition)
    async with home.worker():
        run, _ = await home.runs.start("edition", b'{"title": "Tea"}')
        with pytest.raises(RunFailed, match="nobody decided on publish within 3600 s"):
            await home.runs.result(run.run_id)


# --- child runs


@workflow
async def chapter(number: int) -> str:
    await sleep(number * 100)
    if number > 8:
        raise ValueError("too many chapters")
    return await mark(f"chapter {number}")


@workflow
async def book(numbers: list[int]) -> list[str]:
    return list(await asyncio.gather(*(child(chapter, number) for number in numbers)))


async def test_children_are_runs_of_their_own_and_wake_their_parent(house: House) -> None:
    home = house(book, chapter)
    async with home.worker():
        run, _ = await home.runs.start("book", b'{"numbers": [2, 1]}')
        await until_state(home.runs, run.run_id, RunState.WAITING)
        assert await home.runs.result(run.run_id) == b'["CHAPTER 2","CHAPTER 1"]'
    events = await log_of(home.runs, run.run_id)
    children = [e.record.run_id for e in events if isinstance(e.record, r.ChildStarted)]
    assert len(children) == 2
    for run_id in children:
        first = (await log_of(home.runs, run_id))[0].record
        assert isinstance(first, r.RunQueued)
        assert first.parent == run.run_id


async def test_children_belong_to_the_tenant_of_their_parent(house: House) -> None:
    home = house(book, chapter)
    async with home.worker():
        run, _ = await home.runs.start("book", b'{"numbers": [1]}', tenant="acme")
        await home.runs.wait(run.run_id)
    events = await log_of(home.runs, run.run_id)
    (child_id,) = [e.record.run_id for e in events if isinstance(e.record, r.ChildStarted)]
    assert (await home.runs.transport.run(child_id)).lane.tenant == "acme"


async def test_a_lost_notice_of_a_childs_end_costs_a_delay_and_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        return

    monkeypatch.setattr("greenroom.runtime.live_run.tell_parent", lost)
    home = house(book, chapter)
    async with home.worker():
        began = anyio.current_time()
        run, _ = await home.runs.start("book", b'{"numbers": [1]}')
        assert await home.runs.result(run.run_id) == b'["CHAPTER 1"]'
        assert anyio.current_time() - began < 250


async def test_a_childs_failure_is_the_parents_step_failure(house: House) -> None:
    home = house(book, chapter)
    async with home.worker():
        run, _ = await home.runs.start("book", b'{"numbers": [9]}')
        with pytest.raises(RunFailed, match="step chapter failed: ValueError: too many chapters"):
            await home.runs.result(run.run_id)


async def test_cancel_reaches_the_children_of_a_parked_run(house: House) -> None:
    home = house(book, chapter)
    async with home.worker():
        run, _ = await home.runs.start("book", b'{"numbers": [7, 8]}')
        await until_state(home.runs, run.run_id, RunState.WAITING)
        await home.runs.cancel(run.run_id, "enough")
        with pytest.raises(RunCanceled, match="enough"):
            await home.runs.result(run.run_id)
        events = await log_of(home.runs, run.run_id)
        for started in [e.record for e in events if isinstance(e.record, r.ChildStarted)]:
            with pytest.raises(RunCanceled, match="its parent"):
                await home.runs.result(started.run_id)


async def test_a_workflow_that_the_worker_does_not_have_cannot_be_a_child(house: House) -> None:
    home = house(book)
    async with home.worker():
        run, _ = await home.runs.start("book", b'{"numbers": [1]}')
        with pytest.raises(RunFailed, match="no workflow is named 'chapter'"):
            await home.runs.result(run.run_id)


async def test_a_child_outside_a_run_is_a_call() -> None:
    assert await book([1]) == ["CHAPTER 1"]


# --- fan out, and everything under crashes


async def test_fan_out_keeps_order_and_its_bound(house: House) -> None:
    at_work, most = 0, 0

    @component
    async def work(n: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await anyio.sleep(1 + n % 3)
        at_work -= 1
        return n * n

    @workflow
    async def spread(count: int) -> list[int]:
        return await fan_out(work, range(count), concurrency=4)

    home = house(spread)
    async with home.worker():
        run, _ = await home.runs.start("spread", b'{"count": 20}')
        assert await home.runs.result(run.run_id) == msgspec.json.encode([n * n for n in range(20)])
    assert most == 4


async def test_fan_out_raises_the_first_error_and_cancels_the_rest() -> None:
    done: list[int] = []

    async def work(n: int) -> int:
        await anyio.sleep(n)
        if n == 2:
            raise ValueError("two")
        done.append(n)
        return n

    with pytest.raises(ValueError, match="two"):
        await fan_out(work, [1, 2, 3, 4], concurrency=4)
    assert done == [1]


async def test_a_drain_parks_what_only_waits(house: House) -> None:
    home = house(listen)
    async with home.worker(park_after_s=1000):
        run, _ = await home.runs.start("listen", b'{"count": 1}')
        async with home.store.watch(log_topic(run.run_id)) as watch:
            while "step.started" not in [s.kind for s in await home.store.read(run.run_id)]:
                await watch.wait(1.0)
    assert (await home.runs.transport.run(run.run_id)).state is RunState.WAITING


async def test_waits_survive_a_crash_at_every_append() -> None:
    @workflow
    async def story(title: str) -> str:
        start = await mark(title)
        await sleep(60)
        first, second = await asyncio.gather(child(chapter, 1), mark("x"))
        return start + first + second

    await crash_everywhere((story, chapter), "tea")
