"""Pools: who gets a message, what a crash costs, and what a change of size moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    AlreadyStarted,
    ChildSpec,
    Mailbox,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Pool,
    PoolSpec,
    Request,
    SpecInvalid,
    SupervisorSpec,
    UnknownChild,
    start_pool,
    supervise,
)

from .cast import Boom, Stage, settle

ROOT = SupervisorSpec(name="root", intensity=10)


class Work(Request[str]):
    """Takes so many seconds; the answer is who did it."""

    def __init__(self, key: int = 0, seconds: float = 1) -> None:
        self.key = key
        self.seconds = seconds


class Worker(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Work):
            done.append(message.key)
            if message.seconds:
                await asyncio.sleep(message.seconds)
            return self.context.path
        return None


done: list[int] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def pool_of(size: int, **options: Any) -> PoolSpec[Any]:
    return PoolSpec(**{"name": "pool", "start": Worker, "size": size, **options})


def by_key(work: Work) -> int:
    return work.key


async def test_work_goes_to_the_worker_with_the_least_to_do() -> None:
    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(4))
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await pool.ask(Work()))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask)
        assert Counter(answers) == {f"root/pool/{number}": 2 for number in range(4)}
        assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)
        assert repr(pool) == "<Pool root/pool of 4>"


async def test_a_slow_worker_gets_no_more_work_while_others_are_free() -> None:
    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(3))
        pool.tell(Work(seconds=100))
        await settle()
        (slow,) = [ref for ref in pool.refs if ref.mailbox.sleeper is None]
        answers = {await pool.ask(Work()) for _ in range(10)}
        assert slow.path not in answers
        assert len(answers) == 2
        await tree.supervisor("pool").stop_child(slow.path[-1])


async def test_equal_keys_go_to_the_same_worker_in_order_through_crashes() -> None:
    stage = Stage()
    async with supervise(ROOT, events=stage.hear) as tree:
        pool = await start_pool(tree, pool_of(4, key=by_key))
        assert len({await pool.ask(Work(key=7)) for _ in range(5)}) == 1
        places = {key: await pool.ask(Work(key=key, seconds=0)) for key in range(100)}
        assert len(set(places.values())) == 4
        for number in range(3):
            pool.tell(Work(key=7, seconds=number))
        pool.pick(Work(key=7)).tell(Boom("once"))
        pool.tell(Work(key=7, seconds=3))
        assert await pool.ask(Work(key=7)) == places[7]
        assert len(stage.restarts) == 1


@pytest.mark.parametrize("kind", [int, str, lambda key: str(key).encode()])
async def test_a_change_of_size_moves_as_few_keys_as_can_be(kind: Any) -> None:
    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(4, key=lambda work: kind(work.key)))
        before = {key: pool.pick(Work(key=key)) for key in range(1000)}
        await pool.resize(5)
        moved = {key for key, ref in before.items() if pool.pick(Work(key=key)) is not ref}
        assert 120 < len(moved) < 280
        assert {pool.pick(Work(key=key)).path for key in moved} == {"root/pool/4"}
        await pool.resize(4)
        assert all(pool.pick(Work(key=key)) is ref for key, ref in before.items())


async def test_a_crashed_worker_keeps_its_queue() -> None:
    stage = Stage()
    async with supervise(ROOT, events=stage.hear) as tree:
        pool = await start_pool(tree, pool_of(1))
        for message in (Work(1), Boom("over this"), Work(2), Work(3)):
            pool.tell(message)
        await asyncio.sleep(10)
        assert done == [1, 2, 3]
        assert len(stage.letters) == 1


async def test_a_pool_that_shrinks_loses_no_message_and_no_question() -> None:
    async with supervise(ROOT) as tree, anyio.create_task_group() as group:
        pool = await start_pool(tree, pool_of(4, mailbox=MailboxSpec(capacity=2)))
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(await pool.ask(Work(number)))

        async def send(number: int) -> None:
            await pool.send(Work(number))

        for number in range(24):
            group.start_soon(ask if number % 2 else send, number)
        await settle()
        await pool.resize(1)
        assert [ref.path for ref in pool.refs] == ["root/pool/0"]
        await asyncio.sleep(100)
        assert sorted(done) == list(range(24))
        assert len(answers) == 12


async def test_a_sender_that_left_is_not_routed_anew() -> None:
    async with supervise(ROOT) as tree, anyio.create_task_group() as group:
        pool = await start_pool(tree, pool_of(2, mailbox=MailboxSpec(capacity=1)))
        for number in range(4):
            pool.tell(Work(number))
            await settle()
        group.start_soon(pool.send, Work(4))
        await settle()
        scope = anyio.CancelScope()

        async def give_up() -> None:
            with scope:
                await pool.send(Work(5))

        group.start_soon(give_up)
        await settle()
        scope.cancel()
        await pool.resize(1)
        await asyncio.sleep(20)
        assert sorted(done) == [0, 1, 2, 3, 4]


async def test_what_a_smaller_pool_may_not_take_is_a_dead_letter() -> None:
    stage = Stage()
    full = MailboxSpec(capacity=1, overflow=Overflow.FAIL)
    async with supervise(ROOT, events=stage.hear) as tree:
        pool = await start_pool(tree, pool_of(2, mailbox=full))
        for number in range(2):
            pool.tell(Work(number))
        await settle()
        for number in range(2, 4):
            pool.tell(Work(number))
        with pytest.raises(MailboxFull):
            pool.tell(Work(4))
        await pool.resize(1)
        assert [letter.key for letter in stage.letters] == [2]
        await asyncio.sleep(10)
        assert done == [0, 1, 3] or done == [1, 0, 3]


async def test_a_pool_in_a_static_tree_has_its_first_size_again_after_its_supervisor_was_restarted() -> None:
    spec = pool_of(2, intensity=0)
    async with supervise(SupervisorSpec(name="root", intensity=3, children=(spec.supervisor(),))) as tree:
        pool = Pool(tree, spec)
        await pool.resize(3)
        before = pool.refs
        pool.tell(Boom("and escalate"))
        await settle()
        assert len(pool.refs) == 2
        assert not any(ref.alive for ref in before)
        assert await pool.ask(Work()) in ("root/pool/0", "root/pool/1")


async def test_a_pool_whose_supervisor_is_gone_answers_like_a_dead_actor() -> None:
    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(2))
        await tree.stop_child("pool")
        with pytest.raises(ActorDied, match="shut down"):
            await pool.ask(Work())


async def test_workers_may_be_functions() -> None:
    async def worker(mailbox: Mailbox[Work]) -> None:
        while True:
            message = await mailbox.get()
            mailbox.reply(message, mailbox.path)

    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(2, start=worker))
        assert (await pool.ask(Work())).startswith("root/pool/")
        assert pool.path == "root/pool"


async def test_a_pool_that_cannot_be_says_why() -> None:
    with pytest.raises(SpecInvalid, match="size of pool pool is 0"):
        pool_of(0)
    async with supervise(ROOT) as tree:
        with pytest.raises(UnknownChild):
            Pool(tree, pool_of(1))
        pool = await start_pool(tree, pool_of(1))
        with pytest.raises(SpecInvalid, match="size of pool pool is 0"):
            await pool.resize(0)
        with pytest.raises(AlreadyStarted):
            await start_pool(tree, pool_of(1))


async def test_two_changes_of_size_at_once_come_one_after_the_other() -> None:
    class Slow(Worker):
        async def started(self) -> None:
            await asyncio.sleep(1)

    async with supervise(ROOT) as tree:
        pool = await start_pool(tree, pool_of(1, start=Slow))
        async with anyio.create_task_group() as group:
            for size in (3, 5, 2):
                group.start_soon(pool.resize, size)
                await asyncio.sleep(0.01)
        assert len(pool.refs) == 2
        assert tree.supervisor("pool").count_children().active == 2


def test_the_spec_of_a_worker_is_that_of_a_child() -> None:
    assert pool_of(1, shutdown=None).worker(0) == ChildSpec(name="0", start=Worker, shutdown=None)
