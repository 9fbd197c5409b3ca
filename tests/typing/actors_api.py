"""What the type checker has to know of the kernel: this file is checked, and never run."""

from __future__ import annotations

from typing import Any, assert_type

from greenroom.actors import (
    Actor,
    Backoff,
    ChildCount,
    ChildSpec,
    Context,
    Down,
    Exited,
    ExitReason,
    Groups,
    Mailbox,
    MailboxStatistics,
    Pool,
    PoolSpec,
    Ref,
    Registry,
    Request,
    Supervisor,
    SupervisorSpec,
    Timer,
    TreeNode,
    TreeStatistics,
    start_pool,
    supervise,
    watch_loop,
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


class Watching(Actor[Ref[Add] | Down | Exited]):
    def receive(self, message: Ref[Add] | Down | Exited) -> None:
        match message:
            case Down(ref=ref, reason=reason) | Exited(ref=ref, reason=reason):
                assert_type(reason, ExitReason)
                self.context.demonitor(ref)
                self.context.unlink(ref)
            case ref:
                assert_type(ref, Ref[Add])
                self.context.monitor(ref)
                self.context.link(ref)
                self.context.trap_exits()
                assert_type(self.context.registry, Registry)
                assert_type(self.context.groups, Groups)
                assert_type(self.context.idle(1, ref), Timer)


class Stashing(Actor[Add | Get]):
    def receive(self, message: Add | Get) -> int:
        if isinstance(message, Add):
            self.context.stash()
        assert_type(message, Get)
        self.context.unstash()
        return 1


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
    assert_type(supervisor.tree().as_dict(), dict[str, Any])
    assert_type(supervisor.statistics(), TreeStatistics)
    assert_type(supervisor.count_children(), ChildCount)
    assert_type(supervisor.registry.whereis("counter"), Ref[Any] | None)
    assert_type(supervisor.groups.members("counters"), tuple[Ref[Any], ...])
    assert_type(counter.mailbox.statistics(), MailboxStatistics)


async def use_pool(supervisor: Supervisor) -> None:
    spec = PoolSpec(name="counters", start=Counter, size=2)
    assert_type(spec, PoolSpec[Add | Get | Name])
    pool = await start_pool(supervisor, spec)
    assert_type(pool, Pool[Add | Get | Name])
    pool.tell(Add())
    pool.tell("a string")  # type: ignore[arg-type]
    await pool.send(Add())
    assert_type(await pool.ask(Get()), int)
    assert_type(await pool.ask(Name(), timeout=1), str)
    assert_type(pool.refs, tuple[Ref[Add | Get | Name], ...])
    keyed = PoolSpec(name="makers", start=collect, size=2, key=lambda message: type(message).__name__)
    assert_type(await start_pool(supervisor, keyed), Pool[Add | Get])
    async with watch_loop(limit=1, report=lambda blocked: print(blocked.path)):
        await supervisor.start_actor(ChildSpec(name="a", start=Counter, backoff=Backoff(first=1)))


async def root() -> None:
    async with supervise(SupervisorSpec(name="root", children=children)) as supervisor:
        assert_type(supervisor, Supervisor)
