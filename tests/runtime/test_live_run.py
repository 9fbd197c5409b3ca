"""Runs on a worker: steps, policies, nesting, streaming, cancel, deadlines, hand-over, takeover. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from greenroom import (
    Crash,
    Rate,
    Retry,
    RunCanceled,
    RunFailed,
    RunTimedOut,
    StepFailed,
    Timeout,
    component,
    emit,
    idempotency_key,
    now,
    random,
    status,
    uuid,
    workflow,
)
from greenroom.runtime import records as r
from greenroom.runtime.log import fold_output, recorded_twice
from greenroom.runtime.records import Event
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.crash import crash_everywhere
from greenroom.runtime.trace import fold_trace
from greenroom.transports import RunState

House = Callable[..., Any]


async def log_of(runs: Runs, run_id: str) -> list[Event]:
    return [event async for event in runs.events(run_id)]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


@component
async def double(n: int) -> int:
    return 2 * n


@workflow
async def doubles(numbers: list[int]) -> list[int]:
    return list(await asyncio.gather(*(double(n) for n in numbers)))


async def test_a_run_records_each_step_once_and_its_result(house: House) -> None:
    home = house(doubles)
    async with home.worker():
        run, new = await home.runs.start("doubles", b'{"numbers": [1, 2, 2]}')
        assert new
        assert await home.runs.result(run.run_id) == b"[2,4,4]"
    events = await log_of(home.runs, run.run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert kinds(events)[:3] == ["run.queued", "lease.taken", "run.started"]
    assert kinds(events)[-1] == "run.completed"
    assert kinds(events).count("step.completed") == 3
    assert recorded_twice(events) == []


async def test_task_groups_work_inside_a_workflow(house: House) -> None:
    @workflow
    async def grouped(numbers: list[int]) -> int:
        found: list[int] = []

        async def one(n: int) -> None:
            found.append(await double(n))

        async with anyio.create_task_group() as group:
            for n in numbers:
                group.start_soon(one, n)
        return sum(found)

    home = house(grouped)
    async with home.worker():
        run, _ = await home.runs.start("grouped", b'{"numbers": [1, 2, 3]}')
        assert await home.runs.result(run.run_id) == b"12"


async def test_a_result_comes_back_as_its_type_live_too(house: House) -> None:
    @component
    async def pair() -> tuple[int, ...]:
        return (1, 2)

    @workflow
    async def typed() -> str:
        value = await pair()
        return type(value).__name__

    home = house(typed)
    async with home.worker():
        run, _ = await home.runs.start("typed", b"{}")
        assert await home.runs.result(run.run_id) == b'"tuple"'


async def test_an_error_is_tried_again_by_policy_and_every_attempt_is_recorded(house: House) -> None:
    tries: list[float] = []

    @component(retry=Retry(attempts=3, first_s=10, factor=2, jitter=0))
    async def shaky() -> str:
        tries.append(anyio.current_time())
        if len(tries) < 3:
            raise ValueError(f"try {len(tries)}")
        return "steady"

    @workflow
    async def insist() -> str:
        return await shaky()

    home = house(insist)
    async with home.worker():
        run, _ = await home.runs.start("insist", b"{}")
        assert await home.runs.result(run.run_id) == b'"steady"'
    assert [round(b - a) for a, b in pairwise(tries)] == [10, 20]
    events = await log_of(home.runs, run.run_id)
    steps = [event.kind for event in events if event.kind.startswith("step.")]
    assert steps == ["step.started", "step.retrying"] * 2 + ["step.started", "step.completed"]


async def test_a_step_whose_attempts_all_failed_raises_where_it_was_called(house: House) -> None:
    @component
    async def broken() -> str:
        raise ValueError("no")

    @workflow
    async def careful() -> str:
        try:
            return await broken()
        except StepFailed as error:
            return f"{error.name}: {error.failure.type}: {error.failure.message}"

    home = house(careful)
    async with home.worker():
        run, _ = await home.runs.start("careful", b"{}")
        assert await home.runs.result(run.run_id) == b'"broken: ValueError: no"'


async def test_a_workflow_that_raises_fails_its_run(house: House) -> None:
    @workflow
    async def careless() -> None:
        raise KeyError("gone")

    home = house(careless)
    async with home.worker():
        run, _ = await home.runs.start("careless", b"{}")
        with pytest.raises(RunFailed, match="KeyError: 'gone'"):
            await home.runs.result(run.run_id)


async def test_fallbacks_answer_when_all_attempts_failed(house: House) -> None:
    async def second_best(n: int) -> int:
        return -n

    @component(fallback=0)
    async def with_value(n: int) -> int:
        raise OSError("down")

    @component(fallback=double)
    async def with_component(n: int) -> int:
        raise OSError("down")

    @component(fallback=second_best)
    async def with_function(n: int) -> int:
        raise OSError("down")

    @workflow
    async def fall() -> list[int]:
        return [await with_value(4), await with_component(4), await with_function(4)]

    home = house(fall)
    async with home.worker():
        run, _ = await home.runs.start("fall", b"{}")
        assert await home.runs.result(run.run_id) == b"[0,8,-4]"
    sources = [
        event.record.source
        for event in await log_of(home.runs, run.run_id)
        if isinstance(event.record, r.StepCompleted)
    ]
    assert sources == ["fallback", "component", "fallback", "fallback"]


async def test_an_attempt_and_a_step_end_at_their_timeouts(house: House) -> None:
    @component(timeout=5)
    async def slow() -> None:
        await anyio.sleep(100)

    @component(timeout=Timeout(total_s=25), retry=Retry(attempts=100, first_s=10, factor=1, jitter=0))
    async def stubborn() -> None:
        raise OSError("down")

    @workflow
    async def wait() -> list[str]:
        said = []
        for step in (slow, stubborn):
            try:
                await step()
            except StepFailed as error:
                said.append(f"{error.failure.type} {anyio.current_time() - began:.0f}")
        return said

    home = house(wait)
    async with home.worker(park_after_s=1000):
        began = anyio.current_time()
        run, _ = await home.runs.start("wait", b"{}")
        assert await home.runs.result(run.run_id) == b'["StepTimedOut 5","StepTimedOut 30"]'


async def test_a_cached_result_answers_equal_calls_of_other_runs_until_it_expires(house: House) -> None:
    calls: list[int] = []

    @component(cache=60)
    async def costly(n: int) -> int:
        calls.append(n)
        return n

    @workflow
    async def ask(n: int) -> int:
        return await costly(n)

    home = house(ask)
    async with home.worker():
        for _ in range(2):
            run, _ = await home.runs.start("ask", b'{"n": 1}')
            assert await home.runs.result(run.run_id) == b"1"
        assert calls == [1]
        await anyio.sleep(61)
        run, _ = await home.runs.start("ask", b'{"n": 1}')
        await home.runs.result(run.run_id)
        assert calls == [1, 1]


async def test_concurrency_and_rate_bound_the_calls_of_a_component(house: House) -> None:
    at_once: list[int] = []
    starts: list[float] = []
    inside = 0

    @component(concurrency=2)
    async def narrow(n: int) -> int:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        await anyio.sleep(1)
        inside -= 1
        return n

    @component(rate=Rate(calls=1, per_s=10))
    async def paced(n: int) -> int:
        starts.append(anyio.current_time())
        return n

    @workflow
    async def many() -> int:
        await asyncio.gather(*(narrow(n) for n in range(6)), *(paced(n) for n in range(3)))
        return 0

    home = house(many)
    async with home.worker():
        run, _ = await home.runs.start("many", b"{}")
        await home.runs.result(run.run_id)
    assert max(at_once) == 2
    assert [round(b - a) for a, b in pairwise(starts)] == [10, 10]


async def test_a_class_component_keeps_its_instance_and_a_crash_opens_a_new_one(house: House) -> None:
    opened: list[int] = []
    closed: list[int] = []

    class Session:
        async def __aenter__(self) -> Session:
            opened.append(len(opened))
            return self

        async def __aexit__(self, *_: object) -> None:
            closed.append(len(closed))

        async def __call__(self, n: int) -> int:
            if n == 3 and len(opened) == 1:
                raise Crash("the line is dead")
            return len(opened)

    session = component(retry=Retry(attempts=2, first_s=0))(Session)

    @workflow
    async def talk() -> list[int]:
        return [await session(n) for n in range(5)]

    home = house(talk)
    async with home.worker():
        run, _ = await home.runs.start("talk", b"{}")
        assert await home.runs.result(run.run_id) == b"[1,1,1,2,2]"
        assert len(opened) == 2
    assert len(closed) == 2


async def test_a_component_that_waits_for_its_own_place_is_told_so(house: House) -> None:
    @component(concurrency=1)
    async def nested(depth: int) -> int:
        return depth if depth == 0 else await nested(depth - 1)

    @workflow
    async def deep() -> int:
        return await nested(1)

    home = house(deep)
    async with home.worker():
        run, _ = await home.runs.start("deep", b"{}")
        with pytest.raises(RunFailed, match="raise its concurrency"):
            await home.runs.result(run.run_id)


@component(retry=Retry(attempts=2, first_s=1, jitter=0))
async def story(text: str) -> str:
    for word in text.split():
        await emit(word + " ")
        await anyio.sleep(0.1)
    return text


async def test_output_and_status_are_streamed_from_inside(house: House) -> None:
    @workflow
    async def tell() -> str:
        await status("writing", words=3)
        return await story("a b c")

    home = house(tell)
    async with home.worker():
        run, _ = await home.runs.start("tell", b"{}")
        await home.runs.result(run.run_id)
    events = await log_of(home.runs, run.run_id)
    assert fold_output(events) == "a b c "
    said = [event.record for event in events if isinstance(event.record, r.Status)]
    assert [(s.message, bytes(s.data)) for s in said] == [("writing", b'{"words":3}')]


async def test_what_a_failed_attempt_emitted_is_taken_back(house: House) -> None:
    tries: list[int] = []

    @component(retry=Retry(attempts=2, first_s=1, jitter=0))
    async def stutter() -> str:
        tries.append(1)
        await emit(f"try {len(tries)}")
        await anyio.sleep(1)
        if len(tries) == 1:
            raise OSError("cut")
        return "done"

    @workflow
    async def speak() -> str:
        return await stutter()

    home = house(speak)
    async with home.worker():
        run, _ = await home.runs.start("speak", b"{}")
        await home.runs.result(run.run_id)
    events = await log_of(home.runs, run.run_id)
    assert "output.reset" in kinds(events)
    assert fold_output(events) == "try 2"


async def test_tokens_do_not_cost_a_record_each(house: House) -> None:
    @component
    async def chatter() -> int:
        for _ in range(1000):
            await emit("x")
        return 0

    @workflow
    async def talkative() -> int:
        return await chatter()

    home = house(talkative)
    async with home.worker():
        run, _ = await home.runs.start("talkative", b"{}")
        await home.runs.result(run.run_id)
    events = await log_of(home.runs, run.run_id)
    assert fold_output(events) == "x" * 1000
    assert kinds(events).count("output.delta") <= 3


async def test_keys_name_steps_and_answer_even_calls_under_way(house: House) -> None:
    calls: list[int] = []

    @component
    async def send(n: int) -> int:
        calls.append(n)
        await anyio.sleep(1)
        return n

    @workflow
    async def once() -> list[int]:
        first = await asyncio.gather(send.keyed("mail")(1), send.keyed("mail")(2))
        return [*first, await send.keyed("mail")(3)]

    home = house(once)
    async with home.worker():
        run, _ = await home.runs.start("once", b"{}")
        assert await home.runs.result(run.run_id) == b"[1,1,1]"
    assert calls == [1]


async def test_clock_randomness_and_ids_are_recorded_steps(house: House) -> None:
    seen: list[tuple[Any, ...]] = []
    dead: list[int] = []

    @component
    async def stall() -> int:
        dead.append(1)
        await anyio.sleep(0 if len(dead) > 1 else 1000)
        return 0

    @workflow
    async def ask() -> bool:
        seen.append((await now(), await random(), await uuid()))
        await stall()
        return True

    home = house(ask)
    run, _ = await home.runs.start("ask", b"{}")
    with anyio.move_on_after(1):
        async with home.worker("first"):
            await anyio.sleep_forever()
    async with home.worker("second"):
        await home.runs.result(run.run_id)
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_idempotency_keys_are_stable_over_attempts_and_differ_between_steps(house: House) -> None:
    keys: list[str] = []

    @component(retry=Retry(attempts=2, first_s=0))
    async def charge(n: int) -> int:
        keys.append(idempotency_key())
        if len(keys) == 1:
            raise OSError("lost reply")
        return n

    @workflow
    async def pay() -> str:
        await charge(1)
        await charge(1)
        return idempotency_key()

    home = house(pay)
    async with home.worker():
        run, _ = await home.runs.start("pay", b"{}")
        assert await home.runs.result(run.run_id) == f'"{run.run_id}"'.encode()
    assert keys[0] == keys[1] != keys[2]


async def test_a_canceled_run_stops_and_nothing_starts_after_the_cancel(house: House) -> None:
    stopped: list[str] = []

    @component
    async def endless(n: int) -> int:
        try:
            await anyio.sleep(1000)
        except BaseException:
            stopped.append("endless")
            raise
        return n

    @workflow
    async def long() -> int:
        try:
            return await endless(1)
        finally:
            stopped.append("body")

    home = house(long)
    async with home.worker() as worker:
        run, _ = await home.runs.start("long", b"{}")
        await anyio.sleep(1)
        await home.runs.cancel(run.run_id, "enough")
        with pytest.raises(RunCanceled, match="enough"):
            await home.runs.result(run.run_id)
        assert anyio.current_time() < 10
        await anyio.sleep(0.1)
        assert worker.running == 0
    assert sorted(stopped) == ["body", "endless"]
    assert kinds(await log_of(home.runs, run.run_id))[-2:] == ["cancel.requested", "run.canceled"]


async def test_a_run_canceled_before_it_was_claimed_never_starts(house: House) -> None:
    home = house(doubles)
    run, _ = await home.runs.start("doubles", b'{"numbers": [1]}')
    await home.runs.cancel(run.run_id)
    async with home.worker():
        with pytest.raises(RunCanceled):
            await home.runs.result(run.run_id)
    assert "step.started" not in kinds(await log_of(home.runs, run.run_id))


async def test_a_run_ends_at_its_deadline_though_no_step_does(house: House) -> None:
    @workflow(timeout=60)
    async def forever() -> None:
        await story("x " * 10_000)

    home = house(forever)
    async with home.worker():
        run, _ = await home.runs.start("forever", b"{}")
        with pytest.raises(RunTimedOut, match="60 s"):
            await home.runs.result(run.run_id)
    view = await home.runs.view(run.run_id)
    assert view.run.state is RunState.TIMED_OUT


async def test_a_drained_worker_hands_over_at_a_step_boundary(house: House) -> None:
    calls: list[int] = []

    @component
    async def step(n: int) -> int:
        calls.append(n)
        await anyio.sleep(2)
        return n

    @workflow
    async def walk() -> int:
        return sum([await step(n) for n in range(4)])

    home = house(walk)
    run, _ = await home.runs.start("walk", b"{}")
    async with home.worker("first", lease_s=100) as first:
        await anyio.sleep(3)
        await first.drain()
        assert anyio.current_time() < 5
    async with home.worker("second"):
        assert await home.runs.result(run.run_id) == b"6"
    assert calls == [0, 1, 2, 3]
    trace = fold_trace(await log_of(home.runs, run.run_id))
    assert trace.takeovers == 0
    assert trace.steps_replayed == 2
    assert [lease.worker for lease in trace.leases] == ["first", "second"]


async def test_a_drain_that_takes_too_long_hands_over_in_mid_step(house: House) -> None:
    @component
    async def slow() -> int:
        await anyio.sleep(50)
        return 1

    @workflow
    async def walk() -> int:
        return await slow()

    home = house(walk)
    run, _ = await home.runs.start("walk", b"{}")
    async with home.worker("first", drain_s=3) as first:
        await anyio.sleep(1)
        await first.drain()
        assert 3 < anyio.current_time() < 5
    async with home.worker("second"):
        assert await home.runs.result(run.run_id) == b"1"


async def test_inner_steps_of_an_unfinished_step_are_not_run_again(house: House) -> None:
    calls: list[str] = []

    @component
    async def inner(n: int) -> int:
        calls.append(f"inner {n}")
        return n

    @component(retry=Retry(attempts=2, first_s=1, jitter=0))
    async def outer() -> int:
        calls.append("outer")
        total = sum([await inner(n) for n in range(2)])
        if calls.count("outer") == 1:
            raise OSError("late")
        return total

    @workflow
    async def nest() -> int:
        return await outer()

    home = house(nest)
    async with home.worker():
        run, _ = await home.runs.start("nest", b"{}")
        assert await home.runs.result(run.run_id) == b"1"
    assert calls == ["outer", "inner 0", "inner 1", "outer"]


async def test_a_failure_the_body_went_on_from_is_the_same_after_a_takeover(house: House) -> None:
    calls: list[str] = []

    @component
    async def book() -> str:
        calls.append("book")
        if calls.count("book") == 1:
            raise OSError("full")
        return "booked"

    @component
    async def undo() -> str:
        calls.append("undo")
        await anyio.sleep(0 if calls.count("undo") > 1 else 1000)
        return "undone"

    @workflow
    async def saga() -> str:
        try:
            return await book()
        except StepFailed:
            return await undo()

    home = house(saga)
    run, _ = await home.runs.start("saga", b"{}")
    with anyio.move_on_after(1):
        async with home.worker("first"):
            await anyio.sleep_forever()
    async with home.worker("second"):
        assert await home.runs.result(run.run_id) == b'"undone"'
    assert calls == ["book", "undo", "undo"]


async def test_many_runs_share_a_worker_and_its_capacity(house: House) -> None:
    home = house(doubles)
    async with home.worker(capacity=3) as worker:
        ids = []
        for n in range(20):
            run, _ = await home.runs.start("doubles", b'{"numbers": [%d]}' % n)
            ids.append(run.run_id)
        results = [await home.runs.result(run_id) for run_id in ids]
        assert worker.running <= 3
    assert results == [b"[%d]" % (2 * n) for n in range(20)]


@workflow
async def newspaper() -> str:
    parts = await asyncio.gather(*(story(f"part {n}") for n in range(2)))
    return " ".join(parts)


async def test_crash_everywhere_a_run_ends_the_same_wherever_its_worker_is_lost() -> None:
    trials = await crash_everywhere(newspaper)
    assert trials[0].takeovers == 0
    assert len(trials) > 5
    assert sum(trial.takeovers for trial in trials) > 3
    assert max(trial.replayed for trial in trials) == 2


async def test_a_worker_that_has_said_goodbye_is_not_heard_again(house: House) -> None:
    """Its heartbeat goes on until its tree has stopped, but says nothing any more."""
    home = house(doubles)
    async with home.worker("brief") as worker:
        await worker.leave()
        await anyio.sleep(10)
        assert await home.store.workers() == []
    assert await home.store.workers() == []


async def test_a_component_that_lets_another_s_cancellation_out_fails_its_step_and_not_the_run(house: House) -> None:
    @component
    async def careless() -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    @workflow
    async def careful() -> str:
        try:
            await careless()
        except StepFailed as failed:
            return failed.failure.type
        return "none"

    home = house(careful)
    async with home.worker():
        run, _ = await home.runs.start("careful", b"{}")
        assert await home.runs.result(run.run_id) == b'"StrayCancellation"'
