"""Random supervision trees against a small model of OTP (`supervision.py`), on a seeded virtual loop.

After every step the kernel must have told the same events in the same order, handled the same messages, restarted as
often, sent the same notices, and show the same tree. A failure prints its steps, the loop's seed among them, and the
`@reproduce_failure` line that runs it again. GREENROOM_EXAMPLES=20 makes twenty times as many.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from greenroom.actors import (
    Actor,
    ActorDied,
    AlreadyStarted,
    AutoShutdown,
    ChildExited,
    ChildRestarted,
    ChildSpec,
    ChildStarted,
    DeadLetter,
    Down,
    Escalated,
    ExitReason,
    KernelEvent,
    Mailbox,
    Ref,
    Request,
    Restart,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorFailed,
    SupervisorSpec,
    TreeNode,
    supervise,
)
from greenroom.runtime.testing.clock import VirtualLoop

from . import supervision
from .cast import Boom
from .supervision import CRASH, CRASHED, HOLD, LEAVE, PLAIN, Group, Message, Model, Part, Place

EXAMPLES = int(os.environ.get("GREENROOM_EXAMPLES", "1"))
PERIOD = 500.0


class Who(Request[Any]):
    """Ask which life it is in."""


WHO = Who()


class Theatre:
    """The real tree's actors, and what they and a listener saw."""

    def __init__(self) -> None:
        self.heard: list[supervision.Event] = []
        self.handled: dict[str, list[Message]] = {}
        self.lives: dict[str, int] = {}
        self.fails: dict[str, int] = {}
        self.downs: list[tuple[str, str]] = []
        self.gates: dict[Message, asyncio.Event] = {}

    def hear(self, event: KernelEvent) -> None:
        match event:
            case ChildStarted(path):
                self.heard.append(("+", path))
            case ChildRestarted(path, restarts):
                self.heard.append(("*", path, restarts))
            case ChildExited(path, reason):
                self.heard.append(("-", path, reason.exit.name))
            case Escalated(path):
                self.heard.append(("!", path))
            case DeadLetter(path, message, reason):
                self.heard.append(("x", path, message, reason.exit.name if isinstance(reason, ExitReason) else reason))

    def note(self, path: str, message: Message) -> None:
        self.handled.setdefault(path, []).append(message)

    async def hold(self, path: str, message: Message) -> None:
        await self.gates[message].wait()
        self.note(path, message)

    def spec(self, plan: Part | Group, above: str) -> ChildSpec[Any]:
        path = f"{above}/{plan.name}"
        options: dict[str, Any] = {"restart": plan.restart, "significant": plan.significant}
        if isinstance(plan, Group):
            return ChildSpec(name=plan.name, start=self.supervisor(plan, path), shutdown=None, **options)
        start = {"bare": self.actor(path, Player), "hooked": self.actor(path, Hooked), "function": self.function(path)}
        return ChildSpec(name=plan.name, start=start[plan.kind], shutdown=0 if plan.brutal else 0.01, **options)

    def supervisor(self, plan: Group, path: str) -> SupervisorSpec:
        return SupervisorSpec(
            name=plan.name,
            strategy=plan.strategy,
            intensity=plan.intensity,
            period=PERIOD,
            auto_shutdown=plan.auto,
            children=tuple(self.spec(part, path) for part in plan.parts),
        )

    def actor(self, path: str, kind: type[Player]) -> Any:
        return lambda: kind(self, path)

    def function(self, path: str) -> Any:
        async def play(mailbox: Mailbox[Any]) -> None:
            while True:
                message: Any = await mailbox.get()
                if message is WHO:
                    mailbox.reply(message, message)
                elif message.kind == CRASH:
                    raise Boom(message)
                elif message.kind == HOLD:
                    await self.hold(path, message)
                else:
                    self.note(path, message)
                    if message.kind == LEAVE:
                        return

        return play


class Player(Actor[Any]):
    """Does what it is told."""

    def __init__(self, theatre: Theatre, path: str) -> None:
        self.theatre = theatre
        self.path = path
        self.life = theatre.lives[path] = theatre.lives.get(path, 0) + 1

    def receive(self, message: Any) -> Any:
        if message is WHO:
            return self.life
        if message.kind == CRASH:
            raise Boom(message)
        if message.kind == HOLD:
            return self.theatre.hold(self.path, message)
        self.theatre.note(self.path, message)
        if message.kind == LEAVE:
            self.context.stop()
        return None


class Hooked(Player):
    """May fail to start."""

    async def started(self) -> None:
        await asyncio.sleep(0)
        if self.theatre.fails.get(self.path):
            self.theatre.fails[self.path] -= 1
            raise Boom("does not start")


class Watcher(Actor[Any]):
    """Monitors whom it is told to."""

    def __init__(self, theatre: Theatre) -> None:
        self.theatre = theatre

    def receive(self, message: Any) -> None:
        if isinstance(message, Down):
            self.theatre.downs.append((message.ref.path, message.reason.exit.name))
        else:
            self.context.monitor(message)


# Random plans

restarts = st.sampled_from(Restart)
intensities = st.sampled_from([0, 1, 3, 100, 100])


@st.composite
def parts(draw: st.DrawFn, name: str, auto: AutoShutdown) -> Part:
    restart = draw(restarts)
    significant = auto is not AutoShutdown.NEVER and restart is not Restart.PERMANENT and not draw(st.booleans())
    kind = draw(st.sampled_from(["bare", "hooked", "function"]))
    return Part(name, restart, kind, draw(st.booleans()), significant)


@st.composite
def groups(draw: st.DrawFn, name: str, depth: int, above: AutoShutdown = AutoShutdown.NEVER) -> Group:
    auto = draw(st.sampled_from(AutoShutdown))
    members: list[Part | Group] = []
    for number in range(draw(st.integers(0 if depth else 1, 3))):
        if depth and draw(st.booleans()):
            members.append(draw(groups(f"{name}{number}", depth - 1, auto)))
        else:
            members.append(draw(parts(f"{name.lower()}{number}", auto)))
    restart = draw(restarts)
    significant = above is not AutoShutdown.NEVER and restart is not Restart.PERMANENT and draw(st.booleans())
    strategy = draw(st.sampled_from(Strategy))
    return Group(name, restart, strategy, draw(intensities), auto, tuple(members), significant)


class Tree(RuleBasedStateMachine):
    """One tree, real and modelled, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = iter(range(1_000_000))

    @initialize(plan=groups("R", 2), seed=st.integers(0, 1000))
    def begin(self, plan: Group, seed: int) -> None:
        self.loop = VirtualLoop(seed)
        self.theatre = Theatre()
        self.history: list[supervision.Event] = []
        self.refs: dict[Place, Ref[Any]] = {}
        self.root: Supervisor
        self.failure: BaseException | None = None
        self.leave = asyncio.Event()
        self.main = self.loop.create_task(self.play(self.theatre.supervisor(plan, plan.name)))
        self.model = Model(plan)
        self.step()

    async def play(self, spec: SupervisorSpec) -> None:
        watch = SupervisorSpec(name="watch", children=(ChildSpec(name="w", start=lambda: Watcher(self.theatre)),))
        async with supervise(watch) as box:
            self.watcher = box.ref("w")
            try:
                async with supervise(spec, events=self.theatre.hear) as self.root:
                    await self.leave.wait()
            except SupervisorFailed as failure:
                self.failure = failure

    def running(self) -> bool:
        return not self.model.root.ended

    def quiet(self) -> bool:
        return not any(place.hand for place in self.model.places)

    def number(self) -> int:
        return next(self.numbers)

    # Steps

    @precondition(running)
    @rule(
        data=st.data(),
        before=st.integers(0, 2),
        action=st.sampled_from([None, CRASH, CRASH, LEAVE, LEAVE, HOLD]),
        after=st.integers(0, 2),
    )
    def talk(self, data: st.DataObject, before: int, action: str | None, after: int) -> None:
        place = self.pick(data, list(self.refs))
        if place is None:
            return
        armed = any(self.model.fails.values())
        if place.hand is not None and action in (CRASH, LEAVE):
            action = HOLD
        if armed:
            action, after = (None if action == HOLD else action), 0
        kinds = [PLAIN] * before + ([action] if action else []) + [PLAIN] * after
        messages = [Message(kind, self.number()) for kind in kinds]
        self.theatre.gates.update({message: asyncio.Event() for message in messages})
        ref = self.refs[place]
        self.step(*(lambda message=message: ref.tell(message) for message in messages))
        # all are in the mailbox before the first one is handled, and what happens to one decides on the next
        for message in messages:
            self.model.tell(place, message) if place.closed is not None else place.queue.append(message)
        self.model.work(place)
        self.check()

    @precondition(lambda self: self.running() and not self.quiet())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        place = self.pick(data, [place for place in self.model.places if place.hand])
        assert place is not None
        assert place.hand is not None
        self.step(self.theatre.gates[place.hand].set)
        self.model.release(place)
        self.check()

    @precondition(running)
    @rule(data=st.data(), crash=st.booleans())
    def ask(self, data: st.DataObject, crash: bool) -> None:
        place = self.pick(data, [place for place in self.refs if not place.hand])
        if place is None:
            return
        message = Message(CRASH if crash else PLAIN, self.number())
        part = place.plan
        assert isinstance(part, Part)
        expected = place.closed or (CRASHED if crash else "answered")

        async def ask() -> str:
            try:
                await self.refs[place].ask(
                    message, timeout=1 if part.kind == "function" and expected == "answered" else 9
                )
            except ActorDied as died:
                return died.reason.exit.name
            except TimeoutError:
                assert part.kind == "function", "a function need not answer"
            return "answered"

        assert self.run(ask()) == expected
        self.model.tell(place, message)
        self.step()

    @precondition(running)
    @rule(data=st.data(), again=st.booleans())
    def start_child(self, data: st.DataObject, again: bool) -> None:
        sup = data.draw(st.sampled_from(list(self.model.supervisors())), "supervisor")
        taken = [place for place in sup.children.values() if isinstance(place.plan, Part)]
        name = data.draw(st.sampled_from(taken), "child").plan.name if again and taken else f"d{self.number()}"
        plan = data.draw(parts(name, sup.plan.auto), "plan")

        async def start() -> str:
            try:
                await self.real(sup.path).start_child(self.theatre.spec(plan, sup.path))
            except AlreadyStarted:
                return "taken"
            except StartFailed:
                return "failed"
            return "started"

        result = self.run(start())
        assert result == self.model.start_child(sup, plan)
        self.step()

    @precondition(running)
    @rule(data=st.data())
    def stop_child(self, data: st.DataObject) -> None:
        places = [place for sup in self.model.supervisors() for place in sup.children.values()]
        place = self.pick(data, places)
        if place is not None:
            self.run(self.real(place.above.path).stop_child(place.plan.name))
            self.model.stop_child(place)
            self.step()

    @precondition(running)
    @rule(data=st.data())
    def monitor(self, data: st.DataObject) -> None:
        place = self.pick(data, list(self.refs))
        if place is not None:
            self.step(lambda: self.watcher.tell(self.refs[place]))
            self.model.watch(place)
            self.check()

    @precondition(lambda self: self.running() and self.quiet())
    @rule(data=st.data(), times=st.integers(1, 3))
    def fail_to_start(self, data: st.DataObject, times: int) -> None:
        place = self.pick(data, list(self.model.actors()))
        if place is not None:
            self.model.fails[place.path] = self.theatre.fails[place.path] = times

    @precondition(running)
    @rule()
    def let_the_period_pass(self) -> None:
        self.run(asyncio.sleep(2 * PERIOD))
        self.model.forget_restarts()

    # What has to hold

    def pick(self, data: st.DataObject, places: list[Place]) -> Place | None:
        return data.draw(st.sampled_from(places), "place") if places else None

    def real(self, path: str) -> Supervisor:
        sup = self.root
        for name in path.split("/")[1:]:
            sup = sup.supervisor(name)
        return sup

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def step(self, *calls: Any) -> None:
        """Do it, let everything happen that follows; without calls, compare."""

        async def act() -> None:
            for call in calls:
                call()
            await asyncio.sleep(0.5)

        self.run(act())
        if not calls:
            self.check()

    def check(self) -> None:
        expected, self.model.events = self.model.events, []
        heard, self.theatre.heard = self.theatre.heard, []
        self.history += heard
        assert heard == expected
        assert self.theatre.handled == self.model.handled
        assert self.theatre.downs == self.model.downs
        if not self.model.root.ended:
            assert shape(self.root.tree()) == expected_shape(self.model.root)
            for place in self.model.actors():
                self.refs[place] = self.real(place.above.path).ref(place.plan.name)
        for place, ref in self.refs.items():
            assert ref.alive == (place.closed is None), place.path
        self.run(self.call_all())

    async def call_all(self) -> None:
        """Whoever should live and is not busy answers, in the life that it should be in; the dead say of what."""
        for place, ref in self.refs.items():
            if place.closed is not None:
                assert (await ref.ended()).exit.name == place.closed
        for place in self.model.actors():
            part = place.plan
            assert isinstance(part, Part)
            if place.up and place.hand is None:
                life = await self.refs[place].ask(WHO, timeout=1)
                assert life == (WHO if part.kind == "function" else self.model.lives[place.path])

    @precondition(lambda self: not self.running())
    @rule(plan=groups("R", 2), seed=st.integers(0, 1000))
    def begin_again(self, plan: Group, seed: int) -> None:
        self.end()
        self.begin(plan, seed)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.end()

    def end(self) -> None:
        try:
            over = self.model.root.ended
            gave_up = ("!", self.model.root.path) in self.history
            self.leave.set()
            self.run(asyncio.wait_for(self.main, 100))
            assert (self.failure is not None) is gave_up
            if not over:
                self.model.stop_all(self.model.root)
            self.check()
            assert asyncio.all_tasks(self.loop) == set()
            begun = Counter(event[1] for event in self.history if event[0] in "+*")
            ended = Counter(event[1] for event in self.history if event[0] == "-")
            assert not begun - ended, "outlived the tree"
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(0))
            self.loop.close()


def shape(node: TreeNode) -> Any:
    name = node.path.rsplit("/", 1)[-1]
    return name, node.state, node.restarts if "/" in node.path else 0, tuple(shape(child) for child in node.children)


def expected_shape(sup: supervision.Supervisor) -> Any:
    children = []
    for place in sup.children.values():
        if place.inner is not None:
            name, _, _, below = expected_shape(place.inner)
        else:
            name, below = place.plan.name, ()
        below = below if place.up else ()
        children.append((name, "running" if place.up else "stopped", place.restarts, below))
    return sup.plan.name, "running", 0, tuple(children)


def test_a_random_tree_does_what_otp_says() -> None:
    run_state_machine_as_test(
        Tree,
        settings=settings(
            max_examples=150 * EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
