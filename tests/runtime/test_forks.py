"""Forks and retries: a new run that begins with the results of an old one. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from greenroom import RunFailed, child, component, emit, sleep, workflow
from greenroom.runtime import records as r
from greenroom.runtime.errors import ForkInvalid, InputInvalid
from greenroom.runtime.log import fold_output, recorded_twice
from greenroom.runtime.runs import Runs
from greenroom.runtime.trace import fold_trace
from greenroom.transports import KeyConflict, RunFilter, RunState, log_topic

House = Callable[..., Any]

made: list[str] = []
broken = False


@pytest.fixture(autouse=True)
def clean() -> None:
    global broken
    made.clear()
    broken = False


@component
async def word(text: str) -> str:
    made.append(text)
    await emit(f"<{text}>")
    return text


@component
async def fragile(text: str) -> str:
    made.append(f"fragile {text}")
    await emit("half ")
    if broken:
        raise OSError("down")
    return text.upper()


@component
async def outer(text: str) -> str:
    return await word(f"in {text}") + "!"


@workflow
async def story(title: str) -> str:
    first, second = await asyncio.gather(word(title), word("two"))
    inside = await outer(title)
    return " ".join([first, second, inside, await fragile(title)])


async def run_of(runs: Runs, run_id: str) -> tuple[Any, list[Any]]:
    view = await runs.wait(run_id)
    return view, [event async for event in runs.events(run_id)]


def step_of(events: list[Any], name: str, nth: int = 0) -> str:
    return [e.record.step for e in events if isinstance(e.record, r.StepStarted) and e.record.name == name][nth]


async def test_a_retry_goes_on_from_the_last_good_step(house: House) -> None:
    global broken
    home = house(story)
    broken = True
    async with home.worker():
        run, _ = await home.runs.start("story", b'{"title": "tea"}', tags=("x",))
        with pytest.raises(RunFailed):
            await home.runs.result(run.run_id)
        broken = False
        made.clear()
        again, new = await home.runs.retry(run.run_id)
        assert (new, again.tags) == (True, ("x",))
        view, events = await run_of(home.runs, again.run_id)
        assert bytes(view.result) == b'"tea two in tea! TEA"'
    assert made == ["fragile tea"]
    assert recorded_twice(events) == []
    assert fold_output(events) == "<tea><two><in tea>half "
    first = events[0].record
    assert (first.forked_from, first.forked_at, first.run_id) == (run.run_id, "", again.run_id)
    trace = fold_trace(events)
    assert (trace.steps_executed, trace.takeovers) == (1, 0)


async def test_a_fork_makes_a_step_again_and_all_that_ended_after_it_began(house: House) -> None:
    home = house(story)
    async with home.worker():
        run, _ = await home.runs.start("story", b'{"title": "tea"}')
        _, events = await run_of(home.runs, run.run_id)
        made.clear()
        forked, _ = await home.runs.fork(run.run_id, at=step_of(events, "outer"))
        view, events = await run_of(home.runs, forked.run_id)
        assert bytes(view.result) == b'"tea two in tea! TEA"'
    assert made == ["in tea", "fragile tea"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_a_fork_with_other_input_keeps_what_does_not_depend_on_it(house: House) -> None:
    home = house(story)
    async with home.worker():
        run, _ = await home.runs.start("story", b'{"title": "tea"}')
        await home.runs.wait(run.run_id)
        made.clear()
        forked, _ = await home.runs.fork(run.run_id, input=b'{"title": "rum"}')
        view, events = await run_of(home.runs, forked.run_id)
        assert bytes(view.result) == b'"rum two in rum! RUM"'
    assert made == ["rum", "in rum", "fragile rum"]
    assert len(events[-1].record.unasked) == 3


async def test_a_fork_of_a_run_that_goes_on_leaves_it_alone(house: House) -> None:
    @workflow
    async def slow(title: str) -> str:
        text = await word(title)
        await sleep(60)
        return text

    home = house(slow)
    async with home.worker():
        run, _ = await home.runs.start("slow", b'{"title": "tea"}')
        async with home.store.watch(log_topic(run.run_id)) as watch:
            while "step.completed" not in [s.kind for s in await home.store.read(run.run_id)]:
                await watch.wait(1.0)
        forked, _ = await home.runs.fork(run.run_id)
        assert await home.runs.result(forked.run_id) == await home.runs.result(run.run_id) == b'"tea"'
    assert made == ["tea"]


async def test_a_fork_keeps_the_results_of_children_and_waits(house: House) -> None:
    @workflow
    async def part(title: str) -> str:
        return await word(title)

    @workflow
    async def whole(title: str) -> str:
        text = await child(part, title)
        await sleep(60)
        return await fragile(text)

    home = house(whole, part)
    async with home.worker():
        run, _ = await home.runs.start("whole", b'{"title": "tea"}')
        _, events = await run_of(home.runs, run.run_id)
        made.clear()
        forked, _ = await home.runs.fork(run.run_id, at=step_of(events, "fragile"))
        began = (await home.runs.transport.run(forked.run_id)).created
        view, _ = await run_of(home.runs, forked.run_id)
        assert view.run.updated - began < 5
    assert made == ["fragile tea"]
    assert len((await home.runs.list(RunFilter(workflow="part"))).runs) == 1


async def test_what_cannot_be_forked_is_refused_and_nothing_is_written(house: House) -> None:
    home = house(story)
    async with home.worker():
        run, _ = await home.runs.start("story", b'{"title": "tea"}')
        await home.runs.wait(run.run_id)
        with pytest.raises(ForkInvalid, match="has no step 'none'"):
            await home.runs.fork(run.run_id, at="none")
        with pytest.raises(ForkInvalid, match="is completed: only one that failed can be retried"):
            await home.runs.retry(run.run_id)
        with pytest.raises(InputInvalid):
            await home.runs.fork(run.run_id, input=b'{"title": 1}')
        first, new = await home.runs.fork(run.run_id, key="k")
        assert ((await home.runs.fork(run.run_id, key="k"))[0].run_id, new) == (first.run_id, True)
        with pytest.raises(KeyConflict):
            await home.runs.fork(run.run_id, key="k", input=b'{"title": "rum"}')
        await home.runs.wait(first.run_id)
    assert len((await home.runs.list(RunFilter())).runs) == 2


async def test_all_runs_that_match_are_found_page_by_page(house: House) -> None:
    home = house(story)
    for n in range(3):
        await home.runs.start("story", msgspec.json.encode({"title": str(n)}))
    assert len([run async for run in home.runs.matching(RunFilter(state=RunState.QUEUED))]) == 3
    assert [run async for run in home.runs.matching(RunFilter(workflow="other"))] == []
