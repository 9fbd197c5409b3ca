"""The components of a worker: per component a pool of actors that perform its calls.

Why: a call is a message, so a component is what every actor is: it has a place in the tree that shows and counts it, a
mailbox, and a supervisor that owns its crashes. A function's performers are interchangeable; each of a class's holds an
instance, opened when the actor starts and closed when it stops. An exception is a call's answer and the actor lives on.
A `Crash` (or any other end of the actor) belongs to the supervisor: it starts a new life, which opens a new instance,
and gives up by intensity; the call in hand fails, and its step's policy decides.

Laws kept here: 7 (actors belong to the pool's supervisor; who is canceled waits until its call has ended), 11 (a pool
has a bound; callers wait in order).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import Any, Protocol, TypeAlias

import anyio
from aiolimiter import AsyncLimiter
from structlog.contextvars import bind_contextvars

from ..actors import (
    Actor,
    ActorDied,
    ChildSpec,
    ExitReason,
    Ref,
    Request,
    Restart,
    StrayCancellation,
    Supervisor,
    SupervisorSpec,
    UnknownChild,
)
from .definitions import Component, Definition
from .errors import Crash, GreenroomError, StepTimedOut
from .records import LLMCall

MOST_PERFORMERS = 1000
"""Calls at once of a component that sets no `concurrency`."""


class Performing(Protocol):
    """The attempt that a call belongs to."""

    actor: str
    name: str
    step: str
    parent: Any

    def observe(self, call: LLMCall) -> None:
        """Record an LLM call made in this attempt."""
        ...


Setting: TypeAlias = tuple[ContextVar[Any], Any]
"""A context variable, and its value inside an attempt."""


class Inside:
    """Sets the context that code inside an attempt runs in, for the length of a block."""

    __slots__ = ("_settings", "_tokens")

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = settings
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        """Set it."""
        self._tokens = [variable.set(value) for variable, value in self._settings]

    def __exit__(self, *error: object) -> None:
        """Take it back."""
        for token in self._tokens:
            token.var.reset(token)


async def in_time(name: str, call: Callable[..., Any], arguments: dict[str, Any], timeout_s: float) -> Any:
    """Make a call that may take so long.

    Raises:
        StepTimedOut: it took longer.
    """
    try:
        async with asyncio.timeout(timeout_s) as timer:
            return await call(**arguments)
    except TimeoutError:
        if not timer.expired():
            raise
        late = f"an attempt of {name} took longer than {timeout_s:g} s"
        raise StepTimedOut(f"{late}: raise its timeout") from None


class Invocation(Request["Answer"]):
    """Perform one call."""

    __slots__ = ("arguments", "attempt", "inside")

    def __init__(self, arguments: dict[str, Any], attempt: Performing, inside: Inside) -> None:
        self.arguments = arguments
        self.attempt = attempt
        self.inside = inside


class Answer:
    """What a call came to: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


class Performer(Actor["Invocation | None"]):
    """Performs calls of one component, one at a time; `None` is for whoever waits until it has nothing in hand."""

    forgets = True  # calls of different runs have nothing to do with each other

    def __init__(self, target: Definition[Any, Any]) -> None:
        self._name = target.name
        self._timeout_s = target.policies.timeout.attempt_s
        self._perform: Callable[..., Any] = target.fn

    async def receive(self, message: Invocation | None) -> Answer | None:
        """Perform a call; its exception is its answer."""
        if message is None:
            return None
        attempt = message.attempt
        attempt.actor = self.context.path
        with message.inside:
            try:
                if self._timeout_s is None:
                    return Answer(await self._perform(**message.arguments))
                return Answer(await in_time(self._name, self._perform, message.arguments, self._timeout_s))
            except Crash:
                raise
            except Exception as error:
                return Answer(error=error)
            except asyncio.CancelledError as error:
                if _canceled():
                    raise
                stray = StrayCancellation(f"{self._name} of step {attempt.step}")
                stray.__cause__ = error
                return Answer(error=stray)


class Holder(Performer):
    """Performs calls of one class component, on an instance of its own."""

    def __init__(self, target: Definition[Any, Any]) -> None:
        super().__init__(target)
        assert isinstance(target, Component)
        assert target.resource is not None
        self._resource = target.resource
        self._instance: Any = None

    async def started(self) -> None:
        """Open the instance."""
        bind_contextvars(actor=self.context.path)
        self._instance = self._resource()
        opened = hasattr(self._instance, "__aenter__")
        self._perform = await self._instance.__aenter__() if opened else self._instance

    async def stopped(self, reason: ExitReason) -> None:
        """Close it."""
        if hasattr(self._instance, "__aexit__"):
            await self._instance.__aexit__(None, None, None)


class Pool:
    """The actors of one component: as many as calls need at once, up to the bound; callers wait in order.

    Args:
        target: the component.
        name: of the supervisor of its actors.
        above: finds the supervisor above that one.
        inside: makes the context that a call is performed in, from that of its caller.
    """

    def __init__(
        self,
        target: Definition[Any, Any],
        name: str,
        above: Callable[[], Supervisor],
        inside: Callable[[Any], Inside],
    ) -> None:
        policies = target.policies
        holds = isinstance(target, Component) and target.resource is not None
        self._target = target
        self._performer = partial(Holder if holds else Performer, target)
        self._spec = SupervisorSpec(name=name, intensity=5, period=10.0)
        self._above = above
        self._inside = inside
        self._limit = policies.concurrency or MOST_PERFORMERS
        self._rate = AsyncLimiter(policies.rate.calls, policies.rate.per_s) if policies.rate else None
        self._taken = 0
        self._made = 0
        self._idle: list[Ref[Invocation | None]] = []
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._starting = anyio.Lock()

    async def perform(self, arguments: dict[str, Any], attempt: Performing) -> Any:
        """Perform a call on a free actor.

        Raises:
            Exception: what the component raised; ActorDied when its actor crashed.
            GreenroomError: those who wait for this call hold all places.
        """
        if self._rate is not None:
            await self._rate.acquire()
        if self._taken < self._limit:
            self._taken += 1
        else:
            await self._wait(attempt)
        try:
            answer = await self._ask(Invocation(arguments, attempt, self._inside(attempt)))
        finally:
            self._give()
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _ask(self, call: Invocation) -> Answer:
        ref = self._idle.pop() if self._idle else await self._start()
        try:
            return await ref.ask(call)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(ActorDied):
                await ref.ask(None)
            raise
        finally:
            if ref.alive:
                self._idle.append(ref)

    async def _start(self) -> Ref[Invocation | None]:
        async with self._starting:
            above = self._above()
            try:
                supervisor = above.supervisor(self._spec.name)
            except UnknownChild:
                supervisor = await above.start_supervisor(self._spec)
        self._made += 1
        spec = ChildSpec(name=str(self._made), start=self._performer, restart=Restart.TRANSIENT)
        return await supervisor.start_actor(spec)

    async def _wait(self, attempt: Performing) -> None:
        """Wait for the place of somebody who leaves."""
        self._refuse_self_wait(attempt)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._give()
            raise

    def _give(self) -> None:
        """Leave one's place to the next."""
        while self._waiters:
            place = self._waiters.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._taken -= 1

    def _refuse_self_wait(self, attempt: Performing) -> None:
        holders, above = 0, attempt.parent
        while above is not None:
            holders += above.name == self._target.name
            above = above.parent
        if holders >= self._limit:
            raise GreenroomError(
                f"component {self._target.name} calls itself, and its own callers hold all {self._limit} places: "
                "raise its concurrency"
            )


class Components:
    """All components of a worker. A pool is made at the first call."""

    def __init__(self, supervisor: Callable[[], Supervisor], surroundings: Callable[[Any], Sequence[Setting]]) -> None:
        self._supervisor = supervisor
        self._surroundings = surroundings
        self._pools: dict[Definition[Any, Any], Pool] = {}

    def perform(
        self, target: Definition[Any, Any], arguments: dict[str, Any], attempt: Performing
    ) -> Coroutine[Any, Any, Any]:
        """Perform a call of any component.

        Raises:
            Exception: what the component raised.
        """
        pool = self._pools.get(target)
        if pool is None:
            same = any(known.name == target.name for known in self._pools)
            name = f"{target.name}#{len(self._pools)}" if same else target.name
            pool = self._pools[target] = Pool(target, name, self._supervisor, self.inside)
        return pool.perform(arguments, attempt)

    def inside(self, attempt: Any) -> Inside:
        """Make the context that code inside an attempt runs in."""
        return Inside(self._surroundings(attempt))


def _canceled() -> bool:
    """Whether somebody has canceled the task that this is called in."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
