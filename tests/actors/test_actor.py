"""Class and function actors from the inside: hooks, timers, monitors, stop, batches, replies, context variables."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    ChildSpec,
    Down,
    Exit,
    ExitReason,
    Mailbox,
    MailboxSpec,
    Ref,
    Request,
    Restart,
    Stop,
    SupervisorSpec,
    supervise,
)
from greenroom.actors.host import SPARE

from .cast import Boom, Echo, Get, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(**starts: Any) -> SupervisorSpec:
    children = tuple(ChildSpec(name=name, start=start) for name, start in starts.items())
    return SupervisorSpec(name="root", intensity=10, children=children)


async def test_started_and_stopped_run_in_the_task_that_receives() -> None:
    """So a task group or cancel scope that started() enters can be left by stopped()."""
    log: list[str] = []

    class Resourceful(Actor[Any]):
        async def started(self) -> None:
            self.stack = AsyncExitStack()
            self.group = await self.stack.enter_async_context(anyio.create_task_group())
            self.task = asyncio.current_task()

        async def receive(self, message: Any) -> None:
            assert asyncio.current_task() is self.task

            async def work() -> None:
                await asyncio.sleep(1)
                log.append(message)

            self.group.start_soon(work)

        async def stopped(self, reason: ExitReason) -> None:
            await self.stack.aclose()
            log.append("closed")

    async with supervise(root(a=Resourceful)) as tree:
        tree.ref("a").tell("worked")
        await settle()
    assert log == ["worked", "closed"]


async def test_a_crash_while_stopping_is_the_reason_of_the_end(stage: Stage) -> None:
    class Clumsy(Echo):
        async def stopped(self, reason: ExitReason) -> None:
            raise Boom("dropped it")

    async with supervise(root(a=Clumsy), events=stage.hear):
        pass
    assert stage.exits == [("root/a", "CRASHED")]


async def test_every_life_is_a_new_instance() -> None:
    async with supervise(root(a=Echo)) as tree:
        ref = tree.ref("a")
        ref.tell("one")
        assert await ref.ask(Get()) == 1
        ref.tell(Boom("end of this life"))
        assert await ref.ask(Get()) == 0


async def test_a_timer_fires_once_and_an_interval_until_it_is_canceled() -> None:
    seen: list[tuple[Any, float]] = []

    class Clock(Actor[str]):
        async def started(self) -> None:
            self.context.timer(5, "once")
            self.tick = self.context.every(2, "tick")

        def receive(self, message: str) -> None:
            seen.append((message, asyncio.get_running_loop().time()))
            if len(seen) == 4:
                self.tick.cancel()

    async with supervise(root(a=Clock)):
        await asyncio.sleep(60)
    assert seen == [("tick", 2), ("tick", 4), ("once", 5), ("tick", 6)]


async def test_an_idle_message_comes_when_no_other_has_come_for_a_while() -> None:
    """Akka's receive timeout."""
    seen: list[tuple[Any, int]] = []

    class Passive(Actor[Any]):
        async def started(self) -> None:
            self.timer = self.context.idle(10, "idle")

        async def receive(self, message: Any) -> None:
            seen.append((message, int(asyncio.get_running_loop().time())))
            if message == "long":
                await asyncio.sleep(100)
            if message == "enough":
                self.timer.cancel()

    def last() -> Any:
        return seen[-1][0]

    async with supervise(root(a=Passive)) as tree:
        for number in range(7):
            tree.ref("a").tell(number)
            await asyncio.sleep(6)
        await asyncio.sleep(14)
        assert seen[-1:] == [("idle", 50)]
        tree.ref("a").tell("long")
        await asyncio.sleep(105)
        assert last() == "long"
        await asyncio.sleep(20)
        assert last() == "idle"
        tree.ref("a").tell("enough")
        await asyncio.sleep(100)
        assert last() == "enough"


async def test_an_idle_time_or_an_interval_of_nothing_is_refused() -> None:
    class Hasty(Echo):
        async def started(self) -> None:
            for wrong in (self.context.idle, self.context.every):
                with pytest.raises(ValueError, match="give more than 0 seconds"):
                    wrong(0, "now")

    async with supervise(root(a=Hasty)):
        pass


async def test_timers_die_with_the_life_that_set_them() -> None:
    class Reminder(Echo):
        async def started(self) -> None:
            self.context.timer(10, "remind")

    async with supervise(root(a=Reminder)) as tree:
        ref = tree.ref("a")
        await asyncio.sleep(6)
        ref.tell(Boom("forget"))
        await asyncio.sleep(6)
        assert await ref.ask(Get()) == 0
        await asyncio.sleep(6)
        assert await ref.ask(Get()) == 1


async def test_a_timer_on_a_full_mailbox_makes_a_dead_letter(stage: Stage) -> None:
    class Busy(Actor[str]):
        mailbox = MailboxSpec(capacity=1)

        async def receive(self, message: str) -> None:
            for number in range(3):
                self.context.timer(1, f"timer {number}")
            await asyncio.sleep(2)
            self.context.stop()

    async with supervise(
        SupervisorSpec(name="root", children=(ChildSpec(name="a", start=Busy, restart=Restart.TEMPORARY),)),
        events=stage.hear,
    ) as tree:
        tree.ref("a").tell("go")
        await asyncio.sleep(5)
    assert stage.letters == ["timer 1", "timer 2", "timer 0"]


async def test_stop_lets_the_message_in_hand_be_the_last(stage: Stage) -> None:
    class Quitter(Echo):
        def receive(self, message: Any) -> Any:
            self.context.stop()
            return super().receive(message)

    spec = SupervisorSpec(name="root", children=(ChildSpec(name="a", start=Quitter, restart=Restart.TRANSIENT),))
    async with supervise(spec, events=stage.hear) as tree:
        ref = tree.ref("a")
        ref.tell("last")
        ref.tell("never")
        assert (await ref.ended()).exit is Exit.NORMAL
    assert stage.letters == ["never"]


async def test_a_down_comes_ahead_of_messages_and_only_once() -> None:
    seen: list[Any] = []

    class Watcher(Actor[Any]):
        def receive(self, message: Any) -> None:
            if isinstance(message, Ref):
                self.context.monitor(message)
                self.context.monitor(message)
            else:
                seen.append(message)

    spec = SupervisorSpec(
        name="root",
        children=(ChildSpec(name="w", start=Watcher), ChildSpec(name="t", start=Echo, restart=Restart.TEMPORARY)),
    )
    async with supervise(spec) as tree:
        watcher, target = tree.ref("w"), tree.ref("t")
        watcher.tell(target)
        await settle()
        await tree.stop_child("t")
        watcher.tell("a message")
        await settle()
        assert [type(message) for message in seen] == [Down, str]
        assert (seen[0].ref, seen[0].reason.exit) == (target, Exit.SHUTDOWN)
        watcher.tell(target)
        await settle()
        assert [type(message) for message in seen] == [Down, str, Down, Down]


async def test_monitors_end_with_the_life_that_set_them_and_on_demand() -> None:
    class Watcher(Echo):
        def receive(self, message: Any) -> Any:
            if isinstance(message, tuple):
                return getattr(self.context, message[0])(message[1])
            return super().receive(message)

    spec = SupervisorSpec(
        name="root",
        intensity=5,
        children=(
            ChildSpec(name="restarted", start=Watcher),
            ChildSpec(name="changed its mind", start=Watcher),
            ChildSpec(name="t", start=Echo),
        ),
    )
    async with supervise(spec) as tree:
        target = tree.ref("t")
        for name in ("restarted", "changed its mind"):
            tree.ref(name).tell(("monitor", target))
        tree.ref("restarted").tell(Boom("forget it"))
        tree.ref("changed its mind").tell(("demonitor", target))
        await settle()
        await tree.stop_child("t")
        assert await tree.ref("restarted").ask(Get()) == 0
        assert await tree.ref("changed its mind").ask(Get()) == 0


async def test_a_function_actor_monitors_through_its_mailbox() -> None:
    seen: list[Any] = []

    async def watcher(mailbox: Mailbox[Any]) -> None:
        mailbox.monitor(await mailbox.get())
        seen.append(await mailbox.get())

    async with supervise(root(w=watcher, t=Echo)) as tree:
        tree.ref("w").tell(tree.ref("t"))
        await settle()
        await tree.stop_child("t")
        await settle()
        assert [message.ref.path for message in seen] == ["root/t"]


# Function actors


class Double(Request[int]):
    def __init__(self, value: int) -> None:
        self.value = value


async def test_a_function_actor_answers_questions_by_the_message() -> None:
    async def doubler(mailbox: Mailbox[Double]) -> None:
        while True:
            batch = await mailbox.get_batch()
            for request in reversed(batch):
                mailbox.reply(request, request.value * 2)

    async with supervise(root(d=doubler)) as tree:
        ref = tree.ref("d")
        answers: list[int] = []

        async def ask(value: int) -> None:
            answers.append(await ref.ask(Double(value)))

        async with anyio.create_task_group() as group:
            for value in range(5):
                group.start_soon(ask, value)
        assert sorted(answers) == [0, 2, 4, 6, 8]


async def test_the_same_question_asked_twice_is_answered_twice() -> None:
    async def doubler(mailbox: Mailbox[Double]) -> None:
        held = [await mailbox.get(), await mailbox.get()]
        for number, request in enumerate(held):
            mailbox.reply(request, number)
        mailbox.reply(held[0], 99)
        await mailbox.get()

    async with supervise(root(d=doubler)) as tree, anyio.create_task_group() as group:
        question = Double(1)
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await tree.ref("d").ask(question))

        group.start_soon(ask)
        group.start_soon(ask)
        await settle()
        assert sorted(answers) == [0, 1]


async def test_an_unanswered_question_fails_when_its_function_ends() -> None:
    async def forgetful(mailbox: Mailbox[Any]) -> None:
        await mailbox.get()

    async with supervise(root(f=forgetful)) as tree:
        with pytest.raises(ActorDied, match="ended normally"):
            await tree.ref("f").ask("anything")


async def test_a_question_whose_asker_left_is_not_kept() -> None:
    async def slow(mailbox: Mailbox[Any]) -> None:
        while True:
            message = await mailbox.get()
            await asyncio.sleep(5)
            mailbox.reply(message, "late")

    async with supervise(root(s=slow)) as tree:
        ref = tree.ref("s")
        with anyio.move_on_after(1):
            await ref.ask(Double(1))
        assert not ref.mailbox._asked
        assert await ref.ask("anything") == "late"


async def test_stop_ends_a_function_actor_at_its_next_wait_ahead_of_messages(stage: Stage) -> None:
    log: list[Any] = []
    gate = asyncio.Event()

    async def loop(mailbox: Mailbox[Any]) -> None:
        try:
            while True:
                message = await mailbox.get()
                await gate.wait()
                log.append(message)
        except Exception:
            log.append("an except Exception caught it")
        except Stop:
            log.append("stop")
            raise

    async with supervise(root(f=loop), events=stage.hear) as tree:
        for message in (1, 2, 3):
            tree.ref("f").tell(message)
        await settle()
        asyncio.get_running_loop().call_later(1, gate.set)
    assert log == [1, "stop"]
    assert stage.letters == [2, 3]
    assert stage.exits == [("root/f", "SHUTDOWN")]


async def test_a_function_actor_that_waits_elsewhere_is_killed_after_its_shutdown_time(stage: Stage) -> None:
    cleaned: list[str] = []

    async def elsewhere(mailbox: Mailbox[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned")

    async with supervise(root(f=elsewhere), events=stage.hear):
        await settle()
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.01)
    assert cleaned == ["cleaned"]
    assert stage.exits == [("root/f", "KILLED")]


async def test_stop_passes_through_a_task_group_of_the_function(stage: Stage) -> None:
    async def grouped(mailbox: Mailbox[Any]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(asyncio.Event().wait)
            while True:
                await mailbox.get()

    async with supervise(root(f=grouped), events=stage.hear):
        await settle()
    assert stage.exits == [("root/f", "SHUTDOWN")]


async def test_a_crash_makes_dead_letters_of_what_the_function_had_taken(stage: Stage) -> None:
    async def taker(mailbox: Mailbox[Any]) -> None:
        batch = await mailbox.get_batch(2)
        if isinstance(batch[0], Exception):
            raise batch[0]
        await mailbox.get()

    boom = Boom("with the batch")
    async with supervise(root(f=taker), events=stage.hear) as tree:
        for message in (boom, 2, 3, 4):
            tree.ref("f").tell(message)
        await settle()
        assert stage.letters == [boom, 2]


async def test_get_nowait_takes_what_is_there() -> None:
    seen: list[Any] = []

    async def taker(mailbox: Mailbox[Any]) -> None:
        seen.append(await mailbox.get())
        seen.append(mailbox.get_nowait())
        seen.append(mailbox.get_nowait())
        await mailbox.get()

    async with supervise(root(f=taker)) as tree:
        tree.ref("f").tell(1)
        tree.ref("f").tell(2)
        await settle()
        assert seen == [1, 2, None]


async def test_a_canceled_get_loses_nothing() -> None:
    seen: list[Any] = []

    async def impatient(mailbox: Mailbox[Any]) -> None:
        while True:
            with anyio.move_on_after(1):
                seen.append(await mailbox.get())

    async with supervise(root(f=impatient)) as tree:
        loop = asyncio.get_running_loop()
        for number in range(10):
            loop.call_at(1.0 + number, tree.ref("f").tell, number)
        await asyncio.sleep(30)
        assert seen == list(range(10))


@pytest.mark.parametrize("how", ["method", "partial", "lambda"])
async def test_a_function_actor_may_be_any_callable_that_takes_a_mailbox(how: str) -> None:
    import functools

    class Holder:
        seen: list[Any] = []  # noqa: RUF012 - one test, one class

        async def run(self, mailbox: Mailbox[Any], mark: str = "") -> None:
            while True:
                Holder.seen.append(await mailbox.get())

    holder = Holder()
    starts: dict[str, Any] = {
        "method": holder.run,
        "partial": functools.partial(holder.run, mark="x"),
        "lambda": lambda mailbox: holder.run(mailbox),
    }
    async with supervise(root(f=starts[how])) as tree:
        tree.ref("f").tell("here")
        await settle()
        assert Holder.seen == ["here"]


# Hosts

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_a_context_variable_stays_with_its_actor_and_leaks_to_no_other() -> None:
    class Painter(Actor[str]):
        def receive(self, message: str) -> str:
            if message != "which":
                colour.set(message)
            return colour.get()

    async with supervise(root(a=Painter, b=Painter)) as tree:
        assert await tree.ref("a").ask("red") == "red"
        assert await tree.ref("b").ask("which") == "none"
        assert await tree.ref("a").ask("which") == "red"
        assert await tree.ref("b").ask("blue") == "blue"
        assert await tree.ref("a").ask("which") == "red"
    assert colour.get() == "none"


@pytest.mark.parametrize("awaits", [True, False])
async def test_an_actor_that_forgets_has_no_context_variable_of_an_earlier_message_and_no_task(awaits: bool) -> None:
    class Painter(Actor[str]):
        forgets = True

        def receive(self, message: str) -> Any:
            before = colour.get()
            colour.set(message)
            return self.later(before) if awaits else (before, colour.get())

        async def later(self, before: str) -> tuple[str, str]:
            await asyncio.sleep(0)
            return before, colour.get()

    async with supervise(root(a=Painter)) as tree:
        a = tree.ref("a")
        assert await a.ask("red") == ("none", "red")
        assert await a.ask("blue") == ("none", "blue")
        for message in ("green", "grey"):
            a.tell(message)
        await a.ask("white")
        await settle()
        assert await a.ask("black") == ("none", "black")
        assert a.mailbox.statistics().handled == 6
        await settle()
        assert "root/a" not in [task.get_name() for task in asyncio.all_tasks()]


async def test_the_caller_s_context_does_not_reach_an_actor() -> None:
    class Painter(Actor[str]):
        def receive(self, message: str) -> str:
            return colour.get()

    async with supervise(root()) as tree:
        token = colour.set("green")
        ref = await tree.start_actor(ChildSpec(name="late", start=Painter))
        assert await ref.ask("which") == "none"
        colour.reset(token)


async def test_a_function_s_task_serves_the_next_one_unless_it_left_traces() -> None:
    seen: list[tuple[str, str, int]] = []

    async def look(mailbox: Mailbox[str]) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append((task.get_name(), colour.get(), id(task)))
        if (message := await mailbox.get()) != "leave":
            colour.set(message)

    async with supervise(root(e=Echo)) as tree:
        for number, message in enumerate(("leave", "red", "leave", "red")):
            spec = ChildSpec(name=f"f{number}", start=look, restart=Restart.TEMPORARY)
            ref = await tree.start_actor(spec)
            await settle()
            ref.tell(message)
            await settle()
        names, colours, tasks = zip(*seen, strict=True)
        assert names == tuple(f"root/f{number}" for number in range(4))
        assert colours == ("none",) * 4
        assert tasks[0] == tasks[1]


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_function_that_is_ended_before_it_begins_in_another_s_task_has_ended(stage: Stage, how: str) -> None:
    began: list[str] = []

    async def function(mailbox: Mailbox[str]) -> None:
        began.append(mailbox.path)
        await mailbox.get()

    async with supervise(root(), events=stage.hear) as tree:
        for name in ("a", "b"):
            shutdown = 0 if how == "kill" else 5
            await tree.start_actor(ChildSpec(name=name, start=function, restart=Restart.TEMPORARY, shutdown=shutdown))
            if name == "a":
                await settle()
                tree.ref("a").tell("end")
                await settle()
            else:
                await tree.stop_child("b")
        await settle()
        assert began[:1] == ["root/a"]
        assert stage.exits == [("root/a", "NORMAL"), ("root/b", "KILLED" if how == "kill" else "SHUTDOWN")]
        ref = await tree.start_actor(ChildSpec(name="c", start=function, restart=Restart.TEMPORARY))
        await settle()
        assert ref.alive
        assert began[-1] == "root/c"


async def test_idle_actors_have_no_task() -> None:
    async with supervise(root(**{f"n{number}": Echo for number in range(200)})) as tree:
        for number in range(200):
            tree.ref(f"n{number}").tell("hello")
        assert await tree.ref("n199").ask(Get()) == 1
        assert len(asyncio.all_tasks()) < 10


async def test_a_handler_that_waits_holds_up_nobody_else() -> None:
    class Waiter(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            await asyncio.sleep(100)

    async with supervise(root(w=Waiter, x=Waiter, e=Echo)) as tree:
        tree.ref("w").tell("wait")
        tree.ref("x").tell("wait")
        tree.ref("e").tell("hello")
        async with asyncio.timeout(1):
            assert await tree.ref("e").ask(Get()) == 1
        for name in "wx":
            await tree.stop_child(name)


async def test_an_actor_whose_handlers_wait_goes_on_after_its_turn_though_nobody_else_has_work() -> None:
    class Waiter(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            await asyncio.sleep(0.1)
            return message

    async with supervise(root(w=Waiter)) as tree:
        for number in range(300):
            tree.ref("w").tell(number)
        assert await tree.ref("w").ask("the last", timeout=100) == "the last"


async def test_actors_on_many_hosts_at_once_leave_a_bounded_number_of_spare_ones() -> None:
    class Waiter(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            await asyncio.sleep(1)

    async with supervise(root(**{f"n{number}": Waiter for number in range(300)})) as tree:
        for number in range(300):
            tree.ref(f"n{number}").tell("wait")
        await asyncio.sleep(0.5)
        assert len(asyncio.all_tasks()) > 300
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) < SPARE + 20
