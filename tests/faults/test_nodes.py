"""Simulated processes: a frozen one does nothing at all, a thawed one goes on, and lines fail as they should."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from greenroom.runtime.testing.nodes import Line, NodeLoop, ReplyLost, current_line, outside
from greenroom.transports import StoreUnavailable


def simulate(main: Callable[[NodeLoop, Line], Awaitable[Any]]) -> Any:
    """Run a body on a loop of nodes, with one line."""

    async def begin() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, NodeLoop)
        return await main(loop, Line("a", random.Random(0)))

    with asyncio.Runner(loop_factory=partial(NodeLoop, 3)) as runner:
        return runner.run(begin())


def test_a_frozen_node_neither_steps_nor_hears_its_timers_and_goes_on_when_thawed() -> None:
    async def main(loop: NodeLoop, line: Line) -> list[float]:
        ticks: list[float] = []

        async def tick() -> None:
            current_line.set(line)
            loop.call_later(2.2, ticks.append, -1.0)
            for _ in range(4):
                await anyio.sleep(1.0)
                ticks.append(loop.time())

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await anyio.sleep(1.5)
            loop.freeze(line)
            await anyio.sleep(10.0)
            assert ticks == [1.0]
            assert loop.frozen(line)
            loop.thaw(line)
        return ticks

    assert simulate(main) == [1.0, -1.0, 11.5, 12.5, 13.5]


def test_an_event_that_a_frozen_node_waits_for_is_heard_when_it_thaws() -> None:
    async def main(loop: NodeLoop, line: Line) -> float:
        event, heard = anyio.Event(), []

        async def listen() -> None:
            current_line.set(line)
            await event.wait()
            heard.append(loop.time())

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.sleep(1.0)
            loop.freeze(line)
            event.set()
            await anyio.sleep(1.0)
            assert not heard
            loop.thaw(line)
        return heard[0]

    assert simulate(main) == 2.0


def test_a_line_that_is_down_fails_and_nothing_happens_at_the_far_end() -> None:
    async def main(loop: NodeLoop, line: Line) -> None:
        current_line.set(line)
        done: list[int] = []
        line.down = True
        with pytest.raises(ConnectionError, match="down"):
            await outside(lambda: done.append(1))
        line.mend()
        await outside(lambda: done.append(2))
        assert done == [2]

    simulate(main)


def test_an_answer_that_is_lost_leaves_the_effect_behind() -> None:
    async def main(loop: NodeLoop, line: Line) -> None:
        done: list[int] = []

        async def act() -> None:
            done.append(1)

        line.to_lose = 1
        with pytest.raises(ReplyLost) as lost:
            await line.call(act)
        assert isinstance(lost.value, StoreUnavailable)
        await line.call(act)
        assert (done, line.harmed) == ([1, 1], 1)

    simulate(main)


def test_a_call_on_a_hung_line_gets_there_when_the_line_is_mended() -> None:
    async def main(loop: NodeLoop, line: Line) -> None:
        done: list[float] = []

        async def act() -> None:
            done.append(loop.time())

        async with anyio.create_task_group() as group:
            line.hung = True
            group.start_soon(line.call, act)
            await anyio.sleep(5.0)
            assert not done
            line.mend()
        assert done[0] >= 5.0

    simulate(main)


async def test_outside_a_simulation_an_effect_is_simply_had() -> None:
    assert await outside(lambda: 7) == 7
