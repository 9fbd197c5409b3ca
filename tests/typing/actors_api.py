"""What the type checker has to know of the kernel: this file is checked, and never run."""

from __future__ import annotations

from typing import Any, assert_type

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    ExitReason,
    Mailbox,
    Ref,
    Request,
    Supervisor,
    SupervisorSpec,
    Timer,
    TreeNode,
    supervise,
)


class Add:
    amount: int = 1


class Get(Request[int]): ...


class Name(Request[str]): ...


class Counter(Actor[Add | Get | Name]):
    def receive(self, message: Add | Get | Name) -> int | str | None:
        assert_type(self.context, Context[Add | Get | Name])
        assert_type(self.context.ref, Ref[Add | Get | Name])
        assert_type(self.context.timer(1, Add()), Timer)
        match message:
            case Add():
                return None
            case Get():
                return 1
            case Name():
                return "counter"


class Slow(Actor[Get]):
    async def receive(self, message: Get) -> int:
        return 1


async def collect(mailbox: Mailbox[Add | Get]) -> None:
    message = await mailbox.get()
    assert_type(message, Add | Get)
    assert_type(await mailbox.get_batch(), list[Add | Get])
    assert_type(mailbox.get_nowait(), Add | Get | None)
    assert_type(mailbox.ref, Ref[Add | Get])
    if isinstance(message, Get):
        mailbox.reply(message, 3)


def make(ref: Ref[Add]) -> ChildSpec[Add]:
    async def forward(mailbox: Mailbox[Add]) -> None:
        ref.tell(await mailbox.get())

    return ChildSpec(name="forward", start=forward)


untyped: ChildSpec = ChildSpec(name="anything", start=Counter)
children: tuple[ChildSpec, ...] = (untyped, ChildSpec(name="below", start=SupervisorSpec(name="below")))


async def use(supervisor: Supervisor) -> None:
    counter = await supervisor.start_actor(ChildSpec(name="counter", start=Counter))
    assert_type(counter, Ref[Add | Get | Name])
    counter.tell(Add())
    counter.tell("a string")  # type: ignore[arg-type]
    await counter.send(Add())
    await counter.send(3)  # type: ignore[arg-type]
    assert_type(await counter.ask(Get()), int)
    assert_type(await counter.ask(Name(), timeout=1), str)
    assert_type(await counter.ask(Add()), Any)
    assert_type(await counter.ended(), ExitReason)
    assert_type(await supervisor.start_actor(ChildSpec(name="collect", start=collect)), Ref[Add | Get])
    assert_type(await supervisor.start_actor(make(counter)), Ref[Add])
    assert_type(await supervisor.start_actor(ChildSpec(name="slow", start=lambda: Slow())), Ref[Get])
    assert_type(await supervisor.start_child(SupervisorSpec(name="below")), Ref[Any] | Supervisor)
    assert_type(await supervisor.start_supervisor(SupervisorSpec(name="below")), Supervisor)
    assert_type(supervisor.ref("counter"), Ref[Any])
    assert_type(supervisor.supervisor("below"), Supervisor)
    assert_type(supervisor.tree(), TreeNode)


async def root() -> None:
    async with supervise(SupervisorSpec(name="root", children=children)) as supervisor:
        assert_type(supervisor, Supervisor)
