"""What travels between actors besides the user's own messages: requests, exit reasons, notices, the stop signal."""

from __future__ import annotations

import enum
from asyncio import Future, get_running_loop
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .ref import Ref

R_co = TypeVar("R_co", covariant=True)


class Request(Generic[R_co]):
    """Mix-in for messages that ask for a reply of type R: `class Get(Request[int])` makes `ref.ask(Get())` an int."""

    __slots__ = ()


class Exit(enum.Enum):
    """How an actor ended."""

    NORMAL = "ended normally"
    SHUTDOWN = "was shut down"
    KILLED = "was killed"
    CRASHED = "crashed"


_KILLED, CRASHED = Exit.KILLED, Exit.CRASHED  # an attribute of an enum costs eight times a global


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why an actor or a supervisor ended.

    Attributes:
        exit: how it ended.
        error: what it crashed with; only for crashes.
    """

    exit: Exit
    error: BaseException | None = None

    @property
    def abnormal(self) -> bool:
        """True for kills and crashes, after which a transient child is restarted."""
        return self.exit is CRASHED or self.exit is _KILLED

    def __str__(self) -> str:
        if self.error is None:
            return self.exit.value
        return f"{self.exit.value}: {type(self.error).__name__}: {self.error}"


NORMAL = ExitReason(Exit.NORMAL)
SHUTDOWN = ExitReason(Exit.SHUTDOWN)
KILLED = ExitReason(Exit.KILLED)


@dataclass(frozen=True, slots=True)
class Down:
    """Notice to a monitoring actor: the actor behind `ref` has ended and will not be restarted."""

    ref: Ref[Any]
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Exited:
    """Notice to an actor that traps exits: a life of the linked actor behind `ref` has ended, also normally."""

    ref: Ref[Any]
    reason: ExitReason


class Stop(BaseException):
    """Ends a function actor: raised by its mailbox once the supervisor wants it to stop.

    It is control flow, not an error: let it pass, and release resources in `finally`.
    """


class Ignore(Exception):
    """Raised by the function that makes an actor, or by its `started`: it is not needed now, and that is no failure.

    Its supervisor goes on as if it had been stopped: the place is kept (a temporary child is forgotten), and
    `start_child` may start it later.
    """


class Ask:
    """The envelope of a message whose sender waits for an answer."""

    __slots__ = ("abandoned", "message", "reply")

    def __init__(self, message: Any, reply: Future[Any]) -> None:
        self.message = message
        self.reply = reply
        self.abandoned = False


def expired(item: Any) -> bool:
    """Tell a question that nobody waits for any more from one that is open, and from a mere message."""
    return type(item) is Ask and item.reply.done()


def answered(item: Any) -> bool:
    """Tell a question that has its answer from one whose asker left before, and from a mere message."""
    return type(item) is Ask and item.reply.done() and not item.reply.cancelled() and item.reply.exception() is None


class Ending:
    """Fires once, with an exit reason, for everybody who waits or will wait."""

    __slots__ = ("_waiters", "reason")

    def __init__(self) -> None:
        self.reason: ExitReason | None = None
        self._waiters: list[Future[None]] | None = None

    async def wait(self) -> ExitReason:
        """Return the reason, at once when it is already known."""
        if self.reason is None:
            waiter: Future[None] = get_running_loop().create_future()
            waiters = self._waiters = self._waiters or []
            waiters.append(waiter)
            try:
                await waiter
            finally:
                waiters.remove(waiter)
        assert self.reason is not None
        return self.reason

    def set(self, reason: ExitReason) -> None:
        """Fire."""
        self.reason = reason
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
