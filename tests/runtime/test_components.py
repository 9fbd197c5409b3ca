"""Components as actors: in the tree, counted, supervised; waited for in order, and until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio

from greenroom import Crash, Retry, StepFailed, Timeout, component, emit, workflow
from greenroom.actors import TreeNode
from greenroom.runtime.log import fold_output

House = Callable[..., Any]


def performers(tree: TreeNode) -> dict[str, TreeNode]:
    """The actors of all components, by component and number."""
    above = "worker/components/"
    return {node.path.removeprefix(above): node for node in tree.walk() if node.path.startswith(above)}


async def test_a_call_of_a_function_is_a_message_to_an_actor_of_its_pool(house: House) -> None:
    names: list[str] = []

    @component
    async def look(n: int) -> int:
        task = asyncio.current_task()
        names.append("" if task is None else task.get_name())
        await anyio.sleep(1)
        return n

    @workflow
    async def lookers() -> int:
        await asyncio.gather(*(look(n) for n in range(3)))
        return await look(3)

    home = house(lookers)
    async with home.worker() as worker:
        run, _ = await home.runs.start("lookers", b"{}")
        assert await home.runs.result(run.run_id) == b"3"
        found = performers(worker.tree())
        assert [found[f"look/{number}"].handled for number in (1, 2, 3)].count(1) == 2
        assert sum(node.handled for node in found.values()) == 4
        assert not any(run.run_id in name for name in names), "no task of the run's performs it"


async def test_a_crash_of_a_function_is_the_supervisors_and_its_step_is_tried_again(house: House) -> None:
    crashes = 0

    @component(retry=Retry(attempts=2, first_s=0))
    async def shaky() -> int:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise Crash("broken")
        return crashes

    @workflow
    async def shakes() -> int:
        return await shaky()

    home = house(shakes)
    async with home.worker() as worker:
        run, _ = await home.runs.start("shakes", b"{}")
        assert await home.runs.result(run.run_id) == b"2"
        one = performers(worker.tree())["shaky/1"]
        assert (one.crashes, one.restarts, one.state) == (1, 1, "running")


async def test_a_pool_whose_supervisor_gave_up_is_there_for_the_next_call(house: House) -> None:
    crashes = 0

    @component(retry=Retry(attempts=100, first_s=0))
    async def wreck(times: int) -> int:
        nonlocal crashes
        if crashes < times:
            crashes += 1
            raise Crash("broken")
        return crashes

    @workflow
    async def wrecks(times: int) -> int:
        return await wreck(times)

    home = house(wrecks)
    async with home.worker() as worker:
        for times in (7, 40):
            run, _ = await home.runs.start("wrecks", b'{"times":%d}' % times)
            assert await home.runs.result(run.run_id) == b"%d" % times
            await anyio.sleep(100)
        assert performers(worker.tree())["wreck"].crashes > 1


async def test_context_variables_that_a_call_sets_are_forgotten_with_it(house: House) -> None:
    colour: ContextVar[str] = ContextVar("colour", default="none")

    @component
    async def paint(name: str, *, rest_s: float) -> list[str]:
        before = colour.get()
        colour.set(name)
        await anyio.sleep(rest_s)
        await emit(name)
        return [before, colour.get()]

    @workflow
    async def painter(rest_s: float) -> list[list[str]]:
        colour.set("of the body")
        return [await paint("red", rest_s=rest_s), await paint("blue", rest_s=rest_s)]

    home = house(painter)
    async with home.worker() as worker:
        for rest_s in (0, 1):
            run, _ = await home.runs.start("painter", b'{"rest_s":%d}' % rest_s)
            assert await home.runs.result(run.run_id) == b'[["none","red"],["none","blue"]]'
            assert fold_output([event async for event in home.runs.events(run.run_id)]) == "redblue"
        assert performers(worker.tree())["paint/1"].handled == 4


async def test_whoever_waits_for_a_place_gets_it_in_order_also_behind_one_who_left(house: House) -> None:
    order: list[int] = []

    @component(concurrency=1)
    async def narrow(n: int) -> int:
        order.append(n)
        await anyio.sleep(1)
        return n

    @workflow
    async def queue() -> list[int]:
        async def late(n: int) -> int:
            await anyio.sleep(n / 100)
            if n != 2:
                return await narrow(n)
            with anyio.move_on_after(0.5):
                await narrow(n)
            return 0

        return list(await asyncio.gather(*(late(n) for n in range(6))))

    home = house(queue)
    async with home.worker():
        run, _ = await home.runs.start("queue", b"{}")
        assert await home.runs.result(run.run_id) == b"[0,1,0,3,4,5]"
    assert order == [0, 1, 3, 4, 5]


async def test_a_canceled_call_has_ended_before_its_caller_goes_on(house: House) -> None:
    said: list[str] = []

    @component(timeout=Timeout(total_s=1))
    async def tidy(n: int) -> int:
        try:
            await anyio.sleep(n)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
            said.append(f"tidied up {n}")
            await emit("the last word")
        return n

    @workflow
    async def leave() -> str:
        try:
            await tidy(100)
        except StepFailed:
            said.append("given up")
        return "left"

    home = house(leave)
    async with home.worker() as worker:
        run, _ = await home.runs.start("leave", b"{}")
        assert await home.runs.result(run.run_id) == b'"left"'
        assert said == ["tidied up 100", "given up"]
        assert performers(worker.tree())["tidy/1"].state == "running"
        assert fold_output([event async for event in home.runs.events(run.run_id)]) == ""
