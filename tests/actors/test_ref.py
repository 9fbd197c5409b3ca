"""Tell, send and ask: delivery, answers, deadlines, cancellation, and the end of the one who was asked."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    AskTimeout,
    ChildSpec,
    Exit,
    Mailbox,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Ref,
    Restart,
    StrayCancellation,
    Supervisor,
    SupervisorSpec,
    supervise,
)
from greenroom.actors.turn import BATCH

from .cast import Boom, Echo, Get, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def alone(start: Any, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="root", intensity=10, children=(ChildSpec(name="a", start=start, **options),))


class Gated(Actor[Any]):
    """Handles a message when its gate opens; logs how each handling went."""

    gate: asyncio.Event
    log: list[str]

    async def receive(self, message: Any) -> Any:
        try:
            self.log.append(f"begin {message}")
            await self.gate.wait()
        except asyncio.CancelledError:
            self.log.append(f"canceled {message}")
            raise
        self.log.append(f"end {message}")
        return message


def gated() -> tuple[type[Gated], asyncio.Event, list[str]]:
    class Mine(Gated):
        gate = asyncio.Event()
        log: list[str] = []  # noqa: RUF012 - made anew for each test

    return Mine, Mine.gate, Mine.log


async def test_messages_of_one_sender_arrive_in_order_through_a_crash(stage: Stage) -> None:
    seen: list[Any] = []

    class Keep(Echo):
        def receive(self, message: Any) -> Any:
            seen.append(message)
            return super().receive(message)

    boom = Boom("two")
    async with supervise(alone(Keep), events=stage.hear) as tree:
        for message in (1, boom, 3, 4):
            tree.ref("a").tell(message)
        await settle()
    assert seen == [1, boom, 3, 4]
    assert stage.letters == [boom]


async def test_a_crashing_question_fails_its_asker_at_once_with_the_reason() -> None:
    async with supervise(alone(Echo)) as tree:
        with pytest.raises(ActorDied, match=r"root/a.*Boom: why") as caught:
            await tree.ref("a").ask(Boom("why"))
        assert isinstance(caught.value.reason.error, Boom)
        assert await tree.ref("a").ask(Get()) == 0


async def test_questions_queued_behind_a_crash_are_answered_by_the_next_life() -> None:
    async with supervise(alone(Echo)) as tree, anyio.create_task_group() as group:
        ref = tree.ref("a")
        answers: list[Any] = []

        async def ask(message: Any) -> None:
            try:
                answers.append(await ref.ask(message))
            except ActorDied:
                answers.append("died")

        for message in (Boom("x"), "second", "third"):
            group.start_soon(ask, message)
        await settle()
        assert sorted(answers) == ["died", "second", "third"]


async def test_asking_the_dead_fails_at_once_and_telling_them_makes_a_dead_letter(stage: Stage) -> None:
    async with supervise(alone(Echo), events=stage.hear) as tree:
        ref = tree.ref("a")
        await tree.stop_child("a")
        ref.tell("told")
        await ref.send("sent")
        with pytest.raises(ActorDied, match="shut down"):
            await ref.ask("asked")
    assert stage.letters == ["told", "sent", "asked"]
    assert not ref.alive


async def test_a_question_in_the_queue_fails_when_the_actor_ends() -> None:
    kind, gate, _ = gated()
    async with supervise(alone(kind, shutdown=1)) as tree, anyio.create_task_group() as group:
        tree.ref("a").tell("blocks")

        async def ask() -> None:
            with pytest.raises(ActorDied):
                await tree.ref("a").ask("waits")

        group.start_soon(ask)
        await settle()
        gate.clear()
        await tree.stop_child("a")


async def test_a_late_answer_is_dropped() -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind)) as tree:
        with pytest.raises(AskTimeout, match=r"root/a did not answer within 2\.5 s") as caught:
            await tree.ref("a").ask("slow", timeout=2.5)
        assert isinstance(caught.value, TimeoutError)
        assert asyncio.get_running_loop().time() == pytest.approx(2.5)
        gate.set()
        assert await tree.ref("a").ask("next", timeout=1) == "next"
    assert log == ["begin slow", "end slow", "begin next", "end next"]


async def test_questions_with_one_timeout_expire_each_at_its_own_time() -> None:
    kind, _, _ = gated()
    loop = asyncio.get_running_loop()
    ends: list[float] = []

    async def ask(ref: Ref[Any], after: float, timeout: float) -> None:
        await asyncio.sleep(after)
        with pytest.raises(AskTimeout):
            await ref.ask("slow", timeout=timeout)
        ends.append(loop.time())

    async with supervise(alone(kind, shutdown=0)) as tree, asyncio.TaskGroup() as group:
        ref = tree.ref("a")
        for after, timeout in [(0, 5), (1, 5), (2, 1), (2, 5), (9, 5), (9, 0)]:
            group.create_task(ask(ref, after, timeout))
        canceled = group.create_task(ref.ask("canceled", timeout=5))
        await asyncio.sleep(0.5)
        canceled.cancel()
    assert ends == pytest.approx([3, 5, 6, 7, 9, 14])


@pytest.mark.parametrize("timeouts", [1, 100])
async def test_a_tree_that_has_ended_leaves_no_timer_of_a_question(timeouts: int) -> None:
    async with supervise(alone(Echo), inline=0) as tree:
        ref = tree.ref("a")
        for number in range(timeouts):
            assert await ref.ask(Get(), timeout=5 + number) == 0
        kept = ref.mailbox.system.deadlines.timeouts
        assert 1 <= len(kept) <= 16
    assert kept == {}
    with pytest.raises(ActorDied):
        await ref.ask(Get(), timeout=5)
    assert kept == {}


async def test_a_question_that_timed_out_in_the_queue_is_skipped(stage: Stage) -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind), events=stage.hear) as tree:
        tree.ref("a").tell("first")
        with pytest.raises(AskTimeout):
            await tree.ref("a").ask("too late", timeout=1)
        gate.set()
        await settle()
    assert log == ["begin first", "end first"]
    assert stage.letters == ["too late"]


async def test_canceling_the_asker_cancels_the_handling_and_the_actor_goes_on() -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind)) as tree:
        with anyio.move_on_after(3):
            await tree.ref("a").ask("unwanted")
        await settle()
        assert log == ["begin unwanted", "canceled unwanted"]
        gate.set()
        assert await tree.ref("a").ask("wanted") == "wanted"
        assert tree.tree().children[0].restarts == 0


async def test_canceling_the_asker_drops_a_question_that_still_waits(stage: Stage) -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind), events=stage.hear) as tree:
        tree.ref("a").tell("first")
        with anyio.move_on_after(3):
            await tree.ref("a").ask("unwanted")
        gate.set()
        await settle()
        assert log == ["begin first", "end first"]


async def test_cancellation_reaches_through_a_chain_of_asks() -> None:
    kind, _, log = gated()

    class Middle(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            return await tree.ref("last").ask(message)

    spec = SupervisorSpec(
        name="root", children=(ChildSpec(name="last", start=kind), ChildSpec(name="first", start=Middle))
    )
    async with supervise(spec) as tree:
        with anyio.move_on_after(1):
            await tree.ref("first").ask("deep")
        await settle()
        assert log == ["begin deep", "canceled deep"]


async def test_a_handling_that_swallows_its_cancellation_does_not_poison_the_next() -> None:
    class Stubborn(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            if message == "swallow":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return "swallowed"
            await asyncio.sleep(1)
            return message

    async with supervise(alone(Stubborn)) as tree:
        with anyio.move_on_after(1):
            await tree.ref("a").ask("swallow")
        assert await tree.ref("a").ask("next") == "next"
        with anyio.move_on_after(1):
            await tree.ref("a").ask("swallow")
        async with asyncio.timeout(10):
            assert await tree.ref("a").ask("next") == "next"


async def test_an_asker_canceled_at_the_moment_of_a_kill_leaves_the_actor_killed(stage: Stage) -> None:
    kind, _, log = gated()
    async with supervise(alone(kind, shutdown=1), events=stage.hear) as tree, anyio.create_task_group() as group:

        async def ask() -> None:
            with anyio.CancelScope() as scope:
                asyncio.get_running_loop().call_at(2.0, scope.cancel)
                await tree.ref("a").ask("both")

        group.start_soon(ask)
        await asyncio.sleep(1)
        await tree.stop_child("a")
        assert asyncio.get_running_loop().time() == 2.0
    assert log == ["begin both", "canceled both"]
    assert stage.exits == [("root/a", "KILLED")]


async def test_an_answer_and_a_cancellation_in_the_same_turn_leave_no_unretrieved_error() -> None:
    reports: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    async with supervise(alone(Echo)) as tree:
        for _ in range(3):
            task = loop.create_task(tree.ref("a").ask(Boom("x")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, ActorDied)):
                await task
    assert reports == []


async def test_a_cancellation_that_nobody_sent_is_a_crash_that_says_so(stage: Stage) -> None:
    class Careless(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.cancel)
            await future

    async with supervise(alone(Careless), events=stage.hear) as tree:
        with pytest.raises(ActorDied, match="canceled elsewhere") as caught:
            await tree.ref("a").ask("x")
        assert isinstance(caught.value.reason.error, StrayCancellation)
        await settle()
        assert stage.restarts == ["root/a"]


async def test_a_monitor_is_told_once_also_when_the_actor_is_already_dead() -> None:
    async with supervise(alone(Echo, restart=Restart.TEMPORARY)) as tree, anyio.create_task_group() as group:
        ref = tree.ref("a")
        reasons: list[Exit] = []

        async def watch() -> None:
            reasons.append((await ref.ended()).exit)

        group.start_soon(watch)
        group.start_soon(watch)
        await settle()
        ref.tell(Boom("end"))
        await settle()
        assert reasons == [Exit.CRASHED] * 2
        assert (await ref.ended()).exit is Exit.CRASHED


async def test_a_restart_is_no_end() -> None:
    async with supervise(alone(Echo)) as tree:
        ref = tree.ref("a")
        ref.tell(Boom("again"))
        with anyio.move_on_after(10) as scope:
            await ref.ended()
        assert scope.cancelled_caught
        assert ref.alive


# Mailboxes with bounds


def bounded(overflow: Overflow, capacity: int = 2) -> dict[str, Any]:
    return {"mailbox": MailboxSpec(capacity=capacity, overflow=overflow)}


async def fill(tree: Supervisor, *messages: Any) -> None:
    """Make the actor busy with the first message and queue the others."""
    tree.ref("a").tell("in hand")
    await settle()
    for message in messages:
        tree.ref("a").tell(message)


async def test_block_makes_tell_fail_and_send_wait_its_turn() -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind, **bounded(Overflow.BLOCK))) as tree, anyio.create_task_group() as group:
        await fill(tree, 1, 2)
        with pytest.raises(MailboxFull, match=r"root/a is full \(2 messages\)"):
            tree.ref("a").tell(3)
        for number in (3, 4, 5):
            group.start_soon(tree.ref("a").send, number)
            await settle()
        assert len(tree.ref("a").mailbox) == 2
        assert tree.ref("a").mailbox.statistics().senders == 3
        gate.set()
        await settle()
    assert [line for line in log if line.startswith("end")] == ["end in hand", *(f"end {n}" for n in range(1, 6))]


async def test_a_canceled_sender_puts_nothing_in_and_holds_nobody_up() -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind, **bounded(Overflow.BLOCK))) as tree, anyio.create_task_group() as group:
        await fill(tree, 1, 2)

        async def impatient() -> None:
            with anyio.move_on_after(1):
                await tree.ref("a").send("canceled")

        group.start_soon(impatient)
        await settle()
        group.start_soon(tree.ref("a").send, "patient")
        await asyncio.sleep(2)
        gate.set()
        await settle()
    assert [line for line in log if line.startswith("end")] == ["end in hand", "end 1", "end 2", "end patient"]


async def test_an_ask_waits_for_room_no_longer_than_its_timeout() -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind, **bounded(Overflow.BLOCK))) as tree:
        await fill(tree, 1, 2)
        with pytest.raises(AskTimeout):
            await tree.ref("a").ask("no room", timeout=1)
        gate.set()
        assert await tree.ref("a").ask("room") == "room"
    assert "begin no room" not in log


async def test_fail_refuses_every_sender() -> None:
    kind, gate, _ = gated()
    async with supervise(alone(kind, **bounded(Overflow.FAIL))) as tree:
        await fill(tree, 1, 2)
        ref = tree.ref("a")
        with pytest.raises(MailboxFull):
            ref.tell(3)
        with pytest.raises(MailboxFull):
            await ref.send(3)
        with pytest.raises(MailboxFull):
            await ref.ask(3)
        gate.set()


async def test_drop_oldest_makes_room_at_the_front(stage: Stage) -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind, **bounded(Overflow.DROP_OLDEST)), events=stage.hear) as tree:
        await fill(tree, 1, 2, 3, 4)
        gate.set()
        await settle()
        assert tree.ref("a").mailbox.statistics().dropped == 2
    assert [line for line in log if line.startswith("end")] == ["end in hand", "end 3", "end 4"]
    assert stage.letters == [1, 2]


async def test_drop_newest_drops_what_comes_and_fails_its_asker(stage: Stage) -> None:
    kind, gate, log = gated()
    async with supervise(alone(kind, **bounded(Overflow.DROP_NEWEST)), events=stage.hear) as tree:
        await fill(tree, 1, 2, 3)
        with pytest.raises(MailboxFull):
            await tree.ref("a").ask(4)
        gate.set()
        await settle()
    assert [line for line in log if line.startswith("end")] == ["end in hand", "end 1", "end 2"]
    assert stage.letters == [3, 4]


async def test_senders_that_wait_on_an_actor_that_ends_are_let_go(stage: Stage) -> None:
    kind, _, _ = gated()
    spec = alone(kind, shutdown=0, **bounded(Overflow.BLOCK))
    async with supervise(spec, events=stage.hear) as tree, anyio.create_task_group() as group:
        await fill(tree, 1, 2)
        group.start_soon(tree.ref("a").send, 3)
        await settle()
        await tree.stop_child("a")
    assert stage.letters == ["in hand", 1, 2, 3]


async def test_a_busy_actor_does_not_starve_the_loop_or_its_neighbours() -> None:
    turns: list[str] = []

    class Endless(Actor[Any]):
        mailbox = MailboxSpec(capacity=None)
        count = 0

        def receive(self, message: Any) -> None:
            Endless.count += 1
            self.context.ref.tell(message)

    class Neighbour(Actor[Any]):
        def receive(self, message: Any) -> None:
            turns.append(f"neighbour at {Endless.count <= 3 * BATCH}")

    spec = SupervisorSpec(
        name="root", children=(ChildSpec(name="a", start=Endless), ChildSpec(name="b", start=Neighbour, shutdown=0))
    )
    async with supervise(spec) as tree:
        tree.ref("a").tell("go")
        await asyncio.sleep(0)
        tree.ref("b").tell("me too")
        for _ in range(5):
            await asyncio.sleep(0)
        assert turns == ["neighbour at True"]


class SkewedLoop(asyncio.SelectorEventLoop):
    """An event loop on which work seems to take time."""

    skew = 0.0

    def time(self) -> float:
        return super().time() + self.skew


@pytest.mark.parametrize("actors", [1, 3, 100])
@pytest.mark.parametrize("waiting", [False, True])
def test_slow_handlers_give_the_loop_its_turn_by_the_clock(waiting: bool, actors: int) -> None:
    """One actor with a long queue, or many with a message each: all that a host does in a turn counts."""
    handled = 0

    def work(loop: SkewedLoop) -> None:
        nonlocal handled
        handled += 1
        loop.skew += 0.001

    class Slow(Actor[SkewedLoop]):
        def receive(self, message: SkewedLoop) -> None:
            work(message)

    class SlowAsync(Actor[SkewedLoop]):
        async def receive(self, message: SkewedLoop) -> None:
            work(message)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkewedLoop)
        start = SlowAsync if waiting else Slow
        children = tuple(ChildSpec(name=f"a{number}", start=start) for number in range(actors))
        async with supervise(SupervisorSpec(name="root", children=children)) as tree:
            for number in range(100):
                tree.ref(f"a{number % actors}").tell(loop)
            seen = [0]
            while handled < 100:
                await asyncio.sleep(0)
                seen.append(handled)
            turns = [after - before for before, after in pairwise(seen)]
            assert max(turns) <= 16

    with asyncio.Runner(loop_factory=SkewedLoop) as runner:
        runner.run(main())


async def test_a_busy_function_actor_does_not_starve_the_loop() -> None:
    taken = 0

    async def greedy(mailbox: Mailbox[Any]) -> None:
        nonlocal taken
        while True:
            message = await mailbox.get()
            taken += 1
            mailbox.ref.tell(message)

    async with supervise(alone(greedy)) as tree:
        tree.ref("a").tell("go")
        for _ in range(5):
            await asyncio.sleep(0)
        assert 100 < taken <= 6 * BATCH
