"""Code that changes under a run in flight: what is reused, what is made again, what is reported. On virtual time.

A run is interrupted at a gate by a worker with the old code, and goes on with the new code on another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from greenroom import Signal, StepFailed, Workflow, child, component, emit, sleep, workflow
from greenroom.runtime.log import fold_output, recorded_twice
from greenroom.transports import RunState, log_topic

House = Callable[..., Any]

made: list[str] = []
go = Signal("go", bool)


@pytest.fixture(autouse=True)
def clean() -> None:
    made.clear()


@component
async def fetch(topic: str) -> str:
    made.append(f"fetch {topic}")
    return f"posts on {topic}"


@component
async def write(notes: str, words: int = 100) -> str:
    made.append(f"write {words}")
    await emit(f"[{words}]")
    return f"{words} words on {notes}"


@component
async def check(text: str) -> bool:
    made.append("check")
    return True


@component(name="write")
async def write_better(notes: str, words: int = 100) -> str:
    made.append(f"better {words}")
    return f"{words} better words on {notes}"


def edition(body: Callable[..., Any]) -> Workflow[..., Any]:
    return workflow(name="edition", signals=[go])(body)


@edition
async def old(topic: str) -> str:
    notes = await fetch(topic)
    text = await write(notes)
    await go.receive()
    return text


async def changed(house: House, new: Workflow[..., Any], *others: Workflow[..., Any]) -> tuple[bytes, list[Any]]:
    """Run `old` to its gate, then go on with `new`; the result, and the log."""
    before = house(old)
    async with before.worker("old"):
        run, _ = await before.runs.start("edition", b'{"topic": "tea"}')
        async with before.store.watch(log_topic(run.run_id)) as watch:
            while (await before.store.run(run.run_id)).state is not RunState.WAITING:
                await watch.wait(1.0)
    made.append("--")
    after = house(new, *others)
    async with after.worker("new"):
        await after.runs.inlets.signal(run.run_id, "go", b"true")
        result = await after.runs.result(run.run_id)
    events = [event async for event in after.runs.events(run.run_id)]
    assert recorded_twice(events) == []
    return result, events


async def test_unchanged_code_makes_nothing_again(house: House) -> None:
    result, events = await changed(house, old)
    assert result == b'"100 words on posts on tea"'
    assert made == ["fetch tea", "write 100", "--"]
    assert (events[-1].record.replayed, events[-1].record.unasked) == (2, ())
    assert fold_output(events) == "[100]"


async def test_an_added_step_is_made_and_the_others_answer(house: House) -> None:
    @edition
    async def new(topic: str) -> str:
        notes = await fetch(topic)
        text = await write(notes)
        ok = await check(text)
        await go.receive()
        return f"{text}, {'checked' if ok else 'not checked'}"

    result, _ = await changed(house, new)
    assert result == b'"100 words on posts on tea, checked"'
    assert made == ["fetch tea", "write 100", "--", "check"]


async def test_a_removed_step_is_reported_and_not_fatal(house: House) -> None:
    @edition
    async def new(topic: str) -> str:
        notes = await fetch(topic)
        await go.receive()
        return notes

    result, events = await changed(house, new)
    assert result == b'"posts on tea"'
    assert made[-1] == "--"
    [unasked] = events[-1].record.unasked
    assert unasked.startswith("write-")


async def test_steps_in_another_order_answer(house: House) -> None:
    @edition
    async def new(topic: str) -> str:
        await go.receive()
        text, notes = await asyncio.gather(write("posts on tea"), fetch(topic))
        return f"{notes}: {text}"

    result, events = await changed(house, new)
    assert result == b'"posts on tea: 100 words on posts on tea"'
    assert made == ["fetch tea", "write 100", "--"]
    assert events[-1].record.unasked == ()


async def test_a_step_with_other_arguments_is_made_and_the_old_one_reported(house: House) -> None:
    @edition
    async def new(topic: str) -> str:
        text = await write(await fetch(topic), words=200)
        await go.receive()
        return text

    result, events = await changed(house, new)
    assert result == b'"200 words on posts on tea"'
    assert made == ["fetch tea", "write 100", "--", "write 200"]
    assert len(events[-1].record.unasked) == 1


async def test_an_edited_component_keeps_its_result_until_it_has_a_new_name(house: House) -> None:
    @edition
    async def edited(topic: str) -> str:
        text = await write_better(await fetch(topic))
        await go.receive()
        return text

    result, _ = await changed(house, edited)
    assert result == b'"100 words on posts on tea"'
    assert made[-1] == "--"


async def test_a_step_moved_into_another_is_made_in_its_new_place(house: House) -> None:
    @component
    async def report(topic: str) -> str:
        return await write(await fetch(topic))

    @edition
    async def new(topic: str) -> str:
        text = await report(topic)
        await go.receive()
        return text

    result, events = await changed(house, new)
    assert result == b'"100 words on posts on tea"'
    assert made == ["fetch tea", "write 100", "--", "fetch tea", "write 100"]
    assert len(events[-1].record.unasked) == 2


async def test_a_loop_that_grew_makes_only_what_is_new(house: House) -> None:
    @edition
    async def new(topic: str) -> str:
        texts = [await write(await fetch(topic), words=words) for words in (100, 150, 100)]
        await go.receive()
        return "; ".join(text.partition(" ")[0] for text in texts)

    result, _ = await changed(house, new)
    assert result == b'"100; 150; 100"'
    assert made == ["fetch tea", "write 100", "--", "fetch tea", "write 150", "fetch tea", "write 100"]


# --- sagas: compensation is plain try and except, also after a takeover


async def test_compensation_runs_once_also_after_a_takeover(house: House) -> None:
    done: list[str] = []

    @component
    async def book(what: str) -> str:
        if what == "car":
            raise ConnectionError("sold out")
        done.append(f"book {what}")
        return what

    @component
    async def cancel(what: str) -> None:
        done.append(f"cancel {what}")

    @workflow
    async def part(what: str) -> str:
        return await book(what)

    @workflow
    async def trip() -> str:
        booked: list[str] = []
        try:
            for what in ("flight", "hotel", "car"):
                booked.append(await (child(part, what) if what == "hotel" else book(what)))
        except StepFailed as error:
            await sleep(60)
            for what in reversed(booked):
                await cancel(what)
            return f"{error.failure.type}: canceled {len(booked)}"
        return "booked"

    home = house(trip, part)
    run, _ = await home.runs.start("trip", b"{}")
    async with home.worker("a"):
        await anyio.sleep(30)
    async with home.worker("b", park_after_s=1000):
        await anyio.sleep(10)
    async with home.worker("c"):
        assert await home.runs.result(run.run_id) == b'"ConnectionError: canceled 2"'
    assert done == ["book flight", "book hotel", "cancel hotel", "cancel flight"]
