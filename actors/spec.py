"""Child and supervisor specs: frozen descriptions of a tree, checked when they are made. Words are OTP's."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, Generic, TypeAlias

import msgspec
from typing_extensions import TypeVar

from .actor import Actor
from .backoff import Backoff
from .errors import SpecInvalid
from .mailbox import Mailbox
from .overflow import MailboxSpec

M = TypeVar("M", default=Any)


class Restart(enum.Enum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After a crash or a kill."""
    TEMPORARY = "temporary"
    """Never; its spec is forgotten."""


PERMANENT, TRANSIENT, TEMPORARY = Restart  # an attribute of an enum costs eight times a global


class Strategy(enum.Enum):
    """Who else is restarted with a child."""

    ONE_FOR_ONE = "one_for_one"
    """Nobody."""
    ONE_FOR_ALL = "one_for_all"
    """All its siblings."""
    REST_FOR_ONE = "rest_for_one"
    """The siblings that stand after it."""


ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE = Strategy


class AutoShutdown(enum.Enum):
    """When significant children that ended by themselves end their supervisor."""

    NEVER = "never"
    ANY = "any"
    """When the first one has ended."""
    ALL = "all"
    """When the last one has ended."""


class ChildSpec(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """How a supervisor starts, stops and restarts one child.

    Attributes:
        name: unique among its siblings, without "/".
        start: an Actor class or a function of no arguments that makes one; an async function of a mailbox; or a
            supervisor's spec.
        restart: when it is started again.
        shutdown: seconds that it has to stop before it is killed; 0 kills at once; None waits for ever. For a
            supervisor give None, so that its own children get their time.
        mailbox: by default what the Actor class says.
        backoff: how long it waits before it is started again; by default not at all.
        significant: its end may end its supervisor (see AutoShutdown); only for transient and temporary children.
    """

    name: str
    start: Callable[[], Actor[M]] | Callable[[Mailbox[M]], Awaitable[None]] | SupervisorSpec
    restart: Restart = Restart.PERMANENT
    shutdown: float | None = 5.0
    mailbox: MailboxSpec | None = None
    backoff: Backoff | None = None
    significant: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise SpecInvalid(f"name is {self.name!r}: give a child a name that is not empty and has no '/'")
        if not callable(self.start) and not isinstance(self.start, SupervisorSpec):
            raise SpecInvalid(f"start of {self.name} is {self.start!r}: give an Actor class, a function or a spec")
        if self.shutdown is not None and not self.shutdown >= 0:
            raise SpecInvalid(f"shutdown of {self.name} is {self.shutdown}: give 0 or more seconds, or None")
        if self.significant and self.restart is PERMANENT:
            raise SpecInvalid(f"{self.name} is significant and permanent: make it transient or temporary")


class SupervisorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a supervisor looks after its children.

    Attributes:
        name: unique among its siblings, without "/".
        strategy: who is restarted with a child.
        intensity: restarts allowed within the period, of all children together; one more and the supervisor gives up.
        period: seconds.
        children: started in this order, stopped in reverse. A supervisor's spec among them is a permanent child.
        auto_shutdown: when the end of significant children ends it.
    """

    name: str
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 1
    period: float = 5.0
    children: tuple[ChildSpec[Any] | SupervisorSpec, ...] = ()
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise SpecInvalid(f"name is {self.name!r}: give a supervisor a name that is not empty and has no '/'")
        if self.intensity < 0:
            raise SpecInvalid(f"intensity of {self.name} is {self.intensity}: give 0 or more restarts")
        if not self.period > 0:
            raise SpecInvalid(f"period of {self.name} is {self.period}: give more than 0 seconds")
        names = [child.name for child in self.children]
        for name in names:
            if names.count(name) > 1:
                raise SpecInvalid(f"{self.name} has two children named {name!r}: names are unique among siblings")
        for child in self.children:
            self.check(child)

    def check(self, child: ChildSpec[Any] | SupervisorSpec) -> None:
        """Refuse a child that this supervisor could never treat as it asks.

        Raises:
            SpecInvalid: it is significant, and auto_shutdown is NEVER.
        """
        significant = isinstance(child, ChildSpec) and child.significant
        if significant and self.auto_shutdown is AutoShutdown.NEVER:
            raise SpecInvalid(f"{child.name} is significant: set auto_shutdown of supervisor {self.name} to ANY or ALL")


AnySpec: TypeAlias = ChildSpec[Any] | SupervisorSpec


def child_spec(spec: AnySpec) -> ChildSpec[Any]:
    """Read a supervisor's spec as a permanent child that may take all its time to stop."""
    return spec if isinstance(spec, ChildSpec) else ChildSpec(name=spec.name, start=spec, shutdown=None)


def takes_mailbox(start: Callable[..., Any]) -> bool:
    """Tell a function actor from a function that makes a class actor, by its parameters."""
    if type(start) is FunctionType and not start.__dict__ and not start.__kwdefaults__:  # a signature costs 10 us
        code = start.__code__
        return bool(code.co_flags & inspect.CO_COROUTINE) or code.co_argcount > len(start.__defaults__ or ())
    if inspect.iscoroutinefunction(start):
        return True
    try:
        inspect.signature(start).bind()
    except TypeError:
        return True
    return False
