"""The supervisor, after OTP's supervisor_SUITE: each test names the behaviour that it mirrors."""

# ruff: noqa: PT012 - what a failing tree raises comes out of the context around the block that made it fail

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    ActorDied,
    AlreadyStarted,
    AutoShutdown,
    ChildExited,
    ChildSpec,
    Escalated,
    Exit,
    Ignore,
    Mailbox,
    Ref,
    Restart,
    SpecInvalid,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorFailed,
    SupervisorSpec,
    SupervisorStopped,
    UnknownChild,
    supervise,
)

from .cast import Boom, Echo, Get, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(*children: ChildSpec[Any] | SupervisorSpec, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="root", **{"intensity": 10, "children": children, **options})


# Start and stop


async def test_children_start_in_order_and_stop_in_reverse_order(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b", "c"))):
        assert stage.take() == ["+a", "+b", "+c"]
    assert stage.take() == ["-c shutdown", "-b shutdown", "-a shutdown"]


async def test_a_failed_start_stops_those_started_before_in_reverse_and_raises(stage: Stage) -> None:
    bad = ChildSpec(name="bad", start=stage.player("bad", fail=[Boom("no")]))
    with pytest.raises(StartFailed, match="root did not start") as caught:
        async with supervise(root(*stage.children("a", "b"), bad, *stage.children("d"))):
            pytest.fail("the block must not run")
    assert stage.take() == ["+a", "+b", "bad fails", "-b shutdown", "-a shutdown"]
    assert isinstance(caught.value.cause, StartFailed)
    assert isinstance(caught.value.cause.cause, Boom)


async def test_a_failed_start_below_names_the_way_down(stage: Stage) -> None:
    bad = ChildSpec(name="bad", start=stage.player("bad", fail=[Boom("no")]))
    below = SupervisorSpec(name="below", children=(*stage.children("x"), bad))
    with pytest.raises(StartFailed, match="root/below/bad"):
        async with supervise(root(*stage.children("a"), below)):
            pytest.fail("the block must not run")
    assert stage.take() == ["+a", "+x", "bad fails", "-x shutdown", "-a shutdown"]


async def test_a_factory_that_raises_fails_the_start() -> None:
    def factory() -> Echo:
        raise Boom("no actor today")

    with pytest.raises(StartFailed) as caught:
        async with supervise(root(ChildSpec(name="a", start=factory))):
            pytest.fail("the block must not run")
    assert isinstance(caught.value.__cause__.__cause__, Boom)  # type: ignore[union-attr]


async def test_a_child_that_outstays_its_shutdown_time_is_killed(stage: Stage) -> None:
    slow = ChildSpec(name="slow", start=stage.player("slow", linger=60), shutdown=3)
    async with supervise(root(slow), events=stage.hear):
        stage.take()
    assert asyncio.get_running_loop().time() == pytest.approx(3)
    assert stage.take() == []
    assert stage.exits == [("root/slow", "KILLED")]


async def test_a_child_with_infinite_shutdown_is_waited_for(stage: Stage) -> None:
    slow = ChildSpec(name="slow", start=stage.player("slow", linger=600), shutdown=None)
    async with supervise(root(slow), events=stage.hear):
        pass
    assert asyncio.get_running_loop().time() == pytest.approx(600)
    assert stage.exits == [("root/slow", "SHUTDOWN")]


async def test_brutal_kill_does_not_run_stopped(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", shutdown=0)), events=stage.hear):
        pass
    assert stage.take() == ["+a"]
    assert stage.exits == [("root/a", "KILLED")]


async def test_an_idle_actor_without_hooks_can_be_killed_too(stage: Stage) -> None:
    async with supervise(root(ChildSpec(name="a", start=Echo, shutdown=0)), events=stage.hear):
        pass
    assert stage.exits == [("root/a", "KILLED")]


async def test_a_message_in_hand_is_finished_before_the_stop_and_the_rest_are_dead_letters(stage: Stage) -> None:
    gate = asyncio.Event()
    done: list[str] = []

    class Worker(Echo):
        async def receive(self, message: Any) -> None:
            await gate.wait()
            done.append(message)

    async with supervise(root(ChildSpec(name="a", start=Worker)), events=stage.hear) as tree:
        for message in ("one", "two", "three"):
            tree.ref("a").tell(message)
        await settle()
        asyncio.get_running_loop().call_later(1, gate.set)
    assert done == ["one"]
    assert stage.letters == ["two", "three"]


async def test_a_start_under_way_is_broken_off_by_a_stop(stage: Stage) -> None:
    class Hanging(Echo):
        async def started(self) -> None:
            await asyncio.Event().wait()

    async with supervise(root(), events=stage.hear) as tree, anyio.create_task_group() as group:

        async def start() -> None:
            with pytest.raises((StartFailed, SupervisorStopped)):
                await tree.start_child(ChildSpec(name="h", start=Hanging, shutdown=None))

        group.start_soon(start)
        await settle()
        await tree.stop()


# Restart types

CRASH, LEAVE = "crash", "leave"


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [
        (Restart.PERMANENT, LEAVE, True),
        (Restart.PERMANENT, CRASH, True),
        (Restart.TRANSIENT, LEAVE, False),
        (Restart.TRANSIENT, CRASH, True),
        (Restart.TEMPORARY, LEAVE, False),
        (Restart.TEMPORARY, CRASH, False),
    ],
)
async def test_restart_types_decide_by_the_way_a_child_ended(
    stage: Stage, restart: Restart, how: str, again: bool
) -> None:
    async with supervise(root(ChildSpec(name="a", start=Echo, restart=restart)), events=stage.hear) as tree:
        ref = tree.ref("a")
        ref.tell(Boom("now") if how == CRASH else lambda actor: actor.context.stop())
        await settle()
        assert ref.alive is again
        assert stage.restarts == (["root/a"] if again else [])
        assert stage.exits == [("root/a", "CRASHED" if how == CRASH else "NORMAL")]
        if restart is Restart.TEMPORARY:
            with pytest.raises(UnknownChild):
                tree.child("a")
        elif not again:
            assert tree.tree().children[0].state == "stopped"


async def test_a_function_actor_ends_normally_by_returning_and_crashes_by_raising(stage: Stage) -> None:
    async def once(mailbox: Mailbox[Any]) -> None:
        message = await mailbox.get()
        if isinstance(message, Exception):
            raise message

    spec = ChildSpec(name="f", start=once, restart=Restart.TRANSIENT)
    async with supervise(root(spec), events=stage.hear) as tree:
        tree.ref("f").tell(Boom("x"))
        tree.ref("f").tell("fine")
        await settle()
    assert stage.exits == [("root/f", "CRASHED"), ("root/f", "NORMAL")]
    assert stage.restarts == ["root/f"]


# Strategies


async def crash(tree: Supervisor, name: str) -> None:
    tree.ref(name).tell(Boom(name))
    await settle()


async def test_one_for_one_restarts_only_the_child(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b", "c"))) as tree:
        stage.take()
        await crash(tree, "b")
        assert stage.take() == ["-b crashed", "+b"]


async def test_one_for_all_stops_all_in_reverse_and_starts_all_in_order(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b", "c"), strategy=Strategy.ONE_FOR_ALL)) as tree:
        stage.take()
        await crash(tree, "b")
        assert stage.take() == ["-b crashed", "-c shutdown", "-a shutdown", "+a", "+b", "+c"]


async def test_rest_for_one_restarts_those_behind(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b", "c", "d"), strategy=Strategy.REST_FOR_ONE)) as tree:
        stage.take()
        await crash(tree, "b")
        assert stage.take() == ["-b crashed", "-d shutdown", "-c shutdown", "+b", "+c", "+d"]
        await crash(tree, "d")
        assert stage.take() == ["-d crashed", "+d"]


async def test_a_temporary_bystander_of_a_group_restart_is_stopped_and_forgotten(stage: Stage) -> None:
    guest = ChildSpec(name="guest", start=stage.player("guest"), restart=Restart.TEMPORARY)
    async with supervise(root(*stage.children("a"), guest, strategy=Strategy.ONE_FOR_ALL)) as tree:
        stage.take()
        await crash(tree, "a")
        assert stage.take() == ["-a crashed", "-guest shutdown", "+a"]
        assert [child.path for child in tree.tree().children] == ["root/a"]


async def test_a_group_restart_starts_stopped_members_again(stage: Stage) -> None:
    """As in OTP: terminate_child keeps the spec, and one_for_all starts all specs."""
    async with supervise(root(*stage.children("a", "b"), strategy=Strategy.ONE_FOR_ALL)) as tree:
        ref = tree.ref("b")
        await tree.stop_child("b")
        assert (await ref.ended()).exit is Exit.SHUTDOWN
        await crash(tree, "a")
        assert ref.alive
        assert await ref.ask(Get()) == 0


async def test_messages_for_a_sibling_stopped_by_a_group_restart_are_kept(stage: Stage) -> None:
    class Slow(Echo):
        async def stopped(self, reason: object) -> None:
            await asyncio.sleep(1)

    async with supervise(
        root(*stage.children("a"), ChildSpec(name="slow", start=Slow), strategy=Strategy.ONE_FOR_ALL)
    ) as tree:
        await crash(tree, "a")
        tree.ref("slow").tell("while it stops")
        assert await tree.ref("slow").ask(Get()) == 1


# Intensity, period, escalation


async def test_one_restart_more_than_the_intensity_within_the_period_ends_the_supervisor(stage: Stage) -> None:
    with pytest.raises(SupervisorFailed) as caught:
        async with supervise(root(*stage.children("a", "b"), intensity=2, period=10), events=stage.hear) as tree:
            for name in ("a", "b", "a"):
                await crash(tree, name)
            await asyncio.Event().wait()
    assert stage.restarts == ["root/a", "root/b"]
    assert isinstance(caught.value.__cause__, Boom)
    assert [path for path, _ in caught.value.history] == ["root/a", "root/b", "root/a"]
    assert caught.value.path == "root"
    assert stage.take()[-2:] == ["-a crashed", "-b shutdown"]


async def test_restarts_older_than_the_period_do_not_count(stage: Stage) -> None:
    async with supervise(root(*stage.children("a"), intensity=1, period=10)) as tree:
        for _ in range(5):
            await crash(tree, "a")
            await asyncio.sleep(11)
        assert await tree.ref("a").ask(Get()) == 0


async def test_intensity_zero_gives_up_at_the_first_failure(stage: Stage) -> None:
    with pytest.raises(SupervisorFailed):
        async with supervise(root(*stage.children("a"), intensity=0), events=stage.hear) as tree:
            await crash(tree, "a")
            await asyncio.Event().wait()
    assert stage.restarts == []


async def test_escalation_is_the_crash_of_a_child_to_the_supervisor_above(stage: Stage) -> None:
    middle = SupervisorSpec(name="middle", intensity=1, children=stage.children("x", "y"))
    async with supervise(root(middle), events=stage.hear) as tree:
        first = tree.supervisor("middle")
        await crash(first, "x")
        await crash(first, "x")
        second = tree.supervisor("middle")
        assert second is not first
        assert await second.ref("x").ask(Get()) == 0
        assert stage.restarts == ["root/middle/x", "root/middle"]
        assert [event.path for event in stage.of(Escalated)] == ["root/middle"]
        with pytest.raises(SupervisorFailed):
            await first.wait()
        with pytest.raises(SupervisorStopped):
            await first.start_child(*stage.children("z"))


async def test_restart_intensities_multiply_over_levels(stage: Stage) -> None:
    """Levels of 1, 2 and 1 restarts allow 2 x 3 x 2 - 1 = 11 crashes; the twelfth ends the root."""
    low = SupervisorSpec(name="low", intensity=1, period=1000, children=stage.children("x"))
    middle = SupervisorSpec(name="middle", intensity=2, period=1000, children=(low,))
    crashes = 0
    with pytest.raises(SupervisorFailed) as caught:
        async with supervise(root(middle, intensity=1, period=1000)) as tree:
            while True:
                await crash(tree.supervisor("middle").supervisor("low"), "x")
                crashes += 1
    assert crashes == 11
    error: BaseException | None = caught.value
    paths = []
    while isinstance(error, SupervisorFailed):
        paths.append(error.path)
        error = error.__cause__
    assert paths == ["root", "root/middle", "root/middle/low"]
    assert isinstance(error, Boom)


async def test_a_failing_restart_counts_and_is_tried_again(stage: Stage) -> None:
    fail: list[Exception] = []
    child = ChildSpec(name="a", start=stage.player("a", fail=fail))
    async with supervise(root(child, intensity=3), events=stage.hear) as tree:
        fail.extend([Boom("1"), Boom("2")])
        tree.ref("a").tell(Boom("0"))
        tree.ref("a").tell("kept")
        await settle()
        assert stage.take() == ["+a", "-a crashed", "a fails", "a fails", "+a"]
        assert await tree.ref("a").ask(Get()) == 1


async def test_a_restart_that_keeps_failing_ends_the_supervisor(stage: Stage) -> None:
    fail: list[Exception] = []
    child = ChildSpec(name="a", start=stage.player("a", fail=fail))
    with pytest.raises(SupervisorFailed, match="Boom: 3"):
        async with supervise(root(child, intensity=3)) as tree:
            fail.extend(Boom(str(number)) for number in range(1, 20))
            await crash(tree, "a")
            await asyncio.Event().wait()
    assert stage.take() == ["+a", "-a crashed", "a fails", "a fails", "a fails"]


async def test_a_hanging_restart_loop_does_not_keep_a_stop_waiting(stage: Stage) -> None:
    """As in OTP's hanging_restart_loop: between two tries the supervisor deals with what came in."""

    class Flaky(Echo):
        starts = 0

        async def started(self) -> None:
            Flaky.starts += 1
            if Flaky.starts > 1:
                await asyncio.sleep(1)
                raise Boom("not yet")

    async with supervise(root(ChildSpec(name="a", start=Flaky), intensity=1_000_000)) as tree:
        await crash(tree, "a")
        await asyncio.sleep(10.5)
        await tree.stop_child("a")
        assert tree.tree().children[0].state == "stopped"
        starts = Flaky.starts
        await asyncio.sleep(10)
        assert Flaky.starts == starts


async def test_a_sibling_that_crashes_during_a_group_restart_is_restarted_once(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b"), strategy=Strategy.ONE_FOR_ALL), events=stage.hear) as tree:
        stage.take()
        tree.ref("b").tell(Boom("b"))
        tree.ref("a").tell(Boom("a"))
        await settle()
        assert stage.restarts == ["root/a", "root/b"]
        assert await tree.ref("a").ask(Get()) == await tree.ref("b").ask(Get()) == 0


# Dynamic children


async def test_a_child_started_later_stands_behind_the_others(stage: Stage) -> None:
    async with supervise(root(*stage.children("a"), strategy=Strategy.REST_FOR_ONE)) as tree:
        ref = await tree.start_actor(stage.children("b")[0])
        assert isinstance(ref, Ref)
        assert ref.path == "root/b"
        stage.take()
        await crash(tree, "a")
        assert stage.take() == ["-a crashed", "-b shutdown", "+a", "+b"]


async def test_a_name_is_taken_while_its_child_runs(stage: Stage) -> None:
    async with supervise(root(*stage.children("a"))) as tree:
        with pytest.raises(AlreadyStarted, match="root/a"):
            await tree.start_child(*stage.children("a"))


async def test_a_dynamic_child_that_fails_to_start_is_forgotten(stage: Stage) -> None:
    async with supervise(root()) as tree:
        fail: list[Exception] = [Boom("no")]
        spec = ChildSpec(name="a", start=stage.player("a", fail=fail))
        with pytest.raises(StartFailed) as caught:
            await tree.start_child(spec)
        assert isinstance(caught.value.__cause__, Boom)
        assert tree.tree().children == ()
        assert await (await tree.start_actor(spec)).ask(Get()) == 0


async def test_a_stopped_child_keeps_its_place_and_starts_again_with_its_address(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b"))) as tree:
        ref = tree.ref("a")
        await tree.stop_child("a")
        await tree.stop_child("a")
        assert (await ref.ended()).exit is Exit.SHUTDOWN
        await tree.start_child(*stage.children("a"))
        assert ref.alive
        assert tree.ref("a") is ref
        assert [child.path for child in tree.tree().children] == ["root/a", "root/b"]


async def test_a_stopped_temporary_child_is_forgotten(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", restart=Restart.TEMPORARY))) as tree:
        await tree.stop_child("a")
        assert tree.tree().children == ()


async def test_stopping_an_unknown_child_names_those_there_are(stage: Stage) -> None:
    async with supervise(root(*stage.children("a", "b"))) as tree:
        with pytest.raises(UnknownChild, match=r"no child named 'c'.* a, b"):
            await tree.stop_child("c")
        with pytest.raises(UnknownChild, match="no supervisor named 'a'"):
            tree.supervisor("a")


async def test_ten_thousand_temporary_children_start_and_stop_in_linear_time() -> None:
    async with supervise(root()) as tree:
        refs = [
            await tree.start_actor(ChildSpec(name=str(number), start=Echo, restart=Restart.TEMPORARY))
            for number in range(10_000)
        ]
        for ref in refs[:100]:
            await tree.stop_child(ref.path.removeprefix("root/"))
        assert len(tree.tree().children) == 9_900
        assert len(asyncio.all_tasks()) < 20
    assert not any(ref.alive for ref in refs)


# Significant children


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_any_significant_child_that_is_done_ends_its_supervisor(stage: Stage, restart: Restart) -> None:
    done = ChildSpec(name="done", start=Echo, restart=restart, significant=True)
    spec = SupervisorSpec(name="run", auto_shutdown=AutoShutdown.ANY, children=(*stage.children("a"), done))
    async with supervise(root(ChildSpec(name="run", start=spec, restart=Restart.TEMPORARY, shutdown=None))) as tree:
        run = tree.supervisor("run")
        run.ref("done").tell(lambda actor: actor.context.stop())
        await run.wait()
        assert stage.take() == ["+a", "-a shutdown"]
        await settle()
        assert tree.tree().children == ()


async def test_all_significant_children_have_to_be_done(stage: Stage) -> None:
    def part(name: str) -> ChildSpec[Any]:
        return ChildSpec(name=name, start=Echo, restart=Restart.TRANSIENT, significant=True)

    spec = root(part("x"), part("y"), *stage.children("a"), auto_shutdown=AutoShutdown.ALL)
    async with supervise(spec) as tree:
        tree.ref("x").tell(lambda actor: actor.context.stop())
        await settle()
        assert tree.tree().state == "running"
        tree.ref("y").tell(Boom("restarted, not done"))
        await settle()
        assert tree.tree().state == "running"
        tree.ref("y").tell(lambda actor: actor.context.stop())
        await tree.wait()
    assert stage.take() == ["+a", "-a shutdown"]


async def test_a_crashed_significant_temporary_child_is_done_too() -> None:
    part = ChildSpec(name="x", start=Echo, restart=Restart.TEMPORARY, significant=True)
    async with supervise(root(part, auto_shutdown=AutoShutdown.ANY)) as tree:
        tree.ref("x").tell(Boom("x"))
        await tree.wait()


async def test_stop_child_of_a_significant_child_does_not_end_its_supervisor() -> None:
    part = ChildSpec(name="x", start=Echo, restart=Restart.TRANSIENT, significant=True)
    async with supervise(root(part, auto_shutdown=AutoShutdown.ANY)) as tree:
        await tree.stop_child("x")
        await settle()
        assert tree.tree().state == "running"


# After OTP's supervisor_SUITE, by its names


async def test_start_ignore_is_no_failure_and_keeps_the_place(stage: Stage) -> None:
    """sup_start_ignore_child."""
    wanted: list[str] = []

    def factory() -> Echo:
        if "made" not in wanted:
            raise Ignore
        return stage.player("made")()

    class Shy(Echo):
        async def started(self) -> None:
            if "shy" not in wanted:
                raise Ignore

    children = (
        ChildSpec(name="made", start=factory),
        ChildSpec(name="shy", start=Shy),
        ChildSpec(name="t", start=Shy, restart=Restart.TEMPORARY),
        *stage.children("z"),
    )
    async with supervise(root(*children), events=stage.hear) as tree:
        assert [node.state for node in tree.tree().children] == ["stopped", "stopped", "running"]
        assert stage.starts == ["root/z"]
        assert not tree.ref("made").alive
        ref = await tree.start_actor(ChildSpec(name="late", start=Shy, restart=Restart.TEMPORARY))
        assert not ref.alive
        wanted.extend(("made", "shy"))
        for spec in children[:2]:
            await tree.start_child(spec)
        assert stage.starts == ["root/z", "root/made", "root/shy"]
        assert await tree.ref("shy").ask(Get()) == 0
    assert not any(event.reason.abnormal for event in stage.of(ChildExited))


async def test_a_child_that_ignores_its_restart_is_left_stopped(stage: Stage) -> None:
    class Once(Echo):
        async def started(self) -> None:
            if stage.log:
                raise Ignore
            stage.log.append("started")

    async with supervise(root(ChildSpec(name="a", start=Once)), events=stage.hear) as tree:
        ref = tree.ref("a")
        ref.tell(Boom("once"))
        await settle()
        assert not ref.alive
        assert stage.restarts == []
        assert tree.count_children().active == 0


async def test_a_child_that_ended_just_before_does_not_hold_up_the_stop(stage: Stage) -> None:
    """child_unlink: a supervisor never waits for the end of a child that is not there."""
    async with supervise(root(ChildSpec(name="a", start=Echo, shutdown=None)), events=stage.hear) as tree:
        tree.ref("a").tell(lambda actor: actor.context.stop())
        tree.ref("a").tell(lambda actor: asyncio.sleep(1000))
    assert asyncio.get_running_loop().time() < 1


@pytest.mark.parametrize("shutdown", [0, 1, None])
async def test_a_shutdown_by_the_supervisor_above_is_no_reason_to_restart(stage: Stage, shutdown: float | None) -> None:
    """permanent_shutdown, transient_shutdown, temporary_shutdown."""
    children = tuple(
        ChildSpec(name=restart.value, start=stage.player(restart.value), restart=restart, shutdown=shutdown)
        for restart in Restart
    )
    async with supervise(root(*children), events=stage.hear) as tree:
        for restart in Restart:
            await tree.stop_child(restart.value)
        await settle()
        assert stage.restarts == []
        assert [name for name, _ in stage.exits] == [f"root/{restart.value}" for restart in Restart]


async def test_temporary_specs_are_not_kept(stage: Stage) -> None:
    """dont_save_start_parameters_for_temporary_children."""
    children = [ChildSpec(name=f"t{number}", start=Echo, restart=Restart.TEMPORARY) for number in range(3)]
    async with supervise(root(*children), events=stage.hear) as tree:
        tree.ref("t0").tell(Boom("crashed"))
        tree.ref("t1").tell(lambda actor: actor.context.stop())
        await tree.stop_child("t2")
        await settle()
        assert tree.count_children().specs == 0
        for spec in children:
            await tree.start_child(spec)
        assert tree.count_children().active == 3


async def test_multiple_restarts_of_children_that_crash_at_once_are_all_made(stage: Stage) -> None:
    """multiple_restarts."""
    async with supervise(root(*stage.children(*"abcde"), intensity=5), events=stage.hear) as tree:
        for name in "abcde":
            tree.ref(name).tell(Boom(name))
        await settle()
        assert sorted(stage.restarts) == [f"root/{name}" for name in "abcde"]
        assert tree.count_children().active == 5


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_each_strategy_escalates_at_its_intensity(stage: Stage, strategy: Strategy) -> None:
    """one_for_one_escalation, one_for_all_escalation, rest_for_one_escalation."""
    below = SupervisorSpec(name="below", strategy=strategy, intensity=2, children=stage.children("x", "y"))
    async with supervise(root(below, *stage.children("z"))) as tree:
        for _ in range(3):
            old = tree.supervisor("below")
            old.ref("x").tell(Boom("x"))
            await settle()
        assert tree.supervisor("below") is not old
        assert stage.take()[-2:] == ["+x", "+y"]
        assert tree.supervisor("below").count_children().active == 2


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_another_child_that_fails_to_start_in_a_group_restart_has_the_group_tried_again(
    stage: Stage, strategy: Strategy
) -> None:
    """one_for_all_other_child_fails_restart, rest_for_one_other_child_fails_restart."""
    fails: list[Exception] = []
    other = ChildSpec(name="y", start=lambda: stage.player("y", fail=fails)())
    async with supervise(root(*stage.children("x"), other, *stage.children("z"), strategy=strategy)) as tree:
        stage.take()
        fails.append(Boom("y will not"))
        tree.ref("x").tell(Boom("x"))
        await settle()
        again = ["+y", "+z"] if strategy is Strategy.REST_FOR_ONE else ["-x shutdown", "+x", "+y", "+z"]
        assert stage.take() == ["-x crashed", "-z shutdown", "-y shutdown", "+x", "y fails", *again]


async def test_a_supervisor_that_ends_by_itself_is_a_normal_child_to_the_one_above(stage: Stage) -> None:
    """significant_upwards: auto_shutdown of one level may be what ends the next."""
    part = ChildSpec(name="x", start=Echo, restart=Restart.TRANSIENT, significant=True)
    below = SupervisorSpec(name="below", auto_shutdown=AutoShutdown.ALL, children=(part,))
    place = ChildSpec(name="below", start=below, restart=Restart.TRANSIENT, significant=True, shutdown=None)
    async with supervise(root(place, auto_shutdown=AutoShutdown.ANY), events=stage.hear) as tree:
        tree.supervisor("below").ref("x").tell(lambda actor: actor.context.stop())
        await tree.wait()
    assert stage.restarts == []


async def test_intensities_of_three_levels_multiply(stage: Stage) -> None:
    """(2 + 1) * (1 + 1) * (1 + 1) lives, and then the root gives up."""
    lowest = SupervisorSpec(name="lowest", intensity=2, period=1000, children=stage.children("x"))
    middle = SupervisorSpec(name="middle", intensity=1, period=1000, children=(lowest,))
    top = SupervisorSpec(name="root", intensity=1, period=1000, children=(middle,))
    with pytest.raises(SupervisorFailed):
        async with supervise(top) as tree:
            while True:
                tree.supervisor("middle").supervisor("lowest").ref("x").tell(Boom("x"))
                await settle()
    assert stage.log.count("+x") == 12


# Specs


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ChildSpec(name="", start=Echo), "name is ''"),
        (lambda: ChildSpec(name="a/b", start=Echo), "no '/'"),
        (lambda: ChildSpec(name="a", start=3), "start of a is 3"),  # type: ignore[arg-type]
        (lambda: ChildSpec(name="a", start=Echo, shutdown=-1), "shutdown of a is -1"),
        (lambda: ChildSpec(name="a", start=Echo, significant=True), "transient or temporary"),
        (lambda: root(intensity=-1), "intensity of root is -1"),
        (lambda: root(period=0), "period of root is 0"),
        (lambda: root(ChildSpec(name="a", start=Echo), ChildSpec(name="a", start=Echo)), "two children named 'a'"),
        (lambda: root(ChildSpec(name="a", start=Echo, restart=Restart.TRANSIENT, significant=True)), "auto_shutdown"),
    ],
)
async def test_a_spec_that_contradicts_itself_names_the_field_and_the_fix(make: Any, complaint: str) -> None:
    with pytest.raises(SpecInvalid, match=complaint):
        make()


async def test_a_start_that_makes_no_actor_fails_with_what_it_made() -> None:
    with pytest.raises(StartFailed, match="which is no Actor"):
        async with supervise(root(ChildSpec(name="a", start=lambda: 5))):  # type: ignore[arg-type]
            pytest.fail("the block must not run")


# The context


async def test_cancellation_from_outside_stops_the_tree_in_order_and_goes_on(stage: Stage) -> None:
    children = (
        ChildSpec(name="a", start=stage.player("a", linger=2)),
        ChildSpec(name="b", start=stage.player("b", linger=1)),
    )
    after: list[str] = []
    with anyio.CancelScope() as scope:
        async with supervise(root(*children)):
            asyncio.get_running_loop().call_later(5, scope.cancel)
            await asyncio.Event().wait()
        after.append("the context swallowed it")
    assert after == []
    assert scope.cancelled_caught
    assert stage.take() == ["+a", "+b", "-b shutdown", "-a shutdown"]
    assert asyncio.get_running_loop().time() == pytest.approx(8)


async def test_native_cancellation_stops_the_tree_in_order_and_goes_on(stage: Stage) -> None:
    async def main() -> None:
        async with supervise(root(*stage.children("a", "b"))):
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(main())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.take() == ["+a", "+b", "-b shutdown", "-a shutdown"]


async def test_a_second_cancellation_kills_what_still_stops(stage: Stage) -> None:
    async def main() -> None:
        async with supervise(root(ChildSpec(name="a", start=stage.player("a", linger=1000), shutdown=None))):
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(main())
    for _ in range(2):
        await asyncio.sleep(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() < 10


async def test_an_error_in_the_block_comes_out_as_it_is(stage: Stage) -> None:
    with pytest.raises(Boom, match="mine"):
        async with supervise(root(*stage.children("a"))):
            raise Boom("mine")
    assert stage.take() == ["+a", "-a shutdown"]


async def test_a_tree_can_be_stopped_before_its_block_ends(stage: Stage) -> None:
    async with supervise(root(*stage.children("a"))) as tree:
        await tree.stop()
        assert stage.take() == ["+a", "-a shutdown"]
        await tree.wait()
        with pytest.raises(ActorDied, match="shut down"):
            await tree.ref("a").ask(Get())


async def test_a_killed_supervisor_takes_everything_below_with_it(stage: Stage) -> None:
    deep = SupervisorSpec(name="deep", children=(ChildSpec(name="x", start=stage.player("x", linger=100)),))
    middle = SupervisorSpec(name="middle", children=(deep, *stage.children("y")))
    async with supervise(root(ChildSpec(name="middle", start=middle, shutdown=2)), events=stage.hear):
        stage.take()
    assert asyncio.get_running_loop().time() == pytest.approx(2)
    assert ("root/middle/deep/x", "KILLED") in stage.exits


def test_keyboard_interrupt_passes_through_and_leaves_nothing_behind() -> None:
    ended: list[str] = []

    def interrupt(actor: object) -> None:
        raise KeyboardInterrupt

    class Other(Echo):
        async def started(self) -> None:
            ended.append("started")

    async def main() -> None:
        try:
            async with supervise(root(ChildSpec(name="a", start=Echo), ChildSpec(name="b", start=Other))) as tree:
                tree.ref("a").tell(interrupt)
                await asyncio.Event().wait()
        finally:
            ended.append("left")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert ended == ["started", "left"]


@pytest.mark.filterwarnings("ignore:coroutine 'Host.main' was never awaited")
def test_a_loop_torn_down_before_a_host_began_leaves_nothing_behind() -> None:
    ended: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with supervise(root(ChildSpec(name="a", start=Echo))) as tree:
            asyncio.get_running_loop().call_soon(interrupt)
            tree.ref("a").tell("starts a host")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("left")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gc.collect()
    assert ended == ["left"]


async def test_a_failing_listener_is_reported_and_stops_nothing(stage: Stage) -> None:
    reports: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def listener(event: object) -> None:
        raise Boom("listener")

    async with supervise(root(*stage.children("a")), events=listener) as tree:
        assert await tree.ref("a").ask(Get()) == 0
    loop.set_exception_handler(before)
    assert isinstance(reports[0]["exception"], Boom)
    assert stage.take() == ["+a", "-a shutdown"]


async def test_a_tree_without_a_listener_logs_its_crashes(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise(root(ChildSpec(name="a", start=Echo))) as tree:
        await crash(tree, "a")
    assert "root/a crashed" in caplog.text
