"""Whatever happens to a pool (crashes, retries, stashes, changes of size), each message ends once: handled, or dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorError,
    AskTimeout,
    DeadLetter,
    InHand,
    MailboxFull,
    MailboxSpec,
    Overflow,
    PoolSpec,
    SupervisorSpec,
    start_pool,
    supervise,
)

from .cast import Boom, Stage

BEHAVIOUR = st.sampled_from(["quick", "slow", "crash once", "crash", "late crash", "stash", "unstash", "link"])
STEP = st.one_of(
    st.tuples(st.sampled_from(["tell", "send", "ask", "impatient"]), BEHAVIOUR),
    st.tuples(st.just("resize"), st.integers(1, 5)),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.001, 0.5, 3.0])),
)


class Letter:
    """A message that knows how it wants to be handled."""

    def __init__(self, number: int, behaviour: str) -> None:
        self.number = number
        self.behaviour = behaviour
        self.tries = 0


class Worker(Actor[Letter]):
    handled: Counter[int]

    def __init__(self) -> None:
        self.stashing = True

    def receive(self, message: Letter) -> Any:
        message.tries += 1
        match message.behaviour:
            case "slow":
                return self.slowly(message)
            case "late crash":
                return self.slowly(message, Boom("late"))
            case "crash":
                raise Boom("always")
            case "crash once" if message.tries == 1:
                raise Boom("once")
            case "stash" if self.stashing:
                self.context.stash()
            case "unstash":
                self.stashing = False
                self.context.unstash()
            case "link":
                for ref in self.context.groups.members("all"):
                    self.context.link(ref)
                self.context.groups.join("all", self.context.ref)
        self.handled[message.number] += 1
        return message.number

    async def slowly(self, message: Letter, error: Exception | None = None) -> int:
        await asyncio.sleep(1)
        if error is not None:
            raise error
        self.handled[message.number] += 1
        return message.number


@given(
    steps=st.lists(STEP, min_size=10, max_size=60),
    in_hand=st.sampled_from(InHand),
    overflow=st.sampled_from(Overflow),
    capacity=st.sampled_from([1, 3, None]),
    keyed=st.booleans(),
)
@settings(max_examples=150)
async def test_each_message_is_handled_once_or_is_one_dead_letter(
    steps: list[tuple[str, Any]], in_hand: InHand, overflow: Overflow, capacity: int | None, keyed: bool
) -> None:
    stage = Stage()
    handled: Counter[int] = Counter()
    sent: set[int] = set()
    given_up: set[int] = set()
    answered: Counter[int] = Counter()
    mailbox = MailboxSpec(capacity=capacity, overflow=overflow, in_hand=in_hand, stash=4)
    spec = PoolSpec(
        name="pool",
        start=type("Worker", (Worker,), {"handled": handled}),
        size=2,
        key=(lambda letter: letter.number % 7) if keyed else None,
        mailbox=mailbox,
        intensity=10_000,
    )

    async def wait_for(how: str, letter: Letter) -> None:
        try:
            if how == "send":
                await pool.send(letter)
            else:
                answered[await pool.ask(letter, timeout=0.7 if how == "impatient" else None)] += 1
        except (AskTimeout, MailboxFull):  # it may never have come in; whoever sent it knows
            given_up.add(letter.number)
        except ActorError:
            pass

    async with supervise(SupervisorSpec(name="root"), events=stage.hear) as tree, anyio.create_task_group() as group:
        pool = await start_pool(tree, spec)
        for number, (step, value) in enumerate(steps):
            if step == "sleep":
                await asyncio.sleep(value)
            elif step == "resize":
                await pool.resize(value)
            else:
                letter = Letter(number, value)
                sent.add(number)
                if step == "tell":
                    try:
                        pool.tell(letter)
                    except MailboxFull:
                        sent.remove(number)
                else:
                    group.start_soon(wait_for, step, letter)
        await asyncio.sleep(1000)
        for ref in pool.refs:
            await tree.supervisor("pool").stop_child(ref.path.rsplit("/", 1)[-1])
    dead = Counter(event.message.number for event in stage.of(DeadLetter) if isinstance(event.message, Letter))
    ends = handled + dead
    assert {number for number, times in ends.items() if times > 1} == set()
    assert sent - given_up <= set(ends)
    assert all(handled[number] == times for number, times in answered.items())
