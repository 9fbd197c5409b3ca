"""What code inside a run can ask of it: stream output and status, read the recorded clock, get stable keys.

Why: components stay plain functions. Each of these reads one context variable; outside a run (in a test, in a
script) they do the plain thing, so that a component needs no run to be tried.
"""

from __future__ import annotations

import datetime
import random as _random
import secrets
import uuid as _uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import anyio
import msgspec

from .definitions import Caller, Workflow, component, current_caller
from .payload import from_json, to_json
from .records import NULL, OutputDelta, Status
from .waits import ForChild, ForTime, Wait

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Scope(Caller, Protocol):
    """One attempt of a step (or of the workflow's body) as the code inside it sees its run."""

    run_id: str
    step: str
    attempt: int

    @property
    def traceparent(self) -> str:
        """What makes requests from here a part of the run's trace."""
        ...

    async def wait(self, wait: Wait) -> msgspec.Raw:
        """Wait as a step of the run; JSON of what came."""
        ...

    async def show(self, record: OutputDelta | Status) -> None:
        """Put a record into the run's stream."""
        ...


def current_scope() -> Scope | None:
    """The attempt that this code runs in, or None outside a run."""
    caller: Any = current_caller.get()
    return caller  # type: ignore[no-any-return]  # only scopes are ever set


async def emit(text: str) -> None:
    """Add text to the run's output stream; readers see it within a few tens of milliseconds.

    Pieces are coalesced, so a piece a token is fine. What a failed attempt emitted is taken back for readers.
    Waits when the log cannot keep up. Outside a run: does nothing.
    """
    scope = current_scope()
    if scope is not None and text:
        await scope.show(OutputDelta(step=scope.step, attempt=scope.attempt, text=text))


async def status(message: str, **data: Any) -> None:
    """Tell readers what the run is doing. Outside a run: does nothing.

    Args:
        message: one line for people.
        data: values for programs, as JSON.
    """
    scope = current_scope()
    if scope is not None:
        raw = msgspec.Raw(to_json(data, "status data")) if data else NULL
        await scope.show(Status(step=scope.step, message=message, data=raw))


def idempotency_key() -> str:
    """A key that is stable over attempts, workers and replays of this step: give it to whatever is outside.

    In the workflow's body it is the run's id; outside a run it is random.
    """
    scope = current_scope()
    if scope is None:
        return f"outside-{secrets.token_hex(8)}"
    return f"{scope.run_id}/{scope.step}" if scope.step else scope.run_id


def traceparent() -> str | None:
    """The W3C `traceparent` of this attempt, for requests that should be in the run's trace; None outside a run."""
    scope = current_scope()
    return scope.traceparent if scope is not None else None


def run_id() -> str | None:
    """The id of the run that this code is part of, or None outside a run."""
    scope = current_scope()
    return scope.run_id if scope is not None else None


async def sleep(seconds: float) -> None:
    """Wait, for days if need be: a run that only waits is parked and goes on by itself, on any worker."""
    scope = current_scope()
    if scope is None:
        await anyio.sleep(seconds)
    else:
        await scope.wait(ForTime(float(seconds)))


async def child(workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a workflow as a run of its own, with its own log, and wait for its result.

    It is canceled when this run ends before it does. Outside a run the workflow is simply called.

    Raises:
        StepFailed: it ended without a result; `failure` is its own.
    """
    scope = current_scope()
    if scope is None:
        return await workflow.fn(*args, **kwargs)
    raw = await scope.wait(ForChild(workflow, workflow.encode(workflow.bind(*args, **kwargs))))
    return cast("R", from_json(raw, workflow.signature.result))


async def fan_out(call: Callable[[T], Awaitable[R]], items: Iterable[T], *, concurrency: int = 10) -> list[R]:
    """Call a component with each item, some at once, and return the results in the items' order.

    Args:
        call: of one argument.
        items: the arguments.
        concurrency: how many calls may be under way, 1 or more.

    Raises:
        Exception: the first error; the calls under way are canceled and no others are made.
    """
    results: dict[int, R] = {}
    left = iter(list(enumerate(items)))

    async def work() -> None:
        for number, item in left:
            results[number] = await call(item)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(max(1, concurrency)):
                group.start_soon(work)
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return [results[number] for number in sorted(results)]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@component(name="greenroom.now")
async def now() -> datetime.datetime:
    """Return the time in UTC; inside a run it is a recorded step, the same on every replay."""
    return datetime.datetime.now(datetime.UTC)


@component(name="greenroom.random")
async def random() -> float:
    """Return a number from 0 up to 1; inside a run it is a recorded step."""
    return _random.random()  # noqa: S311 - not for secrets


@component(name="greenroom.uuid")
async def uuid() -> _uuid.UUID:
    """Return a random UUID; inside a run it is a recorded step."""
    return _uuid.uuid4()
