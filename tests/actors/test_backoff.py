"""Backoff, after Akka's: a child that fails waits before it is started again, and nobody else waits with it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from greenroom.actors import (
    AlreadyStarted,
    Backoff,
    ChildSpec,
    Restart,
    SpecInvalid,
    Strategy,
    SupervisorFailed,
    SupervisorSpec,
    supervise,
)

from .cast import Boom, Echo, Get, Stage, settle

STEADY = Backoff(first=1, factor=2, longest=8, jitter=0)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(*children: ChildSpec[Any] | SupervisorSpec, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="root", **{"intensity": 100, "children": children, **options})


async def starts_of(tree: Any, stage: Stage, seconds: int) -> list[float]:
    """When, in the next seconds, a player called "a" starts; each start is followed by a crash."""
    loop = asyncio.get_running_loop()
    begin, starts = loop.time(), []
    for _ in range(seconds * 10):
        if "+a" in stage.take():
            starts.append(round(loop.time() - begin, 1))
            tree.ref("a").tell(Boom("again"))
        await asyncio.sleep(0.1)
    return starts


async def test_each_failure_of_a_series_is_followed_by_a_longer_wait(stage: Stage) -> None:
    async with supervise(root(ChildSpec(name="a", start=stage.player("a"), backoff=STEADY))) as tree:
        starts = await starts_of(tree, stage, 40)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert waits[:6] == pytest.approx([1, 2, 4, 8, 8, 8], abs=0.2)


async def test_a_life_as_long_as_the_longest_wait_ends_the_series(stage: Stage) -> None:
    async with supervise(root(ChildSpec(name="a", start=stage.player("a"), backoff=STEADY))) as tree:
        await starts_of(tree, stage, 7)
        await asyncio.sleep(20)
        tree.ref("a").tell(Boom("after a long life"))
        await settle()
        stage.take()
        await asyncio.sleep(1.1)
        assert "+a" in stage.take()


async def test_a_waiting_child_holds_up_nobody_and_keeps_its_messages(stage: Stage) -> None:
    children = (ChildSpec(name="a", start=Echo, backoff=STEADY), ChildSpec(name="b", start=Echo))
    async with supervise(root(*children), events=stage.hear) as tree:
        tree.ref("a").tell(Boom("wait"))
        await settle()
        assert tree.tree().children[0].state == "restarting"
        tree.ref("a").tell("kept")
        tree.ref("b").tell(Boom("at once"))
        await settle()
        assert stage.restarts == ["root/b"]
        await tree.start_child(ChildSpec(name="c", start=Echo))
        with pytest.raises(AlreadyStarted):
            await tree.start_child(ChildSpec(name="a", start=Echo))
        assert await tree.ref("a").ask(Get()) == 1
        assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.1)


async def test_a_child_stopped_while_it_waits_is_not_started(stage: Stage) -> None:
    async with supervise(root(ChildSpec(name="a", start=stage.player("a"), backoff=STEADY))) as tree:
        tree.ref("a").tell(Boom("wait"))
        await settle()
        await tree.stop_child("a")
        stage.take()
        await asyncio.sleep(100)
        assert stage.take() == []
        await tree.start_child(ChildSpec(name="a", start=stage.player("a")))
        assert stage.take() == ["+a"]


async def test_a_tree_stops_at_once_while_a_child_waits(stage: Stage) -> None:
    async with supervise(root(ChildSpec(name="a", start=stage.player("a"), backoff=Backoff(first=30)))) as tree:
        tree.ref("a").tell(Boom("wait"))
        await settle()
    assert asyncio.get_running_loop().time() < 1


async def test_a_start_that_fails_again_waits_longer(stage: Stage) -> None:
    spec = ChildSpec(name="a", start=stage.player("a", fail=[]), backoff=STEADY)
    fails: list[Exception] = []
    spec = ChildSpec(name="a", start=lambda: stage.player("a", fail=fails)(), backoff=STEADY)
    async with supervise(root(spec)) as tree:
        fails.extend([Boom("one"), Boom("two")])
        tree.ref("a").tell(Boom("now"))
        assert await tree.ref("a").ask(Get()) == 0
        assert asyncio.get_running_loop().time() == pytest.approx(1 + 2 + 4, abs=0.1)
    assert stage.take() == ["+a", "-a crashed", "a fails", "a fails", "+a", "-a shutdown"]


async def test_with_one_for_all_the_group_stops_at_once_and_starts_after_the_wait(stage: Stage) -> None:
    children = (
        ChildSpec(name="x", start=stage.player("x")),
        ChildSpec(name="a", start=stage.player("a"), backoff=STEADY),
        ChildSpec(name="t", start=stage.player("t"), restart=Restart.TEMPORARY),
        ChildSpec(name="y", start=stage.player("y")),
    )
    async with supervise(root(*children, strategy=Strategy.ONE_FOR_ALL)) as tree:
        stage.take()
        tree.ref("a").tell(Boom("together"))
        await asyncio.sleep(0.5)
        assert stage.take() == ["-a crashed", "-y shutdown", "-t shutdown", "-x shutdown"]
        await tree.stop_child("y")
        await tree.start_child(ChildSpec(name="new", start=stage.player("new")))
        await asyncio.sleep(1)
        assert stage.take() == ["+new", "+x", "+a"]


async def test_a_group_restart_does_not_wait_for_a_member_s_backoff(stage: Stage) -> None:
    children = (
        ChildSpec(name="x", start=stage.player("x")),
        ChildSpec(name="a", start=stage.player("a"), backoff=Backoff(first=30)),
    )
    async with supervise(root(*children, strategy=Strategy.REST_FOR_ONE)) as tree:
        tree.ref("a").tell(Boom("wait"))
        await settle()
        stage.take()
        tree.ref("x").tell(Boom("all"))
        await settle()
        assert stage.take() == ["-x crashed", "+x", "+a"]
        await asyncio.sleep(100)
        assert stage.take() == []


async def test_restarts_that_wait_count_for_the_intensity(stage: Stage) -> None:
    spec = root(ChildSpec(name="a", start=stage.player("a"), backoff=STEADY), intensity=2, period=100)
    with pytest.raises(SupervisorFailed):
        async with supervise(spec) as tree:
            await starts_of(tree, stage, 100)
    assert asyncio.get_running_loop().time() < 10


async def test_a_supervisor_can_wait_too(stage: Stage) -> None:
    below = SupervisorSpec(name="below", intensity=0, children=stage.children("x"))
    async with supervise(root(ChildSpec(name="below", start=below, backoff=STEADY, shutdown=None))) as tree:
        tree.supervisor("below").ref("x").tell(Boom("escalate"))
        await asyncio.sleep(0.9)
        assert tree.tree().children[0].state == "restarting"
        await asyncio.sleep(0.2)
        assert stage.take() == ["+x", "-x crashed", "+x"]


async def test_jitter_shortens_waits_and_the_seed_decides_how(stage: Stage) -> None:
    async def waits(seed: int) -> list[float]:
        spec = Backoff(first=10, factor=1, longest=10, jitter=0.9, seed=seed)
        stage.take()
        async with supervise(root(ChildSpec(name="a", start=stage.player("a"), backoff=spec))) as tree:
            starts = await starts_of(tree, stage, 60)
        return [later - earlier for earlier, later in itertools.pairwise(starts)]

    one, same, other = await waits(1), await waits(1), await waits(2)
    assert one == pytest.approx(same, abs=0.11)
    assert one[:3] != pytest.approx(other[:3], abs=0.11)
    assert all(1 <= wait <= 10.2 for wait in one)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"first": 0}, "first of a Backoff is 0"),
        ({"factor": 0.5}, "factor of a Backoff is 0.5"),
        ({"first": 2, "longest": 1}, "longest of a Backoff is 1"),
        ({"jitter": 2}, "jitter of a Backoff is 2"),
    ],
)
def test_a_backoff_that_cannot_be_names_the_field_and_the_fix(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecInvalid, match=complaint):
        Backoff(**options)
