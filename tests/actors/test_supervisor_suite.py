"""OTP's supervisor_SUITE as tables: every way to start, end, stop and restart, by every kind of child.

`test_supervisor.py` tells the stories; here are the combinations. Names in brackets are OTP's test cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    AlreadyStarted,
    AutoShutdown,
    ChildSpec,
    Mailbox,
    Restart,
    SpecInvalid,
    StartFailed,
    Stop,
    Strategy,
    SupervisorFailed,
    SupervisorSpec,
    SupervisorStopped,
    supervise,
)

from .cast import Boom, Echo, Get, Stage, settle

GROUPS = [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(*children: ChildSpec[Any] | SupervisorSpec, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="root", **{"intensity": 10, "children": children, **options})


def leave(actor: Echo) -> None:
    actor.context.stop()


# Start (start_normal, start_fail, start_bad_spec)


async def test_a_child_that_the_supervisor_cannot_treat_as_it_asks_is_refused_and_leaves_no_trace(stage: Stage) -> None:
    async with supervise(root(*stage.children("a")), events=stage.hear) as tree:
        before = tree.tree()
        with pytest.raises(SpecInvalid, match="b is significant"):
            await tree.start_child(ChildSpec(name="b", start=Echo, restart=Restart.TRANSIENT, significant=True))
        with pytest.raises(AlreadyStarted):
            await tree.start_child(ChildSpec(name="a", start=Echo, restart=Restart.TEMPORARY))
        assert tree.tree() == before
        await tree.stop_child("a")
        assert [node.path for node in tree.tree().children] == ["root/a"], "the running child's spec was changed"


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_wherever_a_start_fails_those_before_are_stopped_and_those_behind_never_started(
    stage: Stage, position: int
) -> None:
    names = ["a", "b", "c"]
    children = list(stage.children(*names))
    children[position] = ChildSpec(name="bad", start=stage.player("bad", fail=[Boom("no")]))
    with pytest.raises(StartFailed):
        async with supervise(root(*children)):
            pytest.fail("the block must not run")
    before = names[:position]
    assert stage.take() == [*(f"+{n}" for n in before), "bad fails", *(f"-{n} shutdown" for n in reversed(before))]


async def test_a_child_that_has_just_started_when_the_stop_comes_is_stopped_and_not_killed(stage: Stage) -> None:
    """Its supervisor has not heard yet that it is up."""

    class Prompt(stage.player("a")):  # type: ignore[misc]
        async def started(self) -> None:
            await super().started()
            if stage.restarts or stage.exits:
                asyncio.get_running_loop().call_soon(tree.shut_down)

    async with supervise(root(ChildSpec(name="a", start=Prompt)), events=stage.hear) as tree:
        tree.ref("a").tell(Boom("a"))
        await tree.wait()
    assert stage.take() == ["+a", "-a crashed", "+a", "-a shutdown"]


# The ways to end by oneself (permanent_normal ... temporary_abnormal)


async def obedient(mailbox: Mailbox[Any]) -> None:
    """Ends as it is told to: normally, as if shut down, or by a crash."""
    how = await mailbox.get()
    if isinstance(how, BaseException):
        raise how


def self_ending_supervisor(name: str) -> SupervisorSpec:
    """Ends by itself: in an orderly way with its significant child, or by giving up."""
    part = ChildSpec(name="part", start=Echo, restart=Restart.TRANSIENT, significant=True)
    return SupervisorSpec(name=name, intensity=0, auto_shutdown=AutoShutdown.ANY, children=(part,))


AGAIN = {
    (Restart.PERMANENT, "NORMAL"): True,
    (Restart.PERMANENT, "SHUTDOWN"): True,
    (Restart.PERMANENT, "CRASHED"): True,
    (Restart.TRANSIENT, "NORMAL"): False,
    (Restart.TRANSIENT, "SHUTDOWN"): False,
    (Restart.TRANSIENT, "CRASHED"): True,
    (Restart.TEMPORARY, "NORMAL"): False,
    (Restart.TEMPORARY, "SHUTDOWN"): False,
    (Restart.TEMPORARY, "CRASHED"): False,
}


@pytest.mark.parametrize(("restart", "how"), AGAIN)
async def test_the_restart_type_decides_by_the_way_an_actor_ended(stage: Stage, restart: Restart, how: str) -> None:
    message = {"NORMAL": "leave", "SHUTDOWN": Stop(), "CRASHED": Boom("now")}[how]
    async with supervise(root(ChildSpec(name="a", start=obedient, restart=restart)), events=stage.hear) as tree:
        ref = tree.ref("a")
        ref.tell(message)
        await settle()
        assert stage.exits == [("root/a", how)]
        assert ref.alive is AGAIN[restart, how]
        assert stage.restarts == ["root/a"] * AGAIN[restart, how]
        assert len(tree.tree().children) == (restart is not Restart.TEMPORARY)


@pytest.mark.parametrize(("restart", "how"), [key for key in AGAIN if key[1] != "NORMAL"])
async def test_the_restart_type_decides_by_the_way_a_supervisor_ended(stage: Stage, restart: Restart, how: str) -> None:
    child = ChildSpec(name="s", start=self_ending_supervisor("s"), restart=restart, shutdown=None)
    async with supervise(root(child), events=stage.hear) as tree:
        first = tree.supervisor("s")
        first.ref("part").tell(leave if how == "SHUTDOWN" else Boom("part"))
        await settle()
        assert ("root/s", how) in stage.exits
        assert stage.restarts == ["root/s"] * AGAIN[restart, how]
        assert [node.state for node in tree.tree().children] == (
            [] if restart is Restart.TEMPORARY else ["running" if AGAIN[restart, how] else "stopped"]
        )
        if AGAIN[restart, how]:
            assert tree.supervisor("s") is not first
            assert await tree.supervisor("s").ref("part").ask(Get()) == 0


# The ways to be stopped (shutdown infinity, timeout then kill, brutal_kill), by every kind of child


def lingering_function(linger: float) -> Any:
    async def play(mailbox: Mailbox[Any]) -> None:
        try:
            await mailbox.get()
        finally:
            with anyio.CancelScope():
                await asyncio.sleep(linger)

    return play


def kinds(stage: Stage, linger: float) -> dict[str, Any]:
    below = ChildSpec(name="x", start=stage.player("x", linger=linger), shutdown=None)
    return {
        "actor": stage.player("a", linger=linger),
        "function": lingering_function(linger),
        "supervisor": SupervisorSpec(name="a", children=(below,)),
    }


@pytest.mark.parametrize("kind", ["actor", "function", "supervisor"])
@pytest.mark.parametrize(
    ("shutdown", "linger", "exit_name", "seconds"),
    [(None, 1000, "SHUTDOWN", 1000), (7, 5, "SHUTDOWN", 5), (7, 1000, "KILLED", 7), (0, 1000, "KILLED", 0)],
)
async def test_a_stop_takes_the_child_s_time_or_its_shutdown_time_whichever_is_less(
    stage: Stage, kind: str, shutdown: float | None, linger: float, exit_name: str, seconds: float
) -> None:
    child = ChildSpec(name="a", start=kinds(stage, linger)[kind], shutdown=shutdown)
    async with supervise(root(child), events=stage.hear) as tree:
        await settle()
        before = asyncio.get_running_loop().time()
        await tree.stop_child("a")
        assert asyncio.get_running_loop().time() - before == pytest.approx(seconds, abs=0.01)
        assert stage.exits[-1] == ("root/a", exit_name)
        assert stage.restarts == []


@pytest.mark.parametrize("kind", ["actor", "function", "supervisor"])
async def test_a_killed_member_of_a_group_restart_is_started_again_like_the_others(stage: Stage, kind: str) -> None:
    child = ChildSpec(name="a", start=kinds(stage, 1000)[kind], shutdown=2, restart=Restart.TRANSIENT)
    spec = root(*stage.children("z"), child, strategy=Strategy.ONE_FOR_ALL)
    async with supervise(spec, events=stage.hear) as tree:
        await settle()
        tree.ref("z").tell(Boom("z"))
        await asyncio.sleep(5)
        assert ("root/a", "KILLED") in stage.exits
        assert [node.state for node in tree.tree().children] == ["running", "running"]
        await tree.stop_child("a")


# Groups


@pytest.mark.parametrize("strategy", GROUPS)
async def test_a_temporary_bystander_goes_with_the_group_and_does_not_come_back(
    stage: Stage, strategy: Strategy
) -> None:
    """temporary_bystander."""
    guest = ChildSpec(name="guest", start=stage.player("guest"), restart=Restart.TEMPORARY)
    spec = root(*stage.children("a"), guest, *stage.children("z"), strategy=strategy)
    async with supervise(spec, events=stage.hear) as tree:
        stage.take()
        ref = tree.ref("guest")
        tree.ref("a").tell(Boom("a"))
        await settle()
        assert stage.take() == ["-a crashed", "-z shutdown", "-guest shutdown", "+a", "+z"]
        assert not ref.alive
        assert [node.path for node in tree.tree().children] == ["root/a", "root/z"]


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_the_crash_of_a_temporary_child_restarts_nobody_and_counts_for_nothing(
    stage: Stage, strategy: Strategy
) -> None:
    guest = ChildSpec(name="guest", start=stage.player("guest"), restart=Restart.TEMPORARY)
    spec = root(guest, *stage.children("z"), strategy=strategy, intensity=0)
    async with supervise(spec, events=stage.hear) as tree:
        stage.take()
        tree.ref("guest").tell(Boom("guest"))
        await settle()
        assert stage.take() == ["-guest crashed"]
        assert tree.tree().state == "running"


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_child_that_crashes_while_another_is_starting_again_is_restarted_after_it(
    stage: Stage, strategy: Strategy
) -> None:
    class Slow(Echo):
        starts = 0

        async def started(self) -> None:
            Slow.starts += 1
            await asyncio.sleep(2 * (Slow.starts > 1))

    spec = root(ChildSpec(name="slow", start=Slow), *stage.children("b"), strategy=strategy)
    async with supervise(spec, events=stage.hear) as tree:
        tree.ref("slow").tell(Boom("slow"))
        await asyncio.sleep(1)
        tree.ref("b").tell(Boom("b"))
        await asyncio.sleep(10)
        assert [node.state for node in tree.tree().children] == ["running", "running"]
        assert stage.restarts[:1] == ["root/slow"]
        assert stage.restarts.count("root/b") == (1 if strategy is Strategy.ONE_FOR_ONE else 2)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_hanging_restart_loop_is_broken_off_by_a_stop(stage: Stage, strategy: Strategy) -> None:
    """hanging_restart_loop, hanging_restart_loop_rest_for_one."""

    class Flaky(Echo):
        starts = 0

        async def started(self) -> None:
            Flaky.starts += 1
            if Flaky.starts > 1:
                await asyncio.sleep(1)
                raise Boom("not yet")

    flaky = ChildSpec(name="f", start=Flaky)
    spec = root(flaky, *stage.children("z"), strategy=strategy, intensity=1_000_000, period=1e9)
    async with supervise(spec, events=stage.hear) as tree:
        tree.ref("f").tell(Boom("f"))
        await asyncio.sleep(20.5)
        assert Flaky.starts > 10
        before = asyncio.get_running_loop().time()
        await tree.stop()
        assert asyncio.get_running_loop().time() - before < 2
        starts = Flaky.starts
        with pytest.raises(SupervisorStopped):
            await tree.start_child(flaky)
        await asyncio.sleep(20)
        assert Flaky.starts == starts


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_restarts_that_keep_failing_are_counted_and_escalate(stage: Stage, strategy: Strategy) -> None:
    """one_for_all_other_child_fails_restart and its like, to the end."""
    fail: list[Exception] = []
    bad = ChildSpec(name="bad", start=lambda: stage.player("bad", fail=fail)())
    with pytest.raises(SupervisorFailed) as caught:  # noqa: PT012 - it comes out of the context, not of the block
        async with supervise(root(bad, strategy=strategy, intensity=3)) as tree:
            fail.extend(Boom(str(number)) for number in range(100))
            tree.ref("bad").tell(Boom("first"))
            await asyncio.Event().wait()
    assert len(fail) == 97, "three restarts were allowed"
    assert len(caught.value.history) == 4


# Many


async def test_ten_thousand_temporary_children_that_crash_at_once_are_all_forgotten(stage: Stage) -> None:
    """temporary children do not count, and their specs are not kept."""
    async with supervise(root(intensity=0), events=stage.hear) as tree:
        refs = [
            await tree.start_actor(ChildSpec(name=str(number), start=Echo, restart=Restart.TEMPORARY))
            for number in range(10_000)
        ]
        for ref in refs:
            ref.tell(Boom("all of us"))
        await settle()
        assert tree.tree().children == ()
        assert len(stage.exits) == 10_000
        assert not any(ref.alive for ref in refs)
        assert len(asyncio.all_tasks()) < 20


# Significant children (significant_*, auto_shutdown)


def crash_it(ref: Any) -> None:
    ref.tell(Boom("significant"))


def let_it_leave(ref: Any) -> None:
    ref.tell(leave)


@pytest.mark.parametrize(
    ("restart", "end", "done"),
    [
        (Restart.TRANSIENT, let_it_leave, True),
        (Restart.TRANSIENT, crash_it, False),
        (Restart.TEMPORARY, let_it_leave, True),
        (Restart.TEMPORARY, crash_it, True),
    ],
)
@pytest.mark.parametrize("auto", [AutoShutdown.ANY, AutoShutdown.ALL])
async def test_the_end_of_significant_children_ends_their_supervisor_when_they_are_done(
    stage: Stage, restart: Restart, end: Callable[[Any], None], done: bool, auto: AutoShutdown
) -> None:
    parts = tuple(ChildSpec(name=name, start=Echo, restart=restart, significant=True) for name in "xy")
    async with supervise(root(*parts, *stage.children("z"), auto_shutdown=auto), events=stage.hear) as tree:
        refs = [tree.ref(name) for name in "xy"]
        end(refs[0])
        await settle()
        assert tree.tree().state == ("stopped" if done and auto is AutoShutdown.ANY else "running")
        end(refs[1])
        await settle()
        assert tree.tree().state == ("stopped" if done else "running")
        if done:
            await tree.wait()
            assert stage.take() == ["+z", "-z shutdown"]


@pytest.mark.parametrize("strategy", GROUPS)
async def test_a_significant_child_stopped_with_its_group_does_not_end_the_supervisor(
    stage: Stage, strategy: Strategy
) -> None:
    part = ChildSpec(name="x", start=Echo, restart=Restart.TEMPORARY, significant=True)
    spec = root(*stage.children("a"), part, strategy=strategy, auto_shutdown=AutoShutdown.ANY)
    async with supervise(spec, events=stage.hear) as tree:
        tree.ref("a").tell(Boom("a"))
        await settle()
        assert tree.tree().state == "running"
        assert [node.path for node in tree.tree().children] == ["root/a"]
