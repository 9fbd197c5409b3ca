"""The components of a worker: how many of each are at work at once, and who performs their calls.

Why: a function has nothing that outlives a call, so a call of it is performed by whoever makes it, the run's own body
or one of its tasks: to hand it to another actor would cost more than most calls do. A class component has instances,
which belong to a pool of actors: each holds one, opened when the actor starts and closed when it stops. An exception is
a call's answer and the actor lives on. A `Crash` (or any other end of the actor) belongs to the supervisor: it closes
the instance, opens a new one, and gives up by intensity; the call in hand fails, and its step's policy decides.

Laws kept here: 7 (actors belong to the pool's supervisor), 11 (a component has a bound; callers wait in order).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeAlias

import anyio
from aiolimiter import AsyncLimiter
from structlog.contextvars import bind_contextvars

from ..actors import Actor, ChildSpec, ExitReason, Ref, Request, Restart, StrayCancellation, Supervisor, SupervisorSpec
from .definitions import Component, Definition, current_caller
from .errors import Crash, GreenroomError, StepTimedOut
from .policies import Policies
from .records import LLMCall

MOST_PERFORMERS = 1000
"""Calls at once of a component that sets no `concurrency`."""

_DEFAULTS = Policies()


class Performing(Protocol):
    """The attempt that a call belongs to."""

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
        for (variable, _), token in zip(self._settings, self._tokens, strict=True):
            variable.reset(token)


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


class Places:
    """How many calls of one component may be at work at once, and at what pace they begin; callers wait in order."""

    def __init__(self, target: Definition[Any, Any]) -> None:
        policies = _policies(target)
        self.target = target
        self.timeout_s = policies.timeout.attempt_s
        self._limit = policies.concurrency or MOST_PERFORMERS
        self._rate = AsyncLimiter(policies.rate.calls, policies.rate.per_s) if policies.rate else None
        self._taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def take_free(self) -> bool:
        """Take a place if that needs no waiting."""
        if self._rate is not None or self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self, attempt: Performing) -> None:
        """Wait for a place.

        Raises:
            GreenroomError: those who wait for this call hold all of them.
        """
        if self._rate is not None:
            await self._rate.acquire()
        while self._taken >= self._limit:
            self._refuse_self_wait(attempt)
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(place)
            try:
                await place
            except BaseException:
                if place.done() and not place.cancelled():
                    self._wake_next()
                raise
        self._taken += 1

    def give(self) -> None:
        """Leave one's place to the next."""
        self._taken -= 1
        if self._waiters:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters:
            place = self._waiters.popleft()
            if not place.done():
                place.set_result(None)
                return

    def _refuse_self_wait(self, attempt: Performing) -> None:
        holders, above = 0, attempt.parent
        while above is not None:
            holders += above.name == self.target.name
            above = above.parent
        if holders >= self._limit:
            raise GreenroomError(
                f"component {self.target.name} calls itself, and its own callers hold all {self._limit} places: "
                "raise its concurrency"
            )


class Invocation(Request["Answer"]):
    """Perform one call."""

    __slots__ = ("arguments", "attempt")

    def __init__(self, arguments: dict[str, Any], attempt: Any) -> None:
        self.arguments = arguments
        self.attempt = attempt


class Answer:
    """What a call came to: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


class Performer(Actor[Invocation]):
    """Performs calls of one class component on an instance of its own, one at a time."""

    def __init__(self, target: Component[Any, Any], inside: Callable[[Any], Inside]) -> None:
        self._target = target
        self._timeout_s = target.policies.timeout.attempt_s
        self._inside = inside
        self._instance: Any = None
        self._perform: Callable[..., Any]

    async def started(self) -> None:
        """Open the instance."""
        assert self._target.resource is not None
        bind_contextvars(actor=self.context.path)
        self._instance = self._target.resource()
        opened = hasattr(self._instance, "__aenter__")
        self._perform = await self._instance.__aenter__() if opened else self._instance

    async def stopped(self, reason: ExitReason) -> None:
        """Close it."""
        if hasattr(self._instance, "__aexit__"):
            await self._instance.__aexit__(None, None, None)

    async def receive(self, message: Invocation) -> Answer:
        """Perform a call; its exception is its answer."""
        with self._inside(message.attempt):
            try:
                if self._timeout_s is None:
                    return Answer(await self._perform(**message.arguments))
                return Answer(await in_time(self._target.name, self._perform, message.arguments, self._timeout_s))
            except Crash:
                raise
            except Exception as error:
                return Answer(error=error)


class Pool:
    """The actors of one class component: as many as calls need at once, up to the bound."""

    def __init__(self, target: Component[Any, Any], supervisor: Supervisor, inside: Callable[[Any], Inside]) -> None:
        self._target = target
        self._supervisor = supervisor
        self._inside = inside
        self._made = 0
        self._idle: list[Ref[Invocation]] = []

    async def perform(self, arguments: dict[str, Any], attempt: Performing) -> Any:
        """Perform a call on a free actor; its caller holds a place.

        Raises:
            Exception: what the component raised; ActorDied when its actor crashed.
        """
        ref = await self._take()
        try:
            answer = await ref.ask(Invocation(arguments, attempt))
        finally:
            self._idle.append(ref)
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _take(self) -> Ref[Invocation]:
        while self._idle:
            ref = self._idle.pop()
            if ref.alive:
                return ref
        self._made += 1
        spec = ChildSpec(
            name=str(self._made),
            start=lambda: Performer(self._target, self._inside),
            restart=Restart.TRANSIENT,
        )
        return await self._supervisor.start_actor(spec)


class Components:
    """All components of a worker. A class component's pool is made at its first call."""

    def __init__(self, supervisor: Callable[[], Supervisor], surroundings: Callable[[Any], Sequence[Setting]]) -> None:
        self._supervisor = supervisor
        self._surroundings = surroundings
        self._places: dict[Definition[Any, Any], Places] = {}
        self._pools: dict[Definition[Any, Any], Pool] = {}
        self._making = anyio.Lock()

    async def perform(self, target: Definition[Any, Any], arguments: dict[str, Any], attempt: Performing) -> Any:
        """Perform a call of any component.

        Raises:
            Exception: what the component raised.
        """
        places = self._places.get(target)
        if places is None:
            places = self._places[target] = Places(target)
        if not places.take_free():
            await places.take(attempt)
        try:
            if isinstance(target, Component) and target.resource is not None:
                pool = self._pools.get(target) or await self._make(target)
                return await pool.perform(arguments, attempt)
            with self.inside(attempt):
                if places.timeout_s is None:
                    return await target.fn(**arguments)
                return await in_time(target.name, target.fn, arguments, places.timeout_s)
        except asyncio.CancelledError as error:
            if _canceled():
                raise
            raise StrayCancellation(f"{target.name} of step {attempt.step}") from error
        finally:
            places.give()

    def inside(self, attempt: Any) -> Inside:
        """Make the context that code inside an attempt runs in: its scope, the router, who observes its calls."""
        return Inside([(current_caller, attempt), *self._surroundings(attempt)])

    async def _make(self, target: Component[Any, Any]) -> Pool:
        async with self._making:
            if target not in self._pools:
                name = f"{target.name}" if target.name not in self._names else f"{target.name}#{len(self._pools)}"
                spec = SupervisorSpec(name=name, intensity=5, period=10.0)
                child = ChildSpec(name=name, start=spec, restart=Restart.PERMANENT, shutdown=None)
                supervisor = await self._supervisor().start_supervisor(child)
                self._pools[target] = Pool(target, supervisor, self.inside)
            return self._pools[target]

    @property
    def _names(self) -> set[str]:
        return {target.name for target in self._pools}


def _canceled() -> bool:
    """Whether somebody has canceled the task that this is called in."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _policies(target: Definition[Any, Any]) -> Policies:
    return target.policies if isinstance(target, Component) else _DEFAULTS
