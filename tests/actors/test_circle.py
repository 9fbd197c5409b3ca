"""Asks in a circle are refused with the circle; asks that only look like one are not."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    AskCircle,
    AskTimeout,
    ChildSpec,
    Mailbox,
    MailboxSpec,
    Ref,
    SupervisorSpec,
    supervise,
)

from .cast import Stage, settle


class Link(Actor[Any]):
    """Asks the first of a list of refs to do the same with the rest; an empty list is answered."""

    async def receive(self, message: Any) -> Any:
        try:
            return await self.further(message)
        except AskCircle as error:
            return error

    async def further(self, refs: list[Ref[Any]]) -> Any:
        return await refs[0].ask(refs[1:]) if refs else "nobody left to ask"


class Hooked(Link):
    """The same in a task of its own."""

    async def started(self) -> None:
        pass


async def function(mailbox: Mailbox[Any]) -> None:
    """The same as a function."""
    while True:
        refs = await mailbox.get()
        try:
            answer = await refs[0].ask(refs[1:]) if refs else "nobody left to ask"
        except AskCircle as error:
            answer = error
        mailbox.reply(refs, answer)


def root(start: Any = Link, **options: Any) -> SupervisorSpec:
    return SupervisorSpec(name="r", children=tuple(ChildSpec(name=name, start=start, **options) for name in "abcd"))


KINDS = pytest.mark.parametrize("start", [Link, Hooked, function])


@KINDS
@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ("aa", ("r/a", "r/a")),
        ("aba", ("r/a", "r/b", "r/a")),
        ("abca", ("r/a", "r/b", "r/c", "r/a")),
        ("abcdb", ("r/b", "r/c", "r/d", "r/b")),
    ],
)
async def test_the_ask_that_would_close_a_circle_fails_and_names_it(
    start: Any, names: str, paths: tuple[str, ...]
) -> None:
    async with supervise(root(start)) as tree:
        refs = [tree.ref(name) for name in names]
        error = await refs[0].ask(refs[1:])
        assert isinstance(error, AskCircle)
        assert sorted(error.paths[1:]) == sorted(paths[1:])
        assert error.paths[0] == error.paths[-1] == refs[-2].path
        assert " asks ".join(error.paths) in str(error)
        assert [ref.mailbox.statistics().dropped for ref in refs] == [0] * len(refs)


@KINDS
async def test_asking_one_after_the_other_is_no_circle(start: Any) -> None:
    async with supervise(root(start)) as tree:
        a, b, c, d = (tree.ref(name) for name in "abcd")
        for refs in ([b, c, d], [c, b], [d]):
            assert await a.ask(refs) == "nobody left to ask"


async def test_many_askers_of_a_busy_actor_are_no_circle() -> None:
    class Slow(Actor[Any]):
        async def receive(self, message: Any) -> str:
            await asyncio.sleep(1)
            return "done"

    children = (ChildSpec(name="s", start=Slow), *root().children)
    async with supervise(SupervisorSpec(name="r", children=children)) as tree:
        answers: list[Any] = []

        async def ask(ref: Ref[Any]) -> None:
            answers.append(await ref.ask([tree.ref("s")]))

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(ask, tree.ref(name))
        assert answers == ["done"] * 4


async def test_a_circle_through_a_full_mailbox_is_refused_too() -> None:
    async with supervise(root(mailbox=MailboxSpec(capacity=1))) as tree:
        a, b = tree.ref("a"), tree.ref("b")

        async with anyio.create_task_group() as group:
            answers: list[Any] = []

            async def ask(ref: Ref[Any], refs: list[Ref[Any]]) -> None:
                answers.append(await ref.ask(refs))

            group.start_soon(ask, a, [b, a])
            group.start_soon(ask, a, [])
            await settle()
        assert {type(answer) for answer in answers} == {AskCircle, str}


async def test_an_actor_may_ask_back_from_a_task_of_its_own() -> None:
    """So it goes on taking messages, and there is no circle to speak of."""

    async def server(mailbox: Mailbox[Any]) -> None:
        async with anyio.create_task_group() as group:
            while True:
                message = await mailbox.get()
                if message == "begin":

                    async def work(request: Any = message) -> None:
                        mailbox.reply(request, await other.ask("serve"))

                    group.start_soon(work)
                else:
                    mailbox.reply(message, "asked back")

    class Client(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            return await first.ask("back")

    children = (ChildSpec(name="s", start=server), ChildSpec(name="c", start=Client))
    async with supervise(SupervisorSpec(name="r", children=children)) as tree:
        first, other = tree.ref("s"), tree.ref("c")
        assert await first.ask("begin") == "asked back"


async def test_an_actor_that_reads_while_it_asks_is_no_part_of_a_circle() -> None:
    async def server(mailbox: Mailbox[Any]) -> None:
        async def answer(request: Any) -> None:
            await asyncio.sleep(10)
            mailbox.reply(request, "served")

        async def serve() -> None:
            while True:
                group.start_soon(answer, await mailbox.get())

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            await asyncio.sleep(5)
            answers.append(await client.ask("and you"))

    class Asking(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            return await tree.ref("b" if self.context.path == "r/c" else "s").ask("please")

    answers: list[Any] = []
    asking = (ChildSpec(name="c", start=Asking), ChildSpec(name="b", start=Asking))
    children = (ChildSpec(name="s", start=server), *asking)
    async with supervise(SupervisorSpec(name="r", children=children)) as tree:
        client = tree.ref("c")
        tree.ref("b").tell("keeps b busy with a question to s, while s asks c, and c asks b")
        await asyncio.sleep(30)
        assert answers == ["served"]


async def test_a_circle_that_nobody_catches_fails_all_askers_with_the_reason() -> None:
    class Plain(Link):
        async def receive(self, message: Any) -> Any:
            return await self.further(message)

    stage = Stage()
    spec = SupervisorSpec(name="r", intensity=10, children=root(Plain).children)
    async with supervise(spec, events=stage.hear) as tree:
        a, b = tree.ref("a"), tree.ref("b")
        with pytest.raises(ActorDied, match="r/b asks r/a asks r/b: nobody could ever answer"):
            await a.ask([b, a])
        await settle()
        assert sorted(stage.restarts) == ["r/a", "r/b"]


async def test_a_question_asked_while_starting_is_part_of_a_circle() -> None:
    class Early(Actor[Any]):
        async def started(self) -> None:
            refs[0] = self.context.ref
            answers.append(await refs[1].ask("hello"))

    class Back(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            try:
                return await refs[0].ask("back", timeout=5)
            except AskCircle as error:
                return error

    refs: dict[int, Ref[Any]] = {}
    answers: list[Any] = []
    async with supervise(SupervisorSpec(name="r", children=(ChildSpec(name="b", start=Back),))) as tree:
        refs[1] = tree.ref("b")
        await tree.start_child(ChildSpec(name="e", start=Early))
        assert [type(answer) for answer in answers] == [AskCircle]


async def test_what_is_not_seen_still_ends_with_its_timeout() -> None:
    class Nested(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            task = asyncio.get_running_loop().create_task(self.context.ref.ask("unseen", timeout=3))
            return await task

    async with supervise(SupervisorSpec(name="r", intensity=9, children=(ChildSpec(name="n", start=Nested),))) as tree:
        with pytest.raises(ActorDied, match="did not answer within 3 s") as caught:
            await tree.ref("n").ask("ask yourself")
        assert isinstance(caught.value.reason.error, AskTimeout)
        with pytest.raises(ActorDied):
            await tree.ref("n").ask("and again", timeout=10)
