"""Questions that are handled in the turn of their asker: when that may be, and that only the loop can tell."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorDied,
    AskCircle,
    AskTimeout,
    ChildSpec,
    DeadLetter,
    Down,
    Exit,
    Exited,
    InHand,
    KernelEvent,
    Mailbox,
    MailboxSpec,
    Ref,
    Restart,
    Supervisor,
    SupervisorSpec,
    supervise,
)
from greenroom.actors.inline import LIMIT
from greenroom.runtime.testing.clock import VirtualLoop

from .cast import Boom, Echo, Get, Stage, settle


@pytest.fixture
def stage() -> Stage:
    return Stage()


def root(**starts: Any) -> SupervisorSpec:
    children = tuple(
        start if isinstance(start, ChildSpec) else ChildSpec(name=name, start=start) for name, start in starts.items()
    )
    return SupervisorSpec(name="root", intensity=1000, children=children)


async def turns_of(work: Coroutine[Any, Any, Any]) -> int:
    """How often the loop turns while something is done."""
    loop = asyncio.get_running_loop()
    turns = 0
    over = False

    def turn() -> None:
        nonlocal turns
        if not over:
            turns += 1
            loop.call_soon(turn)

    loop.call_soon(turn)
    await work
    over = True
    return turns


# When


@pytest.fixture
def inline(way: str) -> bool:
    return way == "inline"


async def test_a_sleeping_actor_with_a_plain_handler_answers_in_the_turn_of_its_asker(inline: bool) -> None:
    async with supervise(root(a=Echo)) as tree:
        await asyncio.sleep(0)
        assert await turns_of(tree.ref("a").ask("hello")) == (0 if inline else 2)
        assert tree.ref("a").mailbox.statistics().handled == 1


async def test_by_the_queue_go_all_questions_if_the_tree_says_so() -> None:
    async with supervise(root(a=Echo), inline=0) as tree:
        await asyncio.sleep(0)
        assert await turns_of(tree.ref("a").ask("hello")) > 0


class Async(Actor[Any]):
    async def receive(self, message: Any) -> Any:
        return message(self) if callable(message) else message


class Hooked(Echo):
    async def started(self) -> None:
        pass


async def function(mailbox: Mailbox[Any]) -> None:
    while True:
        message = await mailbox.get()
        mailbox.reply(message, message(None) if callable(message) else message)


@pytest.mark.parametrize("start", [Async, Hooked, function])
async def test_an_actor_that_needs_a_task_answers_by_the_queue(start: Any) -> None:
    async with supervise(root(a=start)) as tree:
        await settle()
        assert await turns_of(tree.ref("a").ask("hello")) > 0


async def test_a_question_is_not_answered_ahead_of_what_was_told_before() -> None:
    async with supervise(root(a=Echo, b=Echo)) as tree:
        a, b = tree.ref("a"), tree.ref("b")
        order: list[str] = []
        a.tell(lambda actor: order.append("told a"))
        await b.ask(lambda actor: order.append("asked b"))
        b.tell(lambda actor: order.append("told b"))
        await b.ask(lambda actor: order.append("asked b"))
        assert order == ["told a", "asked b", "told b", "asked b"]


@pytest.mark.parametrize("other", [Echo, Hooked, Async, function])
async def test_no_other_actor_that_was_woken_is_overtaken_by_a_question_or_its_answer(other: Any) -> None:
    order: list[str] = []

    class Teller(Actor[str]):
        def receive(self, message: str) -> None:
            order.append(message)
            if message == "tell":
                tree.ref("b").tell(Note(order, "told by handler"))

    async with supervise(root(a=Teller, b=other)) as tree:
        await settle()
        for _ in range(3):
            tree.ref("b").tell(Note(order, "told"))
            await tree.ref("a").ask("asked")
            assert order == ["told", "asked"]
            await tree.ref("a").ask("tell")
            order.append("answered")
            assert order == ["told", "asked", "tell", "told by handler", "answered"]
            order.clear()
            await settle()


class Note:
    """A message that writes down when it is handled."""

    def __init__(self, order: list[str], text: str) -> None:
        self.order = order
        self.text = text

    def __call__(self, actor: object) -> None:
        self.order.append(self.text)


# Fairness


async def test_whoever_only_asks_lets_the_loop_turn() -> None:
    async with supervise(root(a=Echo)) as tree:
        asked = 0
        seen: list[int] = []

        async def ask() -> None:
            nonlocal asked
            while len(seen) < 50:
                await tree.ref("a").ask("again")
                asked += 1

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            for _ in range(50):
                await asyncio.sleep(0)
                seen.append(asked)
        assert max(after - before for before, after in pairwise(seen)) <= LIMIT + 1


def test_slow_handlers_end_the_turn_by_the_clock() -> None:
    class SkewedLoop(asyncio.SelectorEventLoop):
        skew = 0.0

        def time(self) -> float:
            return super().time() + self.skew

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkewedLoop)

        def work(actor: Echo) -> None:
            loop.skew += 0.001
            done.append(0)

        done: list[int] = []
        async with supervise(root(a=Echo)) as tree, anyio.create_task_group() as group:

            async def ask() -> None:
                for _ in range(100):
                    await tree.ref("a").ask(work)

            group.start_soon(ask)
            while len(done) < 100:
                before = len(done)
                await asyncio.sleep(0)
                assert len(done) - before <= 4

    with asyncio.Runner(loop_factory=SkewedLoop) as runner:
        runner.run(main())


async def test_askers_of_one_actor_take_turns() -> None:
    async with supervise(root(a=Echo)) as tree:
        counts = dict.fromkeys("xyz", 0)

        async def ask(name: str) -> None:
            while sum(counts.values()) < 1000:
                await tree.ref("a").ask(name)
                counts[name] += 1

        async with anyio.create_task_group() as group:
            for name in counts:
                group.start_soon(ask, name)
        assert max(counts.values()) - min(counts.values()) <= LIMIT + 1


# Cancellation


async def test_an_asker_that_is_canceled_already_is_not_heard(stage: Stage) -> None:
    async def by_its_scope(ref: Ref[Any]) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.ask("scope")

    async def by_asyncio(ref: Ref[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ref.ask("task")

    async with supervise(root(a=Echo), events=stage.hear) as tree:
        await by_its_scope(tree.ref("a"))
        task = asyncio.get_running_loop().create_task(by_asyncio(tree.ref("a")))
        await asyncio.wait([task])
        assert task.cancelled()
        assert await tree.ref("a").ask(Get()) == 0
        assert stage.letters == ["scope", "task"]


async def test_cleaning_up_after_a_cancellation_may_ask() -> None:
    async with supervise(root(a=Echo)) as tree:
        answers: list[Any] = []

        async def work() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                with anyio.CancelScope(shield=True):
                    answers.append(await tree.ref("a").ask("clean up"))

        with anyio.move_on_after(1):
            await work()
        assert answers == ["clean up"]


# What is not a plain answer


async def test_a_crash_is_the_same_crash(stage: Stage) -> None:
    async with supervise(root(a=Echo), events=stage.hear) as tree:
        for number in range(3):
            boom = Boom(number)
            with pytest.raises(ActorDied) as died:
                await tree.ref("a").ask(boom)
            assert died.value.reason.error is boom
            assert await tree.ref("a").ask("again") == "again"
        assert stage.exits == [("root/a", "CRASHED")] * 3
        assert stage.restarts == ["root/a"] * 3
        assert [str(letter) for letter in stage.letters] == ["0", "1", "2"]
        assert tree.ref("a").mailbox.statistics().handled == 3


async def test_what_crashed_inline_is_tried_again_if_its_mailbox_says_so(stage: Stage) -> None:
    tries: list[str] = []

    class Fragile(Actor[str]):
        mailbox = MailboxSpec(in_hand=InHand.RETRY)

        def receive(self, message: str) -> str:
            tries.append(message)
            if message == "poison" or len(tries) == 1:
                raise Boom(message)
            return message

    async with supervise(root(a=Fragile), events=stage.hear) as tree:
        assert await tree.ref("a").ask("unlucky") == "unlucky"
        with pytest.raises(ActorDied):
            await tree.ref("a").ask("poison")
    assert tries == ["unlucky", "unlucky", "poison", "poison"]
    assert stage.letters == ["poison"]


async def test_a_stray_cancellation_is_a_crash(stage: Stage) -> None:
    def receive(actor: Echo) -> None:
        raise asyncio.CancelledError

    async with supervise(root(a=Echo), events=stage.hear) as tree:
        with pytest.raises(ActorDied, match="StrayCancellation"):
            await tree.ref("a").ask(receive)


async def test_an_awaitable_is_awaited_by_a_host() -> None:
    async def later(actor: Echo) -> str:
        assert asyncio.current_task() is not asker
        await asyncio.sleep(1)
        return "later"

    asker = asyncio.current_task()
    async with supervise(root(a=Echo)) as tree:
        asyncio.get_running_loop().call_later(0.5, tree.ref("a").tell, "meanwhile")
        assert await tree.ref("a").ask(later) == "later"
        assert await tree.ref("a").ask(later, timeout=2) == "later"
        with pytest.raises(AskTimeout):
            await tree.ref("a").ask(later, timeout=0.5)
        assert await tree.ref("a").ask(Get()) == 4


async def test_who_stops_itself_has_ended_when_its_asker_goes_on() -> None:
    class Last(Actor[str]):
        def receive(self, message: str) -> str:
            self.context.stop()
            return message

    child = ChildSpec(name="a", start=Last, restart=Restart.TEMPORARY)
    async with supervise(root(a=child)) as tree:
        ref = tree.ref("a")
        assert await ref.ask("the last") == "the last"
        assert not ref.alive


async def test_what_an_actor_tells_itself_is_handled_before_its_asker_goes_on() -> None:
    def remember(actor: Echo) -> None:
        actor.context.ref.tell("one")
        actor.context.ref.tell("two")

    async with supervise(root(a=Echo)) as tree:
        ref = tree.ref("a")
        await ref.ask(remember)
        assert ref.mailbox.statistics().handled == 3


async def test_a_context_variable_that_is_set_inline_stays_with_its_actor() -> None:
    colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")

    async def later(actor: Echo) -> str:
        await asyncio.sleep(0)
        return colour.get()

    def paint(actor: Echo, name: str, outcome: Any = None) -> Any:
        colour.set(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome(actor) if outcome else colour.get()

    async with supervise(root(a=Echo, b=Echo, c=Echo)) as tree:
        a, b, c = (tree.ref(name) for name in "abc")
        assert await a.ask(lambda actor: colour.get()) == "none"
        assert await a.ask(partial(paint, name="red")) == "red"
        assert await b.ask(partial(paint, name="blue", outcome=later)) == "blue"
        with pytest.raises(ActorDied):
            await c.ask(partial(paint, name="green", outcome=Boom()))
        assert [await ref.ask(lambda actor: colour.get()) for ref in (a, b, c)] == ["red", "blue", "none"]
        assert [await ref.ask(later) for ref in (a, b, c)] == ["red", "blue", "none"]
        assert colour.get() == "none"


async def test_a_circle_over_an_actor_that_began_inline_is_seen() -> None:
    class First(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            return await tree.ref("b").ask(ask_back)

    async def ask_back(actor: Echo) -> Any:
        try:
            return await tree.ref("a").ask("back")
        except AskCircle as circle:
            return circle.paths

    async with supervise(root(a=First, b=Echo)) as tree:
        assert await tree.ref("a").ask("begin") == ("root/b", "root/a", "root/b")


async def test_a_question_that_a_plain_handler_drives_by_hand_is_no_nesting() -> None:
    def by_hand(actor: Echo) -> str:
        coroutine = tree.ref("b").ask("hello")
        try:
            coroutine.send(None)
        except StopIteration as answer:  # answered at once
            return str(answer.value)
        coroutine.close()
        return "it waits"

    async with supervise(root(a=Echo, b=Echo)) as tree:
        assert await tree.ref("a").ask(by_hand) == "it waits"


# Between the beginning inline and the end on a host


@pytest.fixture
def began() -> list[str]:
    return []


async def interrupted(tree: Supervisor, began: list[str], interrupt: Callable[[asyncio.Task[Any]], object]) -> Any:
    """Ask an actor that is to wait for long, do something while the question is between asker and host."""

    async def wait() -> None:
        began.append("began")
        try:
            await asyncio.sleep(100)
        finally:
            began.append("ended")

    task = asyncio.get_running_loop().create_task(tree.ref("a").ask(lambda actor: wait()))
    await asyncio.sleep(0)
    assert began == []
    done = interrupt(task)
    if isinstance(done, Coroutine):
        await done
    await asyncio.wait([task])
    return "canceled" if task.cancelled() else task.exception()


@pytest.mark.parametrize("soon", [True, False])
async def test_an_asker_that_is_canceled_meanwhile_cancels_the_handling(
    stage: Stage, began: list[str], inline: bool, soon: bool
) -> None:
    class Waiter(Actor[Any]):
        async def receive(self, message: Any) -> Any:
            await asyncio.sleep(1)

    async with supervise(root(a=Echo, b=Waiter), events=stage.hear) as tree:
        await settle()
        if not soon:  # the host that serves the line waits with b, and the loop has to turn before another one does
            tree.ref("b").tell("wait")
        assert await interrupted(tree, began, lambda task: task.cancel()) == "canceled"
        assert await tree.ref("a").ask(Get()) == (1 if inline else 0)
        assert began == (["began", "ended"] if inline else [])
        assert len(stage.letters) == 1
        assert asyncio.get_running_loop().time() < 100


async def test_who_is_killed_meanwhile_ends_at_once(stage: Stage, began: list[str]) -> None:
    async with supervise(root(a=ChildSpec(name="a", start=Echo, shutdown=0)), events=stage.hear) as tree:
        died = await interrupted(tree, began, lambda task: tree.stop_child("a"))
        assert isinstance(died, ActorDied)
        assert died.reason.exit is Exit.KILLED
        assert began == []
        assert stage.exits == [("root/a", "KILLED")]
        assert len(stage.letters) == 1


async def test_a_future_that_an_actor_answers_with_is_canceled_with_it(inline: bool) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with supervise(root(a=ChildSpec(name="a", start=Echo, shutdown=0))) as tree:
        task = asyncio.get_running_loop().create_task(tree.ref("a").ask(lambda actor: future))
        await asyncio.sleep(0)
        await tree.stop_child("a")
        await asyncio.wait([task])
        assert isinstance(task.exception(), ActorDied)
        assert future.cancelled() == inline


async def test_who_is_stopped_meanwhile_ends_after_it(stage: Stage, began: list[str], inline: bool) -> None:
    async with supervise(root(a=ChildSpec(name="a", start=Echo, shutdown=None)), events=stage.hear) as tree:
        died = await interrupted(tree, began, lambda task: tree.stop_child("a"))
        assert (died is None) == inline
        assert began == (["began", "ended"] if inline else [])
        assert stage.exits == [("root/a", "SHUTDOWN")]


async def test_a_link_that_breaks_meanwhile_interrupts_the_handling(
    stage: Stage, began: list[str], inline: bool
) -> None:
    async with supervise(root(b=ChildSpec(name="b", start=Echo, shutdown=0), a=Echo), events=stage.hear) as tree:
        await tree.ref("a").ask(lambda actor: actor.context.link(tree.ref("b")))
        died = await interrupted(tree, began, lambda task: tree.stop_child("b"))
        if inline:  # by the queue the message was not in hand yet: the next life handles it
            assert isinstance(died, ActorDied)
            assert "root/b" in str(died)
            assert began == ["began", "ended"]
            assert asyncio.get_running_loop().time() < 100
        assert stage.exits[:2] == [("root/b", "KILLED"), ("root/a", "CRASHED")]


async def test_an_actor_that_kills_itself_has_answered(stage: Stage) -> None:
    def kill(actor: Echo, outcome: Any) -> Any:
        tree.kill()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    for outcome in ("answer", Boom()):
        async with supervise(root(a=Echo), events=stage.hear) as tree:
            try:
                assert await tree.ref("a").ask(partial(kill, outcome=outcome)) == "answer"
            except ActorDied:
                assert outcome != "answer"
    assert stage.exits[0][0] == "root/a"


# Both ways are one


class Guest(Actor[Any]):
    """Does what the message says, and writes it down."""

    def __init__(self, party: Party) -> None:
        self.party = party

    def receive(self, message: Any) -> Any:
        party, name = self.party, self.context.path
        party.handled.append((name, repr(message), colour_of_the_day.get()))
        match message:
            case Down() | Exited():
                return None
            case ("raise", _):
                raise Boom(name)
            case ("stash", _):
                if sum(entry[0] == name for entry in party.handled) % 2:
                    self.context.stash()
            case ("unstash", _):
                self.context.unstash()
            case ("stop", _):
                self.context.stop()
            case ("paint", number):
                colour_of_the_day.set(str(number))
            case ("tell self", number):
                self.context.ref.tell(("plain", number))
            case ("tell", number):
                party.ref(number).tell(("plain", number))
            case ("link", number):
                self.context.link(party.ref(number))
            case ("monitor", number):
                self.context.monitor(party.ref(number))
            case ("trap", number):
                self.context.trap_exits(bool(number))
            case ("await", number):
                return self.wait(number)
        return message

    async def wait(self, number: int) -> Any:
        await asyncio.sleep(number)
        return number


colour_of_the_day: contextvars.ContextVar[str] = contextvars.ContextVar("colour_of_the_day", default="none")
WHAT = "plain", "raise", "stash", "unstash", "stop", "paint", "tell self", "tell", "link", "monitor", "trap", "await"


class Party:
    """One tree of guests, and what is to be compared."""

    def __init__(self, inline: int) -> None:
        self.inline = inline
        self.handled: list[tuple[str, str, str]] = []
        self.outcomes: list[str] = []
        self.events: list[str] = []
        self.tree: Supervisor

    def of_each(self) -> tuple[list[Any], list[str]]:
        """Order within each actor, whatever the order among them."""
        return sorted(self.handled, key=lambda entry: entry[0]), sorted(self.events, key=lambda event: event.split()[0])

    def ref(self, number: int) -> Ref[Any]:
        return self.tree.ref(f"g{number % 3}")

    def hear(self, event: KernelEvent) -> None:
        self.events.append(
            f"{event.path} {event.message!r} {event.reason}"
            if isinstance(event, DeadLetter)
            else f"{event.path} {event!r}"
        )

    async def go(self, script: list[tuple[str, int, tuple[str, int]]], in_hand: InHand) -> None:
        mailbox = MailboxSpec(capacity=None if awaits(script) else 2, in_hand=in_hand)
        children = tuple(
            ChildSpec(name=f"g{number}", start=partial(Guest, self), mailbox=mailbox, restart=restart)
            for number, restart in enumerate((Restart.PERMANENT, Restart.TRANSIENT, Restart.PERMANENT))
        )
        spec = SupervisorSpec(name="root", intensity=1000, children=children)
        async with supervise(spec, events=self.hear, inline=self.inline) as self.tree:
            for how, to, message in script:
                self.outcomes.append(await self.play(how, to, message))
            await asyncio.sleep(1000)
            self.outcomes += [repr(self.ref(number).mailbox.statistics()) for number in range(3)]
            self.outcomes.append(repr(self.tree.tree()))

    async def play(self, how: str, to: int, message: tuple[str, int]) -> str:
        ref = self.ref(to)
        try:
            match how:
                case "tell":
                    ref.tell(message)
                case "send":
                    await ref.send(message)
                case "ask":
                    return repr(await ref.ask(message, timeout=10))
                case "ask briefly":
                    return repr(await ref.ask(message, timeout=0.5))
                case "leave":
                    with anyio.move_on_after(0.5):
                        return repr(await ref.ask(message))
                case "wait":
                    await asyncio.sleep(to)
        except Exception as error:
            return repr(error)
        return how


EXAMPLES = int(os.environ.get("GREENROOM_EXAMPLES", "1"))


def awaits(script: list[tuple[str, int, tuple[str, int]]]) -> bool:
    """Whether handlers await: when they go on, and what is full until then, the loop decides by its turns."""
    return any(what == "await" for _, _, (what, _) in script)


INTERRUPTED = (("leave", 0, ("await", 1)),)
"""An actor whose asker has just left it: it goes on before any question that comes then."""

PLAIN = ("plain", 0)
YIELDING = (
    ("ask", 1, PLAIN),
    ("tell", 1, PLAIN),
    ("tell", 1, ("paint", 0)),
    ("send", 1, PLAIN),
    ("tell", 1, ("stash", 0)),
    ("tell", 1, PLAIN),
    ("send", 1, PLAIN),
    ("ask", 0, PLAIN),
)
"""An actor lets the loop turn and has more to do: a question to another one does not come between."""

HOW = "tell", "send", "ask", "ask", "ask", "ask briefly", "leave", "wait"
steps = st.tuples(st.sampled_from(HOW), st.integers(0, 2), st.tuples(st.sampled_from(WHAT), st.integers(0, 2)))


@settings(
    deadline=None,
    max_examples=100 * EXAMPLES,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(script=[*INTERRUPTED, ("tell", 0, ("plain", 0)), ("ask", 1, ("stash", 0))], in_hand=InHand.DROP, limit=1)
@example(script=[*INTERRUPTED, ("tell", 0, ("tell", 1)), ("ask", 1, ("tell self", 0))], in_hand=InHand.DROP, limit=1)
@example(script=[*INTERRUPTED, ("tell", 0, ("raise", 0)), ("ask", 1, ("link", 0))], in_hand=InHand.DROP, limit=1)
@example(script=[*YIELDING], in_hand=InHand.DROP, limit=1)
@given(script=st.lists(steps, max_size=25), in_hand=st.sampled_from(InHand), limit=st.sampled_from([1, 2, 3, LIMIT]))
def test_both_ways_handle_the_same_in_the_same_order_with_the_same_ends(
    script: list[tuple[str, int, tuple[str, int]]], in_hand: InHand, limit: int
) -> None:
    parties = [Party(0), Party(limit)]
    for party in parties:
        with asyncio.Runner(loop_factory=partial(VirtualLoop, 0)) as runner:
            runner.run(party.go(script, in_hand))
    queued, inline = parties
    assert inline.of_each() == queued.of_each()
    assert inline.outcomes == queued.outcomes
    if not awaits(script):
        assert inline.handled == queued.handled
        assert inline.events == queued.events
