"""The components of a worker: per component a pool of actors that perform its calls.

Why: a function component's actors are interchangeable and made as they are needed; a class component's actors
each hold one instance, opened when the actor starts and closed when it stops. An exception is a call's answer
and the actor lives on. A `Crash` (or any other end of the actor) belongs to the supervisor: it closes the
instance, opens a new one, and gives up by intensity; the call in hand fails, and its step's policy decides.

Laws kept here: 7 (actors belong to the pool's supervisor), 11 (a pool has a bound; callers wait in order).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any, Protocol

import anyio
from aiolimiter import AsyncLimiter
from structlog.contextvars import bind_contextvars

from ..actors import Actor, ChildSpec, ExitReason, Ref, Request, Restart, Supervisor, SupervisorSpec
from .definitions import Component, Definition, current_caller
from .errors import Crash, GreenroomError, StepTimedOut
from .policies import Policies
from .records import LLMCall

MOST_PERFORMERS = 1000
"""Places in a pool whose component sets no `concurrency`."""

_DEFAULTS = Policies()


class Performing(Protocol):
    """The attempt that a call belongs to."""

    name: str
    parent: Any

    def observe(self, call: LLMCall) -> None:
        """Record an LLM call made in this attempt."""
        ...


Setting = tuple[ContextVar[Any], Any]
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


class Invocation(Request["Answer"]):
    """Perform one call."""

    __slots__ = ("arguments", "attempt", "target")

    def __init__(self, target: Definition[Any, Any], arguments: dict[str, Any], attempt: Any) -> None:
        self.target = target
        self.arguments = arguments
        self.attempt = attempt


class Answer:
    """What a call came to: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error


class Performer(Actor[Invocation]):
    """Performs calls of one component, one at a time."""

    def __init__(self, target: Definition[Any, Any], inside: Callable[[Any], Inside]) -> None:
        self._target = target
        self._resource = target.resource if isinstance(target, Component) else None
        self._timeout_s = _policies(target).timeout.attempt_s
        self._inside = inside
        self._instance: Any = None
        self._perform: Callable[..., Any] = target.fn

    async def started(self) -> None:
        """Open the instance that a class component's calls go to."""
        bind_contextvars(actor=self.context.path)
        if self._resource is not None:
            self._instance = self._resource()
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
                return Answer(await self._perform_in_time(message.arguments, self._timeout_s))
            except Crash:
                raise
            except Exception as error:
                return Answer(error=error)

    async def _perform_in_time(self, arguments: dict[str, Any], timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s) as timer:
                return await self._perform(**arguments)
        except TimeoutError:
            if not timer.expired():
                raise
            late = f"an attempt of {self._target.name} took longer than {timeout_s:g} s"
            raise StepTimedOut(f"{late}: raise its timeout") from None


class Pool:
    """The actors of one component: as many as calls need at once, up to the bound; callers wait in order."""

    def __init__(self, target: Definition[Any, Any], supervisor: Supervisor, inside: Callable[[Any], Inside]) -> None:
        policies = _policies(target)
        self._target = target
        self._supervisor = supervisor
        self._inside = inside
        self._limit = policies.concurrency or MOST_PERFORMERS
        self._rate = AsyncLimiter(policies.rate.calls, policies.rate.per_s) if policies.rate else None
        self._size = 0
        self._idle: list[Ref[Invocation]] = []
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def perform(self, arguments: dict[str, Any], attempt: Performing) -> Any:
        """Perform a call on a free actor.

        Raises:
            Exception: what the component raised; ActorDied when its actor crashed.
        """
        if self._rate is not None:
            await self._rate.acquire()
        ref = await self._take(attempt)
        try:
            answer = await ref.ask(Invocation(self._target, arguments, attempt))
        finally:
            self._give(ref)
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _take(self, attempt: Performing) -> Ref[Invocation]:
        while True:
            while self._idle:
                ref = self._idle.pop()
                if ref.alive:
                    return ref
                self._size -= 1
            if self._size < self._limit:
                return await self._grow()
            self._refuse_self_wait(attempt)
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(place)
            try:
                await place
            except BaseException:
                if place.done() and not place.cancelled():
                    self._wake_next()
                raise

    async def _grow(self) -> Ref[Invocation]:
        self._size += 1
        try:
            spec = ChildSpec(
                name=str(self._size),
                start=lambda: Performer(self._target, self._inside),
                restart=Restart.TRANSIENT,
            )
            return await self._supervisor.start_actor(spec)
        except BaseException:
            self._size -= 1
            self._wake_next()
            raise

    def _give(self, ref: Ref[Invocation]) -> None:
        self._idle.append(ref)
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
            holders += above.name == self._target.name
            above = above.parent
        if holders >= self._limit:
            raise GreenroomError(
                f"component {self._target.name} calls itself, and its own callers hold all {self._limit} places: "
                "raise its concurrency"
            )


class Components:
    """All pools of a worker, made at a component's first call."""

    def __init__(self, supervisor: Callable[[], Supervisor], surroundings: Callable[[Any], Sequence[Setting]]) -> None:
        self._supervisor = supervisor
        self._surroundings = surroundings
        self._pools: dict[Definition[Any, Any], Pool] = {}
        self._making = anyio.Lock()

    async def perform(self, target: Definition[Any, Any], arguments: dict[str, Any], attempt: Performing) -> Any:
        """Perform a call of any component."""
        pool = self._pools.get(target) or await self._make(target)
        return await pool.perform(arguments, attempt)

    def inside(self, attempt: Any) -> Inside:
        """Make the context that code inside an attempt runs in: its scope, the router, who observes its calls."""
        return Inside([(current_caller, attempt), *self._surroundings(attempt)])

    async def _make(self, target: Definition[Any, Any]) -> Pool:
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


def _policies(target: Definition[Any, Any]) -> Policies:
    return target.policies if isinstance(target, Component) else _DEFAULTS
