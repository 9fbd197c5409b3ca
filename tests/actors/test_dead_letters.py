"""Dead letters: every message that no actor handles to its end is one, with the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    AskTimeout,
    ChildSpec,
    DeadLetter,
    Exit,
    ExitReason,
    Mailbox,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Ref,
    Restart,
    Supervisor,
    SupervisorSpec,
    supervise,
)

from .cast import Boom, Stage, settle


class Slow(Actor[Any]):
    """Takes a second for each message; an exception crashes it."""

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        await asyncio.sleep(1)


async def forgetful(mailbox: Mailbox[Any]) -> None:
    await mailbox.get()


BOOM = Boom("crash")


async def fill(tree: Supervisor, ref: Ref[Any]) -> None:
    """Have one message in hand and as many in the mailbox as it takes."""
    ref.tell("in hand")
    await settle()
    ref.tell("first")


async def crash(tree: Supervisor, ref: Ref[Any]) -> None:
    ref.tell(BOOM)


async def stop(tree: Supervisor, ref: Ref[Any]) -> None:
    await fill(tree, ref)
    await tree.stop_child("a")


async def kill(tree: Supervisor, ref: Ref[Any]) -> None:
    ref.tell("in hand")
    await settle()
    await tree.stop_child("a")


async def dead(tree: Supervisor, ref: Ref[Any]) -> None:
    await tree.stop_child("a")
    ref.tell("late")


async def overflow(tree: Supervisor, ref: Ref[Any]) -> None:
    await fill(tree, ref)
    ref.tell("second")


async def full(tree: Supervisor, ref: Ref[Any]) -> None:
    await fill(tree, ref)
    with pytest.raises(MailboxFull):
        ref.tell("not a dead letter: its sender knows")
    tree.groups.join("g", ref)
    tree.groups.broadcast("g", "to all")


async def timeout(tree: Supervisor, ref: Ref[Any]) -> None:
    ref.tell("in hand")
    with pytest.raises(AskTimeout):
        await ref.ask("impatient", timeout=0.5)


async def canceled(tree: Supervisor, ref: Ref[Any]) -> None:
    with anyio.move_on_after(0.5):
        await ref.ask("given up")


async def unanswered(tree: Supervisor, ref: Ref[Any]) -> None:
    async def ask() -> None:
        with pytest.raises(Exception, match="ended normally"):
            await ref.ask("no answer")

    async with anyio.create_task_group() as group:
        group.start_soon(ask)


@pytest.mark.parametrize(
    ("do", "spec", "letters"),
    [
        (crash, {}, [(BOOM, Exit.CRASHED)]),
        (stop, {}, [("first", Exit.SHUTDOWN)]),
        (kill, {"shutdown": 0}, [("in hand", Exit.KILLED)]),
        (dead, {}, [("late", Exit.SHUTDOWN)]),
        (overflow, {"overflow": Overflow.DROP_NEWEST}, [("second", "the mailbox is full")]),
        (overflow, {"overflow": Overflow.DROP_OLDEST}, [("first", "the mailbox is full")]),
        (full, {"overflow": Overflow.FAIL}, [("to all", "the mailbox is full")]),
        (timeout, {}, [("impatient", "its asker stopped waiting")]),
        (canceled, {}, [("given up", "its asker was canceled")]),
        (unanswered, {"start": forgetful}, [("no answer", Exit.NORMAL)]),
    ],
)
async def test_every_way_to_lose_a_message_has_its_reason(do: Any, spec: dict[str, Any], letters: list[Any]) -> None:
    stage = Stage()
    options = dict(spec)
    mailbox = MailboxSpec(capacity=1, overflow=options.pop("overflow", Overflow.BLOCK))
    child = ChildSpec(**{"name": "a", "start": Slow, "mailbox": mailbox, "restart": Restart.TRANSIENT, **options})
    async with supervise(SupervisorSpec(name="root", children=(child,)), events=stage.hear) as tree:
        await do(tree, tree.ref("a"))
        await asyncio.sleep(5)
        assert [(letter.message, reason(letter)) for letter in stage.of(DeadLetter)] == letters
        assert tree.statistics().dead_letters == len(letters)
    assert {letter.path for letter in stage.of(DeadLetter)} == {"root/a"}


def reason(letter: DeadLetter) -> Exit | str:
    return letter.reason.exit if isinstance(letter.reason, ExitReason) else letter.reason
