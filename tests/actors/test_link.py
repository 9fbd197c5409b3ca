"""Links and monitors, after Erlang's: who ends with whom, who hears of it, and what a trapping actor gets instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    ChildExited,
    ChildSpec,
    Down,
    Exit,
    Exited,
    ExitReason,
    LinkBroken,
    Mailbox,
    Ref,
    Restart,
    Supervisor,
    SupervisorSpec,
    supervise,
)

from .cast import Boom, Echo, Get, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(**starts: Any) -> SupervisorSpec:
    children = tuple(ChildSpec(name=name, start=start, restart=Restart.TEMPORARY) for name, start in starts.items())
    return SupervisorSpec(name="root", intensity=10, children=children)


async def do(tree: Supervisor, name: str, what: str, *arguments: Any) -> None:
    """Have an Echo call a method of its context."""
    tree.ref(name).tell(lambda actor: getattr(actor.context, what)(*arguments))
    await settle()


def reason_of(stage: Stage, path: str) -> ExitReason:
    (reason,) = [event.reason for event in stage.of(ChildExited) if event.path == path]
    assert isinstance(reason, ExitReason)
    return reason


@pytest.mark.parametrize(("crashing", "other"), [("a", "b"), ("b", "a")])
async def test_an_abnormal_exit_ends_the_linked_actor_whichever_of_them_linked(
    stage: Stage, crashing: str, other: str
) -> None:
    async with supervise(root(a=Echo, b=Echo), events=stage.hear) as tree:
        boom = Boom("both")
        await do(tree, "a", "link", tree.ref("b"))
        tree.ref(crashing).tell(boom)
        await settle()
        reason = reason_of(stage, f"root/{other}")
    assert reason.exit is Exit.CRASHED
    assert isinstance(reason.error, LinkBroken)
    assert (reason.error.path, reason.error.__cause__) == (f"root/{crashing}", boom)


async def test_a_normal_exit_does_not_end_the_linked_actor() -> None:
    async with supervise(root(a=Echo, b=Echo)) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        await do(tree, "b", "stop")
        assert await tree.ref("a").ask(Get()) == 1


async def test_a_shutdown_is_handed_on_as_a_shutdown(stage: Stage) -> None:
    async with supervise(root(a=Echo, b=Echo), events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        await tree.stop_child("b")
        await settle()
        assert stage.exits == [("root/b", "SHUTDOWN"), ("root/a", "SHUTDOWN")]


async def test_an_exit_goes_along_a_chain_and_names_who_ended_first(stage: Stage) -> None:
    async with supervise(root(**{f"n{number}": Echo for number in range(2000)}), events=stage.hear) as tree:
        for number in range(1999):
            other = tree.ref(f"n{number + 1}")
            tree.ref(f"n{number}").tell(lambda actor, other=other: actor.context.link(other))
        await settle()
        tree.ref("n1999").tell(Boom("the last"))
        await settle()
        assert len(stage.exits) == 2000
        first = reason_of(stage, "root/n0").error
    assert isinstance(first, LinkBroken)
    assert first.path == "root/n1999"


async def test_a_trapping_actor_gets_a_message_instead_and_lives_on() -> None:
    async with supervise(root(a=Echo, b=Echo, c=Echo)) as tree:
        heard: list[Any] = []
        tree.ref("a").tell(lambda actor: heard.append(actor.seen))
        await do(tree, "a", "trap_exits")
        crashed, normal = tree.ref("b"), tree.ref("c")
        for ref in (crashed, normal):
            await do(tree, "a", "link", ref)
        crashed.tell(Boom("heard"))
        await do(tree, "c", "stop")
        notices = [message for message in heard[0] if isinstance(message, Exited)]
        assert [(notice.ref, notice.reason.exit) for notice in notices] == [
            (crashed, Exit.CRASHED),
            (normal, Exit.NORMAL),
        ]
        await do(tree, "a", "link", crashed)
        assert [message.ref for message in heard[0] if isinstance(message, Exited)] == [crashed, normal, crashed]


async def test_linking_to_the_dead_ends_the_linker(stage: Stage) -> None:
    async with supervise(root(a=Echo, b=Echo), events=stage.hear) as tree:
        dead = tree.ref("b")
        dead.tell(Boom("before"))
        await settle()
        await do(tree, "a", "link", dead)
        assert isinstance(reason_of(stage, "root/a").error, LinkBroken)


async def test_unlinked_actors_end_apart() -> None:
    async with supervise(root(a=Echo, b=Echo)) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        await do(tree, "b", "unlink", tree.ref("a"))
        await do(tree, "b", "link", tree.ref("b"))
        tree.ref("b").tell(Boom("alone"))
        await settle()
        assert await tree.ref("a").ask(Get()) == 1


async def test_unlink_takes_back_a_notice_that_is_on_its_way() -> None:
    async with supervise(root(a=Echo, b=Echo)) as tree:
        other, kept = tree.ref("b"), asyncio.Event()
        await do(tree, "a", "trap_exits")
        await do(tree, "a", "link", other)

        async def unlink(actor: Echo) -> None:
            await kept.wait()
            actor.context.unlink(other)

        tree.ref("a").tell(unlink)
        await do(tree, "b", "stop")
        kept.set()
        await settle()
        assert await tree.ref("a").ask(Get()) == 3


async def test_a_broken_link_cancels_a_handler_where_it_waits_and_stopped_runs(stage: Stage) -> None:
    class Holder(Echo):
        async def stopped(self, reason: ExitReason) -> None:
            await asyncio.sleep(1)
            stage.log.append(f"released, {reason.exit.name.lower()}")

    async with supervise(root(a=Holder, b=Echo), events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        asked = asyncio.get_running_loop().create_future()

        async def wait(actor: Echo) -> None:
            try:
                await asyncio.sleep(10_000)
            finally:
                asked.set_result("interrupted")

        tree.ref("a").tell(wait)
        await settle()
        tree.ref("b").tell(Boom("now"))
        assert await asked == "interrupted"
        await asyncio.sleep(2)
        assert stage.log == ["released, crashed"]
        assert wait in stage.letters
    assert asyncio.get_running_loop().time() < 10


async def test_a_broken_link_ends_also_a_handler_that_swallows_its_cancellation(stage: Stage) -> None:
    async with supervise(root(a=Echo, b=Echo, c=Echo), events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))

        async def stubborn(actor: Echo) -> str:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                return "done anyway"
            return "undisturbed"

        async def ask() -> None:
            stage.log.append(await tree.ref("a").ask(stubborn))

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await settle()
            tree.ref("b").tell(Boom("now"))
        await settle()
        assert stage.log == ["done anyway"]
        assert isinstance(reason_of(stage, "root/a").error, LinkBroken)
        assert await tree.ref("c").ask(Get()) == 0


async def test_an_asker_of_an_actor_that_a_link_ends_gets_the_reason() -> None:
    async with supervise(root(a=Echo, b=Echo)) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        asyncio.get_running_loop().call_later(1, tree.ref("b").tell, Boom("now"))
        with pytest.raises(ActorDied, match="linked actor root/b ended"):
            await tree.ref("a").ask(lambda actor: asyncio.sleep(100))


async def test_a_function_actor_is_canceled_by_a_broken_link_and_can_trap_it(stage: Stage) -> None:
    async def bound(mailbox: Mailbox[Any]) -> None:
        mailbox.link(await mailbox.get())
        try:
            await asyncio.Event().wait()
        finally:
            stage.log.append("cleaned")

    async def trapping(mailbox: Mailbox[Any]) -> None:
        mailbox.trap_exits()
        mailbox.link(await mailbox.get())
        stage.log.append(type(await mailbox.get()).__name__)
        mailbox.trap_exits(False)
        mailbox.unlink(await mailbox.get())

    async with supervise(root(bound=bound, trapping=trapping, b=Echo), events=stage.hear) as tree:
        for name in ("bound", "trapping"):
            tree.ref(name).tell(tree.ref("b"))
        await settle()
        other = tree.ref("b")
        other.tell(Boom("now"))
        await settle()
        assert sorted(stage.log) == ["Exited", "cleaned"]
        assert isinstance(reason_of(stage, "root/bound").error, LinkBroken)
        tree.ref("trapping").tell(other)
        await settle()
        assert reason_of(stage, "root/trapping").exit is Exit.NORMAL


async def test_a_function_actor_that_links_to_the_dead_ends_at_its_next_wait(stage: Stage) -> None:
    async def late(mailbox: Mailbox[Any]) -> None:
        mailbox.link(await mailbox.get())
        await mailbox.get()

    async with supervise(root(f=late, b=Echo), events=stage.hear) as tree:
        dead = tree.ref("b")
        await tree.stop_child("b")
        tree.ref("f").tell(dead)
        await settle()
        assert stage.exits == [("root/b", "SHUTDOWN"), ("root/f", "SHUTDOWN")]


async def test_a_function_actor_whose_link_breaks_before_its_first_line_never_runs_one(stage: Stage) -> None:
    async def unlucky(mailbox: Mailbox[Any]) -> None:
        stage.log.append("ran")

    async with supervise(root(a=Echo), events=stage.hear) as tree:

        async def start_link_and_crash(actor: Echo) -> None:
            actor.context.link(await tree.start_actor(ChildSpec(name="f", start=unlucky, restart=Restart.TEMPORARY)))
            raise Boom("at once")

        tree.ref("a").tell(start_link_and_crash)
        await settle()
        assert stage.log == []
        assert isinstance(reason_of(stage, "root/f").error, LinkBroken)


async def test_an_asker_that_leaves_as_a_link_breaks_changes_nothing(stage: Stage) -> None:
    async with supervise(root(a=Echo, b=Echo, c=Echo), events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))

        async def ask() -> None:
            await tree.ref("a").ask(lambda actor: asyncio.sleep(1000))

        task = asyncio.get_running_loop().create_task(ask())
        await settle()
        task.cancel()
        tree.ref("b").tell(Boom("now"))
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert isinstance(reason_of(stage, "root/a").error, LinkBroken)
        assert await tree.ref("c").ask(Get()) == 0


async def test_a_kill_during_the_end_that_a_link_brought_is_a_kill(stage: Stage) -> None:
    class Slow(Echo):
        async def stopped(self, reason: ExitReason) -> None:
            await asyncio.sleep(1000)

    spec = SupervisorSpec(
        name="root", children=(ChildSpec(name="a", start=Slow, shutdown=2), ChildSpec(name="b", start=Echo))
    )
    async with supervise(spec, events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        tree.ref("a").tell(lambda actor: asyncio.sleep(1000))
        await settle()
        await tree.stop_child("b")
        await settle()
    assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)
    assert reason_of(stage, "root/a").exit is Exit.KILLED


async def test_a_link_is_of_one_life_and_fires_at_a_restart_too(stage: Stage) -> None:
    spec = SupervisorSpec(
        name="root", intensity=10, children=(ChildSpec(name="a", start=Echo), ChildSpec(name="b", start=Echo))
    )
    async with supervise(spec, events=stage.hear) as tree:
        await do(tree, "a", "link", tree.ref("b"))
        tree.ref("b").tell(Boom("once"))
        await settle()
        assert stage.restarts == ["root/b", "root/a"]
        tree.ref("b").tell(Boom("not linked any more"))
        await settle()
        assert stage.restarts == ["root/b", "root/a", "root/b"]


async def test_a_link_is_quicker_than_the_order_in_which_a_tree_stops(stage: Stage) -> None:
    children = tuple(ChildSpec(name=name, start=stage.player(name)) for name in "abc")
    async with supervise(SupervisorSpec(name="root", children=children)) as tree:
        await do(tree, "a", "link", tree.ref("c"))
        stage.take()
    assert stage.take() == ["-c shutdown", "-a shutdown", "-b shutdown"]


# Monitors


async def test_demonitor_takes_back_a_notice_that_is_on_its_way() -> None:
    async with supervise(root(w=Echo, t=Echo)) as tree:
        target, gate = tree.ref("t"), asyncio.Event()
        await do(tree, "w", "monitor", target)

        async def busy(actor: Echo) -> None:
            await gate.wait()
            actor.context.demonitor(target)

        tree.ref("w").tell(busy)
        await settle()
        await tree.stop_child("t")
        gate.set()
        await settle()
        assert await tree.ref("w").ask(Get()) == 2


async def test_a_function_actor_demonitors_and_hears_of_the_dead_at_once() -> None:
    seen: list[Any] = []

    async def watcher(mailbox: Mailbox[Any]) -> None:
        target: Ref[Any] = await mailbox.get()
        mailbox.monitor(target)
        mailbox.demonitor(target)
        seen.append(await mailbox.get())
        mailbox.monitor(target)
        seen.append(await mailbox.get())

    async with supervise(root(w=watcher, t=Echo)) as tree:
        tree.ref("w").tell(tree.ref("t"))
        await settle()
        await tree.stop_child("t")
        tree.ref("w").tell("a message")
        await settle()
        assert [type(message) for message in seen] == [str, Down]


async def test_a_monitor_of_a_restarted_actor_stays_silent() -> None:
    class Watcher(Actor[Any]):
        def receive(self, message: Any) -> None:
            if isinstance(message, Ref):
                self.context.monitor(message)
            else:
                heard.append(message)

    heard: list[Any] = []
    spec = SupervisorSpec(
        name="root", intensity=5, children=(ChildSpec(name="w", start=Watcher), ChildSpec(name="t", start=Echo))
    )
    async with supervise(spec) as tree:
        tree.ref("w").tell(tree.ref("t"))
        await settle()
        tree.ref("t").tell(Boom("and up again"))
        await settle()
        assert heard == []
