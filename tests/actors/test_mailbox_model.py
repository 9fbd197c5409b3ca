"""A mailbox against a model: every policy, with tells, sends, asks, cancellations, timeouts, crashes, stops.

One machine compares step by step and exactly. One storm lets many senders loose at once, on a shuffled loop, and
compares what must hold in every order: first in first out per sender, nothing lost, nothing twice, nobody left waiting.
A failure prints its steps and the `@reproduce_failure` line. GREENROOM_EXAMPLES=20 makes twenty times as many.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from greenroom.actors import (
    Actor,
    ActorDied,
    AskTimeout,
    ChildSpec,
    DeadLetter,
    ExitReason,
    KernelEvent,
    Mailbox,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Ref,
    Supervisor,
    SupervisorSpec,
    supervise,
)
from greenroom.runtime.testing.clock import VirtualLoop

from .cast import Boom

EXAMPLES = int(os.environ.get("GREENROOM_EXAMPLES", "1"))
PROFILE = settings(
    deadline=None,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PATIENCE = 5.0
"""Seconds that an ask with a timeout waits."""

FULL, GIVEN_UP, CANCELED = "the mailbox is full", "its asker stopped waiting", "its asker was canceled"


@dataclass(frozen=True, eq=False)
class Message:
    """One message; no two are equal."""

    number: int
    sender: int = 0
    crash: bool = False
    pause: float = 0.0

    def __repr__(self) -> str:
        return f"m{self.number}"


class House:
    """One actor, what it handled, and its dead letters."""

    def __init__(self, kind: str, mailbox: MailboxSpec) -> None:
        self.kind = kind
        self.handled: list[Message] = []
        self.letters: list[tuple[Message, str]] = []
        start: Any = {"bare": lambda: Player(self), "hooked": lambda: Hooked(self), "function": self.function}[kind]
        self.child: ChildSpec[Any] = ChildSpec(name="a", start=start, shutdown=0.01, mailbox=mailbox)
        self.spec = SupervisorSpec(name="root", intensity=1_000_000, children=(self.child,))

    async def turn(self, message: Message) -> None:
        """Handle a message, as long as it takes."""
        await asyncio.sleep(message.pause)
        if message.crash:
            raise Boom(message)

    def hear(self, event: KernelEvent) -> None:
        if isinstance(event, DeadLetter):
            assert isinstance(event.message, Message)
            reason = event.reason.exit.name if isinstance(event.reason, ExitReason) else event.reason
            self.letters.append((event.message, reason))

    async def function(self, mailbox: Mailbox[Message]) -> None:
        while True:
            message = await mailbox.get()
            await self.turn(message)
            self.handled.append(message)
            mailbox.reply(message, message)  # type: ignore[arg-type]


class Player(Actor[Message]):
    """A class actor without a task of its own; it awaits only where it must."""

    def __init__(self, house: House) -> None:
        self.house = house

    def receive(self, message: Message) -> Any:
        if message.pause == 0 and not message.crash and type(self.house) is House:
            self.house.handled.append(message)
            return message
        return self.handle(message)

    async def handle(self, message: Message) -> Message:
        await self.house.turn(message)
        self.house.handled.append(message)
        return message


class Hooked(Player):
    """A class actor with a task of its own."""

    async def started(self) -> None:
        await asyncio.sleep(0)


# Step by step


class GatedHouse(House):
    """A house whose actor finishes a message when it is told to, and how."""

    gate: asyncio.Future[bool]

    async def turn(self, message: Message) -> None:
        self.gate = asyncio.get_running_loop().create_future()
        if not await self.gate:
            raise Boom(message)


@dataclass(eq=False)
class Post:
    """What the model knows of one message on its way."""

    message: Message
    how: str
    expired: bool = False

    def __repr__(self) -> str:
        return f"{self.how} {self.message}"


class Model:
    """What the documentation says a mailbox does."""

    def __init__(self, kind: str, capacity: int, overflow: Overflow) -> None:
        self.kind = kind
        self.capacity = capacity
        self.overflow = overflow
        self.hand: Post | None = None
        self.queue: list[Post] = []
        self.line: list[Post] = []
        self.closed: str | None = None
        self.handled: list[Message] = []
        self.letters: list[tuple[Message, str]] = []
        self.results: dict[Message, str] = {}
        self.accepted: list[Message] = []

    def put(self, post: Post) -> None:
        full = len(self.queue) >= self.capacity
        if self.closed:
            self.accepted.append(post.message)
            self.settle(post, "sent")
            self.drop(post, self.closed)
        elif full and self.overflow is Overflow.BLOCK and post.how != "tell":
            self.line.append(post)
        elif full and self.overflow in (Overflow.BLOCK, Overflow.FAIL):
            self.results[post.message] = "full"
        elif full and self.overflow is Overflow.DROP_NEWEST:
            self.accepted.append(post.message)
            self.settle(post, "sent")
            self.drop(post, FULL)
        else:
            if full:
                self.drop(self.queue.pop(0), FULL)
            self.accept(post)

    def accept(self, post: Post) -> None:
        self.accepted.append(post.message)
        self.queue.append(post)
        self.settle(post, "sent")

    def settle(self, post: Post, result: str) -> None:
        """A sender knows all it will know when the message is in; an asker waits for more."""
        if post.how != "ask" or result != "sent":
            self.results.setdefault(post.message, result)

    def drop(self, post: Post, reason: str) -> None:
        self.letters.append((post.message, reason))
        self.settle(post, "full" if reason == FULL else reason if post.how == "ask" else "sent")

    def work(self) -> None:
        while self.hand is None and self.queue and not self.closed:
            post = self.queue.pop(0)
            self.admit()
            if post.expired:
                self.drop(post, GIVEN_UP)
            else:
                self.hand = post

    def admit(self) -> None:
        while self.line and len(self.queue) < self.capacity:
            self.accept(self.line.pop(0))

    def finish(self, well: bool) -> None:
        post, self.hand = self.hand, None
        assert post is not None
        if well:
            self.handled.append(post.message)
            self.settle(post, "answered" if post.how == "ask" else "sent")
        else:
            self.drop(post, "CRASHED")
        self.work()

    def expire(self, post: Post, result: str) -> None:
        """Its sender has left."""
        self.results.setdefault(post.message, result)
        post.expired = True
        if post in self.line:
            self.line.remove(post)
        elif post is self.hand and result == "canceled" and self.kind != "function":
            self.hand = None
            self.drop(post, CANCELED)
            self.work()

    def stop(self) -> None:
        if self.closed:
            return
        self.closed = "KILLED" if self.hand else "SHUTDOWN"
        left = [*([self.hand] if self.hand else []), *self.queue]
        for post in self.line:
            self.accepted.append(post.message)
            self.settle(post, "sent")
        left += self.line
        self.hand, self.queue, self.line = None, [], []
        for post in left:
            self.drop(post, self.closed)


class Box(RuleBasedStateMachine):
    """One mailbox, real and modelled, step by step."""

    @initialize(
        kind=st.sampled_from(["bare", "hooked", "function"]),
        capacity=st.sampled_from([1, 2, 3, 40]),
        overflow=st.sampled_from([Overflow.BLOCK, Overflow.BLOCK, *Overflow]),
        seed=st.integers(0, 1000),
    )
    def begin(self, kind: str, capacity: int, overflow: Overflow, seed: int) -> None:
        self.loop = VirtualLoop(seed)
        self.house = GatedHouse(kind, MailboxSpec(capacity=capacity, overflow=overflow))
        self.model = Model(kind, capacity, overflow)
        self.numbers = iter(range(1_000_000))
        self.leave = asyncio.Event()
        self.tree: Supervisor
        self.ref: Ref[Any]
        self.main = self.loop.create_task(self.play())
        self.senders: dict[Post, asyncio.Task[None]] = {}
        self.results: dict[Message, str] = {}
        self.check()

    async def play(self) -> None:
        async with supervise(self.house.spec, events=self.house.hear) as self.tree:
            self.ref = self.tree.ref("a")
            await self.leave.wait()

    @rule(hows=st.lists(st.sampled_from(["tell", "send", "ask", "ask with timeout"]), min_size=1, max_size=3))
    def write(self, hows: list[str]) -> None:
        for how in hows:
            post = Post(Message(next(self.numbers)), how.split()[0])
            patience = PATIENCE if "timeout" in how else None
            if how == "tell":
                self.run(self.deliver(post, None))
                self.model.put(post)
                self.model.work()
            else:
                self.senders[post] = self.loop.create_task(self.deliver(post, patience))
                self.run(asyncio.sleep(0.001))
                self.model.put(post)
                self.model.work()
        self.check()

    @rule(count=st.sampled_from([2, 3, 5, 20]))
    def tell_at_once(self, count: int) -> None:
        posts = [Post(Message(next(self.numbers)), "tell") for _ in range(count)]

        async def tell() -> None:
            for post in posts:
                await self.deliver(post, None)

        self.run(tell())
        for post in posts:
            self.model.put(post)
        self.model.work()
        self.check()

    @precondition(lambda self: self.model.hand)
    @rule(well=st.sampled_from([True, True, False]), count=st.sampled_from([1, 1, 2, 20]))
    def finish(self, well: bool, count: int) -> None:
        for _ in range(count):
            if self.model.hand:
                self.house.gate.set_result(well)
                self.run(asyncio.sleep(0.001))
                self.model.finish(well)
                self.check()

    @precondition(lambda self: any(not task.done() for task in self.senders.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [post for post, task in self.senders.items() if not task.done()]
        post = data.draw(st.sampled_from(waiting), "whom")
        self.senders[post].cancel()
        self.model.expire(post, "canceled")
        self.check()

    @precondition(lambda self: any(not task.done() for task in self.senders.values()))
    @rule()
    def wait(self) -> None:
        self.run(asyncio.sleep(PATIENCE + 1))
        late = [post for post in self.senders if self.results.get(post.message) == "too late"]
        for post in late:
            if not post.expired:
                assert self.model.results.get(post.message) is None
                self.model.expire(post, "too late")
        self.check()

    @rule()
    def stop_and_start(self) -> None:
        self.run(self.tree.stop_child("a"))
        self.model.stop()
        self.check()

    @precondition(lambda self: self.model.closed)
    @rule()
    def start(self) -> None:
        self.run(self.tree.start_child(self.house.child))
        self.model.closed = None
        self.check()

    async def deliver(self, post: Post, patience: float | None) -> None:
        message = post.message
        try:
            if post.how == "tell":
                self.ref.tell(message)
            elif post.how == "send":
                await self.ref.send(message)
            else:
                assert await self.ref.ask(message, timeout=patience) is message
                self.results[message] = "answered"
        except MailboxFull:
            self.results[message] = "full"
        except AskTimeout:
            self.results[message] = "too late"
        except ActorDied as died:
            self.results[message] = died.reason.exit.name
        except asyncio.CancelledError:
            self.results[message] = "canceled"
        self.results.setdefault(message, "sent")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def check(self) -> None:
        self.run(asyncio.sleep(0.001))
        model, house = self.model, self.house
        assert house.handled == model.handled
        assert house.letters == model.letters
        assert self.results == model.results
        statistics = self.ref.mailbox.statistics()
        assert (statistics.depth, statistics.senders) == (len(model.queue), len(model.line))
        assert statistics.dropped == len(house.letters)
        waiting = [post.message for post in [*model.queue, *filter(None, [model.hand])]]
        assert Counter(house.handled + [message for message, _ in house.letters] + waiting) == Counter(model.accepted)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.leave.set()
            self.run(asyncio.wait_for(self.main, 10))
            self.model.stop()
            self.check()
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            close(self.loop)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop, also after a failure."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_mailbox_does_step_by_step_what_its_policy_says() -> None:
    run_state_machine_as_test(Box, settings=settings(PROFILE, max_examples=100 * EXAMPLES, stateful_step_count=30))


async def test_a_question_whose_asker_left_is_a_dead_letter_when_its_function_actor_is_killed() -> None:
    house = GatedHouse("function", MailboxSpec())
    async with supervise(house.spec, events=house.hear) as tree:
        message = Message(0)
        with anyio.move_on_after(1):
            await tree.ref("a").ask(message)
        await tree.stop_child("a")
    assert house.letters == [(message, "KILLED")]


# All at once


@dataclass(frozen=True)
class Act:
    """One thing that a sender does: after a gap, and for how long at most."""

    how: str
    gap: float
    patience: float | None
    leaves_after: float | None
    crash: bool
    pause: float
    count: int


seconds = st.sampled_from([0.0, 0.0, 0.5, 1.0])
acts = st.builds(
    Act,
    how=st.sampled_from(["tell", "send", "ask"]),
    gap=seconds,
    patience=st.sampled_from([None, None, 0.5, 1.5]),
    leaves_after=st.sampled_from([None, None, None, 0.0, 0.5, 1.5]),
    crash=st.sampled_from([False, False, False, True]),
    pause=seconds,
    count=st.sampled_from([1, 1, 1, 20]),
)


@settings(PROFILE, max_examples=100 * EXAMPLES)
@given(
    kind=st.sampled_from(["bare", "hooked", "function"]),
    capacity=st.sampled_from([1, 2, 3, None]),
    overflow=st.sampled_from(Overflow),
    scripts=st.lists(st.lists(acts, min_size=1, max_size=8), min_size=1, max_size=4),
    stops=st.lists(seconds, max_size=2),
    seed=st.integers(0, 1000),
)
def test_in_a_storm_no_message_is_lost_or_doubled_or_overtaken_by_its_sender(
    kind: str,
    capacity: int | None,
    overflow: Overflow,
    scripts: list[list[Act]],
    stops: list[float],
    seed: int,
) -> None:
    house = House(kind, MailboxSpec(capacity=capacity, overflow=overflow))
    outcomes: dict[Message, str] = {}
    numbers = iter(range(1000))

    async def send(ref: Ref[Any], script: list[Act], sender: int) -> None:
        for act in (each for planned in script for each in [planned] * planned.count):
            await asyncio.sleep(act.gap if act.count == 1 else 0)
            message = Message(next(numbers), sender, act.crash, act.pause)
            outcomes[message] = "canceled"
            with anyio.CancelScope(
                deadline=anyio.current_time() + (9e9 if act.leaves_after is None else act.leaves_after)
            ):
                outcomes[message] = await deliver(ref, message, act)

    async def deliver(ref: Ref[Any], message: Message, act: Act) -> str:
        try:
            if act.how == "tell":
                ref.tell(message)
            elif act.how == "send":
                await ref.send(message)
            else:
                assert await ref.ask(message, timeout=act.patience) is message
                return "answered"
        except MailboxFull:
            return "full" if act.how != "ask" or overflow is Overflow.FAIL else "dropped"
        except AskTimeout:
            return "too late"
        except ActorDied:
            return "dropped"
        return "sent"

    async def stop_and_start(tree: Supervisor) -> None:
        for gap in stops:
            await asyncio.sleep(gap)
            await tree.stop_child("a")
            await tree.start_child(house.child)

    async def main() -> None:
        async with supervise(house.spec, events=house.hear) as tree:
            ref = tree.ref("a")
            async with asyncio.timeout(1000), anyio.create_task_group() as group:
                group.start_soon(stop_and_start, tree)
                for sender, script in enumerate(scripts):
                    group.start_soon(send, ref, script, sender)
            await asyncio.sleep(100)
            statistics = ref.mailbox.statistics()
            assert (statistics.depth, statistics.senders) == (0, 0), "nobody woke the actor"

    note(f"virtual loop of seed {seed}")
    with asyncio.Runner(loop_factory=partial(VirtualLoop, seed)) as runner:
        runner.run(main())

    letters = [message for message, _ in house.letters]
    times = Counter(house.handled) + Counter(letters)
    assert set(times.values()) <= {1}, "doubled"
    for message, outcome in outcomes.items():
        match outcome:
            case "answered":
                assert message in house.handled
            case "dropped":
                assert message in letters
            case "sent":
                assert times[message] == 1, "lost"
            case "full":
                assert times[message] == 0, "refused, and taken all the same"
    for sender in range(len(scripts)):
        mine = [message.number for message in house.handled if message.sender == sender]
        assert mine == sorted(mine)
