"""What a running tree tells of itself: totals, counts, and a snapshot for programs and people."""

from __future__ import annotations

import json
from typing import Any

from greenroom.actors import (
    ChildCount,
    ChildSpec,
    Mailbox,
    Restart,
    SupervisorSpec,
    TreeStatistics,
    render_tree,
    supervise,
)

from .cast import Boom, Echo, Get, settle


def spec() -> SupervisorSpec:
    below = SupervisorSpec(name="below", intensity=5, children=(ChildSpec(name="x", start=Echo),))
    temporary = ChildSpec(name="t", start=Echo, restart=Restart.TEMPORARY)
    return SupervisorSpec(name="root", intensity=5, children=(ChildSpec(name="a", start=Echo), below, temporary))


async def test_statistics_add_up_a_tree() -> None:
    async with supervise(spec()) as tree:
        x = tree.supervisor("below").ref("x")
        for message in (1, 2, Boom("once"), 3):
            x.tell(message)
        assert await x.ask(Get()) == 1
        await tree.stop_child("a")
        tree.ref("a").tell("too late")
        await settle()
        assert tree.statistics() == TreeStatistics(
            supervisors=2, actors=2, handled=4, waiting=0, crashes=1, restarts=1, dead_letters=2
        )
        assert tree.supervisor("below").statistics().actors == 1
        tree.ref("t").tell("first")
        assert tree.statistics().waiting == 1
    assert tree.statistics().actors == 0


async def test_count_children_is_that_of_otp() -> None:
    async with supervise(spec()) as tree:
        assert tree.count_children() == ChildCount(specs=3, active=3, supervisors=1, workers=2)
        await tree.stop_child("a")
        await tree.stop_child("t")
        assert tree.count_children() == ChildCount(specs=2, active=1, supervisors=1, workers=1)


async def test_a_snapshot_is_data_for_json() -> None:
    async with supervise(spec()) as tree:
        x = tree.supervisor("below").ref("x")
        x.tell(Boom("once"))
        await x.ask(Get())
        await settle()
        plain = json.loads(json.dumps(tree.tree().as_dict()))
        assert [child["path"] for child in plain["children"]] == ["root/a", "root/below", "root/t"]
        assert plain["children"][1]["children"] == [
            {
                "path": "root/below/x",
                "kind": "actor",
                "state": "running",
                "restarts": 1,
                "mailbox": 0,
                "capacity": 10000,
                "crashes": 1,
                "handled": 1,
                "dropped": 1,
                "children": [],
                "omitted": 0,
            }
        ]
        assert [node.path for node in tree.tree().walk()] == ["root", "root/a", "root/below", "root/below/x", "root/t"]
        assert "x  actor, running, 1 restart" in render_tree(tree.tree())


async def test_a_function_actor_counts_what_it_has_taken() -> None:
    async def taker(mailbox: Mailbox[Any]) -> None:
        await mailbox.get()
        while mailbox.get_nowait() is not None:
            pass
        taken.extend(await mailbox.get_batch())
        await mailbox.get()

    taken: list[Any] = []
    async with supervise(SupervisorSpec(name="root", children=(ChildSpec(name="f", start=taker),))) as tree:
        ref = tree.ref("f")
        for number in range(300):
            ref.tell(number)
        await settle()
        for number in range(50):
            ref.tell(number)
        await settle()
        assert len(taken) == 50
        assert ref.mailbox.statistics().handled == 350
