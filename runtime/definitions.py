"""What users write: components and workflows. Definitions are frozen data; nothing is registered anywhere.

Why: a component is a plain typed async function (or a class with an async `__call__`, when it holds
resources) that can be called and tested alone. Outside a run, calling it calls the function and nothing
else. Inside a run, the same call becomes a step: journaled, retried, timed, streamed. The decision hangs on
one context variable, so the user's code reads the same in both worlds.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from ..transports import Terms
from .errors import DefinitionInvalid
from .payload import decoder_of, parse_input, to_json
from .policies import ONCE, Cache, Policies, Rate, Retry, Timeout
from .schedules import Schedule
from .signature import Signature, parameters_of, signature_of

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Missing:
    """The type of `MISSING`: no fallback was given."""


MISSING = Missing()


class Caller(Protocol):
    """What stands between a component's call and its function inside a run."""

    async def call(self, target: Definition[Any, Any], arguments: dict[str, Any], key: str | None) -> Any:
        """Make the call a step of the run."""
        ...


current_caller: ContextVar[Caller | None] = ContextVar("greenroom.caller", default=None)
"""Set inside a run, per scope."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Definition(Generic[P, R]):
    """A named async function with a signature.

    Attributes:
        name: unique among the definitions of its kind in a program; a component's is part of its steps' identity.
        fn: the function (for a class: opens an instance, calls it, closes it).
        summary: what its docstring says first.
        policies: retry, timeout, cache, rate, concurrency; a workflow has none.
        fallback: a value, or a component or async function of the same arguments, that answers when all
            attempts have failed; `MISSING`: the error propagates.
    """

    name: str
    fn: Callable[P, Awaitable[R]]
    summary: str = ""
    policies: Policies = Policies()
    fallback: object = MISSING

    @functools.cached_property
    def signature(self) -> Signature:
        """The function's signature as types. Resolved on first use, so that forward references work.

        Raises:
            DefinitionInvalid: an annotation cannot be resolved or has no JSON form.
        """
        return signature_of(self.name, self.fn)

    @functools.cached_property
    def parameters(self) -> inspect.Signature:
        """The parameters a call must fit."""
        return parameters_of(self.name, self.fn)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The call's arguments by name, with defaults filled in."""
        if not kwargs and len(args) == len(self._names) == len(self._positional):
            return dict(zip(self._positional, args, strict=True))
        given = dict(zip(self._positional, args, strict=False))
        arguments = self._defaults | given | kwargs
        if len(given) < len(args) or not given.keys().isdisjoint(kwargs) or arguments.keys() != self._names:
            self.parameters.bind(*args, **kwargs)  # says what is wrong
        return arguments

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.parameters.parameters)

    @functools.cached_property
    def _positional(self) -> tuple[str, ...]:
        return tuple(n for n, p in self.parameters.parameters.items() if p.kind is not p.KEYWORD_ONLY)

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        return {n: p.default for n, p in self.parameters.parameters.items() if p.default is not p.empty}

    def parse(self, data: bytes) -> dict[str, Any]:
        """Arguments from a JSON object that came from outside.

        Raises:
            InputInvalid: it does not fit the signature; names the path and the expected type.
        """
        value = parse_input(data, self.signature.input, self.name)
        return {field: getattr(value, field) for field in value.__struct_fields__}

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """Arguments by name as canonical JSON."""
        return to_json(arguments, self._argument)

    def decode(self, result: msgspec.Raw) -> R:
        """A recorded result as what the function returns.

        Raises:
            msgspec.ValidationError: it does not fit the type.
        """
        return cast(R, self._decoder.decode(result))

    @functools.cached_property
    def _argument(self) -> str:
        return f"an argument of {self.name}"

    @functools.cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return decoder_of(self.signature.result)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it: inside a run as a step, elsewhere as the plain function."""
        caller = current_caller.get()
        if caller is None:
            return await self.fn(*args, **kwargs)
        return cast(R, await caller.call(self, self.bind(*args, **kwargs), None))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Component(Definition[P, R]):
    """A reusable, idempotent, independently testable step.

    Attributes:
        resource: the class whose instances the component's actors hold, for class components.
    """

    resource: type[Any] | None = None

    def keyed(self, key: str) -> Callable[P, Awaitable[R]]:
        """The component with an explicit step identity in place of its arguments: `await send.keyed("x")(mail)`."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            caller = current_caller.get()
            if caller is None:
                return await self.fn(*args, **kwargs)
            return cast(R, await caller.call(self, self.bind(*args, **kwargs), key))

        return call


class Inlet(Generic[T]):
    """A named, typed way into a run: root of `Signal` and `Approval`.

    Args:
        name: 1 to 100 letters, digits, `_`, `-`, `.`; unique in its workflow.
        type: of what is sent.
    """

    def __init__(self, name: str, type: type[T]) -> None:  # noqa: A002 - the word that says it
        self.name = _name(name)
        self.type = type

    def check(self, data: bytes) -> bytes:
        """Check what came from outside and return it as canonical JSON.

        Raises:
            InputInvalid: it does not fit the type; names the path and the expected type.
        """
        return to_json(parse_input(data, self.type, self.name), f"what is sent to {self.name}")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Workflow(Definition[P, R]):
    """A composition of components; each execution of it is a run.

    Attributes:
        timeout_s: the run's deadline after it was created, seconds; None for none.
        terms: how its runs are claimed.
        key: the argument whose value its limits are counted by; None: all its runs together.
        schedules: when runs start by themselves.
        signals: what may be sent to its runs, by name.
        approvals: what its runs may ask for, by name.
        example: arguments by name that show how it is started; None: made from its types.
    """

    timeout_s: float | None = None
    terms: Terms = Terms()
    key: str | None = None
    schedules: tuple[Schedule, ...] = ()
    signals: Mapping[str, Inlet[Any]] = dataclasses.field(default_factory=dict)
    approvals: Mapping[str, Inlet[Any]] = dataclasses.field(default_factory=dict)
    example: Mapping[str, Any] | None = None

    def gate(self, arguments: Mapping[str, Any]) -> str:
        """What limits are counted by, for a run with these arguments."""
        if self.key is None:
            return ""
        value = arguments[self.key]
        return value if isinstance(value, str) else self.encode({"key": value}).decode()


class Resource(Protocol[P, R_co]):
    """What a class component is: an async `__call__`, and `__aenter__`/`__aexit__` where it has resources."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """One call."""
        ...


@overload
def component(fn: type[Resource[P, R]], /) -> Component[P, R]: ...
@overload
def component(fn: Callable[P, Awaitable[R]], /) -> Component[P, R]: ...
@overload
def component(
    *,
    name: str | None = None,
    retry: Retry | int = ONCE,
    timeout: Timeout | float | None = None,
    fallback: object = MISSING,
    cache: Cache | float | None = None,
    rate: Rate | None = None,
    concurrency: int | None = None,
) -> Decorator: ...
def component(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | int = ONCE,
    timeout: Timeout | float | None = None,
    fallback: object = MISSING,
    cache: Cache | float | None = None,
    rate: Rate | None = None,
    concurrency: int | None = None,
) -> Any:
    """Make a component of an async function, or of a class with an async `__call__`.

    Args:
        fn: the function or class, when used as a bare decorator.
        name: its name; by default the function's.
        retry: a policy, or the number of attempts.
        timeout: a policy, or the seconds that one attempt may take.
        fallback: what answers when all attempts failed: a value, or a component or async function.
        cache: a policy, or the seconds that results are kept.
        rate: the pace of calls in one worker.
        concurrency: how many calls may run at once in one worker; a class component has as many instances
            (by default 1).

    Raises:
        DefinitionInvalid: it is not async, or takes `*args` or `**kwargs`.
    """
    policies = Policies(
        retry=Retry(attempts=retry) if isinstance(retry, int) else retry,
        timeout=timeout if isinstance(timeout, Timeout) else Timeout(attempt_s=timeout),
        cache=Cache(ttl_s=cache) if isinstance(cache, int | float) else cache,
        rate=rate,
        concurrency=concurrency,
    )

    def define(target: Any) -> Component[Any, Any]:
        resource = target if inspect.isclass(target) else None
        return Component(
            name=_name(name or target.__name__),
            fn=_lone_call(target) if resource else _async(target),
            summary=_summary(target),
            policies=dataclasses.replace(policies, concurrency=policies.concurrency or 1) if resource else policies,
            fallback=fallback,
            resource=resource,
        )

    return define if fn is None else define(fn)


class Decorator(Protocol):
    """`component(...)` with options: decorates functions and classes."""

    @overload
    def __call__(self, fn: type[Resource[P, R]], /) -> Component[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Component[P, R]: ...


@overload
def workflow(fn: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    timeout: float | None = None,
    versioning: Literal["auto", "pinned"] = "auto",
    concurrency: int | None = None,
    starts: Rate | None = None,
    key: str | None = None,
    schedules: Iterable[Schedule] = (),
    signals: Iterable[Inlet[Any]] = (),
    approvals: Iterable[Inlet[Any]] = (),
    example: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Workflow[P, R]]: ...
def workflow(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    versioning: Literal["auto", "pinned"] = "auto",
    concurrency: int | None = None,
    starts: Rate | None = None,
    key: str | None = None,
    schedules: Iterable[Schedule] = (),
    signals: Iterable[Inlet[Any]] = (),
    approvals: Iterable[Inlet[Any]] = (),
    example: Mapping[str, Any] | None = None,
) -> Any:
    """Make a workflow of an async function.

    Args:
        fn: the function, when used as a bare decorator.
        name: its name, the one in URLs; by default the function's.
        timeout: seconds after its creation at which a run is ended (`timed_out`).
        versioning: "auto": a run goes on with whatever code its worker has; "pinned": with the build that began it.
        concurrency: runs at work at once, over all workers; those that wait do not count.
        starts: the pace at which runs begin, over all workers.
        key: the argument whose value both are counted by, such as a user's id; by default all runs count together.
        schedules: when runs start by themselves (`Cron`, `Every`).
        signals: what may be sent to its runs.
        approvals: what its runs may ask for.
        example: arguments by name that show how it is started, for the API's description.

    Raises:
        DefinitionInvalid: it is not async, or takes `*args` or `**kwargs`; or two signals share a name.
    """
    ways = [_by_name(inlets) for inlets in (signals, approvals)]
    if timeout is not None and timeout <= 0:
        raise DefinitionInvalid(f"workflow timeout is {timeout}: give seconds above 0, or None for no deadline")
    if concurrency is not None and concurrency < 1:
        raise DefinitionInvalid(f"workflow concurrency is {concurrency}: give 1 or more runs, or None for no bound")
    terms = Terms(
        pinned=versioning == "pinned",
        concurrency=concurrency,
        starts=None if starts is None else starts.calls,
        per_s=1.0 if starts is None else starts.per_s,
    )

    def define(target: Callable[P, Awaitable[R]]) -> Workflow[P, R]:
        title = _name(name or str(getattr(target, "__name__", "")))
        if key is not None and key not in parameters_of(title, target).parameters:
            raise DefinitionInvalid(f"workflow {title} has no argument {key!r}: name one of its arguments as key")
        return Workflow(
            name=title,
            fn=_async(target),
            summary=_summary(target),
            timeout_s=timeout,
            terms=terms,
            key=key,
            schedules=tuple(schedules),
            signals=ways[0],
            approvals=ways[1],
            example=example,
        )

    return define if fn is None else define(fn)


def _by_name(inlets: Iterable[Inlet[Any]]) -> Mapping[str, Inlet[Any]]:
    found: dict[str, Inlet[Any]] = {}
    for inlet in inlets:
        if found.setdefault(inlet.name, inlet) is not inlet:
            raise DefinitionInvalid(f"two signals or approvals are named {inlet.name!r}: give one another name")
    return MappingProxyType(found)


def _name(name: str) -> str:
    if not name or len(name) > 100 or not all(c.isalnum() or c in "_-." for c in name):
        raise DefinitionInvalid(f"{name!r} is no name: use 1 to 100 letters, digits, '_', '-' and '.'")
    return name


def _summary(target: Any) -> str:
    return (inspect.getdoc(target) or "").partition("\n")[0]


def _async(target: Any) -> Any:
    name = getattr(target, "__qualname__", repr(target))
    if not inspect.iscoroutinefunction(target):
        raise DefinitionInvalid(f"{name} is not an async function: write 'async def {name}(...)'")
    parameters_of(name, target)
    return target


def _lone_call(cls: type[Any]) -> Callable[..., Awaitable[Any]]:
    """A class component's function outside a run: open an instance, call it, close it."""
    call = _async(cls.__call__)

    @functools.wraps(call)
    async def run(*args: Any, **kwargs: Any) -> Any:
        instance = cls()
        if not hasattr(instance, "__aenter__"):
            return await instance(*args, **kwargs)
        async with instance as opened:
            return await opened(*args, **kwargs)

    return run
