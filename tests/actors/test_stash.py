"""The stash, after Akka's, and the message in hand at a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    AskTimeout,
    ChildSpec,
    Down,
    InHand,
    Mailbox,
    MailboxSpec,
    Restart,
    SpecInvalid,
    SupervisorSpec,
    supervise,
)

from .cast import Boom, Echo, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(start: Any, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="root", intensity=10, children=(ChildSpec(name="a", start=start, **options),))


class Connection(Actor[str]):
    """Handles nothing but "open" until it is open, and then what it had put aside."""

    def __init__(self) -> None:
        self.open = False
        self.seen: list[str] = []

    def receive(self, message: str) -> Any:
        if message == "open":
            self.open = True
            self.context.unstash()
        elif message == "crash":
            raise Boom("lost the line")
        elif message == "seen":
            return self.seen
        elif message.startswith("slow"):
            return self.later(message)
        elif not self.open:
            self.context.stash()
        else:
            self.seen.append(message)
        return message

    async def later(self, message: str) -> str:
        await asyncio.sleep(1)
        if not self.open:
            self.context.stash()
        self.seen.append(message)
        return message


async def test_unstashed_messages_go_ahead_of_the_queue_in_the_order_in_which_they_were_sent() -> None:
    async with supervise(root(Connection)) as tree:
        ref = tree.ref("a")
        for message in ("1", "2", "open", "3", "4"):
            ref.tell(message)
        assert await ref.ask("seen") == ["1", "2", "3", "4"]


async def test_a_stashed_question_is_answered_when_it_is_handled() -> None:
    async with supervise(root(Connection)) as tree, anyio.create_task_group() as group:
        ref, answers = tree.ref("a"), []

        async def ask(message: str) -> None:
            answers.append(await ref.ask(message))

        for message in ("1", "slow 2"):
            group.start_soon(ask, message)
        await asyncio.sleep(5)
        assert answers == []
        assert ref.mailbox.statistics().stashed == 2
        ref.tell("open")
        await asyncio.sleep(5)
        assert answers == ["1", "slow 2"]
        assert ref.mailbox.statistics().stashed == 0


async def test_a_stashed_question_whose_asker_left_is_skipped() -> None:
    async with supervise(root(Connection)) as tree:
        with pytest.raises(AskTimeout):
            await tree.ref("a").ask("late", timeout=1)
        tree.ref("a").tell("open")
        assert await tree.ref("a").ask("seen") == []


async def test_a_full_stash_is_an_error_in_the_handler_that_wants_to_stash(stage: Stage) -> None:
    spec = root(Connection, mailbox=MailboxSpec(stash=2))
    async with supervise(spec, events=stage.hear) as tree:
        ref = tree.ref("a")
        for message in ("1", "2"):
            ref.tell(message)
        with pytest.raises(ActorDied, match=r"stash of actor root/a is full \(2 messages\)"):
            await ref.ask("3")
        ref.tell("open")
        assert await ref.ask("seen") == ["1", "2"]
    with pytest.raises(SpecInvalid, match="stash is -1"):
        MailboxSpec(stash=-1)


async def test_a_crash_puts_the_stash_back_ahead_of_the_queue(stage: Stage) -> None:
    async with supervise(root(Connection), events=stage.hear) as tree:
        ref = tree.ref("a")
        for message in ("1", "2", "crash", "open", "3"):
            ref.tell(message)
        assert await ref.ask("seen") == ["1", "2", "3"]
        assert stage.letters == ["crash"]


async def test_an_end_makes_dead_letters_of_the_stash(stage: Stage) -> None:
    async with supervise(root(Connection), events=stage.hear) as tree:
        for message in ("1", "2"):
            tree.ref("a").tell(message)
        await settle()
    assert stage.letters == ["1", "2"]


async def test_stash_outside_a_handler_is_a_crash_that_says_so(stage: Stage) -> None:
    class Early(Echo):
        async def stopped(self, reason: Any) -> None:
            self.context.stash()

    async with supervise(root(Early, restart=Restart.TEMPORARY), events=stage.hear) as tree:
        await tree.stop_child("a")
    assert stage.exits == [("root/a", "CRASHED")]


async def test_a_function_actor_stashes_what_it_has_taken(stage: Stage) -> None:
    async def picky(mailbox: Mailbox[Any]) -> None:
        while (message := await mailbox.get()) != "ready":
            mailbox.stash(message)
        with pytest.raises(ValueError, match="no such message in hand"):
            mailbox.stash("never taken")
        mailbox.unstash()
        while True:
            message = await mailbox.get()
            stage.log.append(message)
            mailbox.reply(message, f"did {message}")

    async with supervise(root(picky)) as tree, anyio.create_task_group() as group:
        ref = tree.ref("a")

        async def ask() -> None:
            stage.log.append(await ref.ask("question"))

        ref.tell("1")
        group.start_soon(ask)
        await settle()
        for message in ("ready", "2"):
            ref.tell(message)
        await settle()
        assert stage.log == ["1", "question", "2", "did question"]


# The message in hand at a crash

RETRY = MailboxSpec(in_hand=InHand.RETRY)


class Flaky(Echo):
    """Crashes over a message as often as the message says."""

    crashes: dict[str, int]

    def receive(self, message: Any) -> Any:
        if isinstance(message, str) and self.crashes.get(message, 0) > 0:
            self.crashes[message] -= 1
            raise Boom(message)
        return [*self.seen] if message == "seen" else super().receive(message)


def flaky(**crashes: int) -> type[Flaky]:
    return type("Flaky", (Flaky,), {"crashes": crashes})


async def test_by_default_the_message_in_hand_is_dropped_and_those_that_wait_are_kept(stage: Stage) -> None:
    async with supervise(root(flaky(b=1)), events=stage.hear) as tree:
        for message in "abc":
            tree.ref("a").tell(message)
        assert await tree.ref("a").ask("seen") == ["c"]
        assert stage.letters == ["b"]


async def test_a_retried_message_is_the_first_of_the_next_life(stage: Stage) -> None:
    async with supervise(root(flaky(b=1), mailbox=RETRY), events=stage.hear) as tree:
        for message in "abc":
            tree.ref("a").tell(message)
        assert await tree.ref("a").ask("seen") == ["b", "c"]
        assert stage.letters == []


async def test_a_retried_message_that_crashes_again_is_dropped(stage: Stage) -> None:
    async with supervise(root(flaky(b=9), mailbox=RETRY), events=stage.hear) as tree:
        for message in "abc":
            tree.ref("a").tell(message)
        assert await tree.ref("a").ask("seen") == ["c"]
        assert stage.letters == ["b"]
        assert len(stage.restarts) == 2


async def test_each_message_has_its_own_second_chance(stage: Stage) -> None:
    async with supervise(root(flaky(a=1, b=1, c=2), mailbox=RETRY), events=stage.hear) as tree:
        for message in "abcd":
            tree.ref("a").tell(message)
        assert await tree.ref("a").ask("seen") == ["d"]
        assert stage.letters == ["c"]


async def test_the_same_object_sent_again_has_a_second_chance_again(stage: Stage) -> None:
    async with supervise(root(flaky(tick=1), mailbox=RETRY), events=stage.hear) as tree:
        ref = tree.ref("a")
        for _ in range(3):
            ref.tell("tick")
            await settle()
            ref.tell(lambda actor: actor.crashes.update(tick=1))
            await settle()
        assert stage.letters == []
        assert len(stage.restarts) == 3


async def test_a_retried_question_keeps_its_asker_waiting_and_then_tells_it() -> None:
    async with supervise(root(flaky(q=1, r=2), mailbox=RETRY)) as tree:
        assert await tree.ref("a").ask("q") == "q"
        with pytest.raises(ActorDied, match="Boom: r"):
            await tree.ref("a").ask("r")


async def test_a_kill_is_no_crash_and_retries_nothing(stage: Stage) -> None:
    spec = root(Echo, mailbox=RETRY, shutdown=1)
    async with supervise(spec, events=stage.hear) as tree:
        tree.ref("a").tell(lambda actor: asyncio.sleep(100))
        await settle()
    assert len(stage.letters) == 1


async def test_a_notice_in_hand_is_tried_again_too(stage: Stage) -> None:
    class Watcher(Echo):
        def receive(self, message: Any) -> Any:
            if isinstance(message, Down):
                stage.log.append("down")
                raise Boom("not again")
            return super().receive(message)

    children = (
        ChildSpec(name="a", start=Watcher, mailbox=RETRY),
        ChildSpec(name="t", start=Echo, restart=Restart.TEMPORARY),
        ChildSpec(name="new", start=Echo),
    )
    async with supervise(SupervisorSpec(name="root", intensity=10, children=children), events=stage.hear) as tree:
        target = tree.ref("t")
        tree.ref("a").tell(lambda actor: actor.context.monitor(target))
        await settle()
        await tree.stop_child("t")
        await settle()
        assert stage.log == ["down", "down"]
        assert [type(letter) for letter in stage.letters] == [Down]
        assert await tree.ref("new").ask("seen") == "seen"


async def test_a_function_actor_may_stash_a_notice_before_it_has_had_any_message(stage: Stage) -> None:
    async def watcher(mailbox: Mailbox[Any]) -> None:
        mailbox.monitor(target)
        notice = await mailbox.get()
        mailbox.stash(notice)
        mailbox.unstash()
        stage.log.append(type(await mailbox.get()).__name__)
        await mailbox.get()

    spec = SupervisorSpec(name="root", children=(ChildSpec(name="t", start=Echo), ChildSpec(name="new", start=Echo)))
    async with supervise(spec) as tree:
        target = tree.ref("t")
        await tree.stop_child("t")
        await tree.start_child(ChildSpec(name="w", start=watcher))
        await settle()
        assert stage.log == ["Down"]
        assert len(tree.ref("new").mailbox) == 0


async def test_without_a_next_life_the_message_in_hand_is_a_dead_letter(stage: Stage) -> None:
    async with supervise(root(flaky(b=1), mailbox=RETRY, restart=Restart.TEMPORARY), events=stage.hear) as tree:
        for message in "abc":
            tree.ref("a").tell(message)
        await settle()
    assert stage.letters == ["b", "c"]


async def test_a_function_actor_takes_what_it_had_in_hand_again(stage: Stage) -> None:
    async def taker(mailbox: Mailbox[Any]) -> None:
        stage.log.append("life")
        while True:
            for message in await mailbox.get_batch(2):
                if message == "bad":
                    raise Boom("bad")
                stage.log.append(message)
                mailbox.reply(message, "answered")

    async with supervise(root(taker, mailbox=RETRY), events=stage.hear) as tree:
        for message in ("bad", "1", "2"):
            tree.ref("a").tell(message)
        assert await tree.ref("a").ask("3") == "answered"
        assert stage.log == ["life", "life", "life", "2", "3"]
        assert stage.letters == ["bad", "1"]
