"""Names (Erlang's register, whereis, unregister) and groups (pg): of one tree, through restarts, without the dead."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.actors import (
    Actor,
    ChildSpec,
    DeadLetter,
    Mailbox,
    MailboxSpec,
    NameTaken,
    Ref,
    Restart,
    SupervisorSpec,
    supervise,
)

from .cast import Boom, Echo, Get, Stage, settle


def root(*names: str, **options: Any) -> SupervisorSpec:
    children = tuple(ChildSpec(name=name, start=Echo, **options) for name in names)
    return SupervisorSpec(name="root", intensity=10, children=children)


async def test_a_registered_name_leads_to_its_actor_through_restarts_until_it_is_dead() -> None:
    async with supervise(root("a", "b")) as tree:
        a, names = tree.ref("a"), tree.registry
        names.register("first", a)
        names.register("other", a)
        names.register("first", a)
        a.tell(Boom("once"))
        assert await a.ask(Get()) == 0
        assert names.whereis("first") is a
        assert names.names() == ["first", "other"]
        await tree.stop_child("a")
        assert names.whereis("first") is None
        assert names.names() == []
        names.register("first", tree.ref("b"))
        assert names.whereis("first") is tree.ref("b")


async def test_a_name_is_of_one_actor_at_a_time() -> None:
    async with supervise(root("a", "b")) as tree:
        tree.registry.register("one", tree.ref("a"))
        with pytest.raises(NameTaken, match=r"'one' is taken by root/a: .* unregister"):
            tree.registry.register("one", tree.ref("b"))
        tree.registry.unregister("one")
        tree.registry.unregister("one")
        tree.registry.register("one", tree.ref("b"))
        assert tree.registry.whereis("one") is tree.ref("b")


async def test_unregistering_one_of_two_names_keeps_the_other_and_still_forgets_it_at_the_end() -> None:
    async with supervise(root("a")) as tree:
        for name in ("one", "two"):
            tree.registry.register(name, tree.ref("a"))
        tree.registry.unregister("one")
        assert tree.registry.names() == ["two"]
        await tree.stop_child("a")
        assert tree.registry.names() == []


async def test_registering_the_dead_has_no_effect() -> None:
    async with supervise(root("a")) as tree:
        ref = tree.ref("a")
        await tree.stop_child("a")
        tree.registry.register("ghost", ref)
        tree.groups.join("ghosts", ref)
        assert tree.registry.whereis("ghost") is None
        assert tree.groups.members("ghosts") == ()


async def test_two_trees_have_two_registries() -> None:
    async with supervise(root("a")) as one, supervise(root("a")) as other:
        one.registry.register("name", one.ref("a"))
        assert other.registry.whereis("name") is None


async def test_actors_find_names_and_groups_from_the_inside() -> None:
    class Server(Actor[Any]):
        async def started(self) -> None:
            self.context.registry.register("server", self.context.ref)
            self.context.groups.join("all", self.context.ref)

        def receive(self, message: Any) -> str:
            return f"served {message}"

    async def client(mailbox: Mailbox[Any]) -> None:
        mailbox.groups.join("all", mailbox.ref)
        server = mailbox.registry.whereis("server")
        assert server is not None
        answers.append(await server.ask("me"))
        await mailbox.get()

    answers: list[str] = []
    children = (ChildSpec(name="s", start=Server), ChildSpec(name="c", start=client))
    async with supervise(SupervisorSpec(name="root", children=children)) as tree:
        await settle()
        assert answers == ["served me"]
        assert [ref.path for ref in tree.groups.members("all")] == ["root/s", "root/c"]


async def test_a_group_has_its_living_members_in_the_order_in_which_they_joined() -> None:
    async with supervise(root("a", "b", "c", restart=Restart.TEMPORARY)) as tree:
        a, b, c = (tree.ref(name) for name in "abc")
        for ref in (c, a, b, a):
            tree.groups.join("g", ref)
        tree.groups.join("h", a)
        assert tree.groups.members("g") == (c, a, b)
        assert tree.groups.names() == ["g", "h"]
        tree.groups.leave("g", a)
        tree.groups.leave("g", a)
        b.tell(Boom("gone"))
        await settle()
        assert tree.groups.members("g") == (c,)
        tree.groups.leave("g", c)
        assert tree.groups.names() == ["h"]
        tree.groups.leave("h", a)
        assert tree.groups.names() == []


async def test_a_broadcast_reaches_all_members_and_does_not_stop_at_a_full_one() -> None:
    stage = Stage()
    full = MailboxSpec(capacity=1)
    children = (
        ChildSpec(name="a", start=Echo),
        ChildSpec(name="full", start=Echo, mailbox=full),
        ChildSpec(name="b", start=Echo),
    )
    async with supervise(SupervisorSpec(name="root", children=children), events=stage.hear) as tree:
        refs: list[Ref[Any]] = [tree.ref(spec.name) for spec in children]
        for ref in refs:
            tree.groups.join("g", ref)
        tree.ref("full").tell("before")
        assert tree.groups.broadcast("g", "news") == 2
        assert tree.groups.broadcast("nobody", "news") == 0
        assert [await ref.ask(Get()) for ref in (refs[0], refs[2])] == [1, 1]
    assert [(letter.path, letter.reason) for letter in stage.of(DeadLetter)] == [("root/full", "the mailbox is full")]
