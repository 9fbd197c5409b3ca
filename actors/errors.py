"""What can go wrong with actors: one tree, every message says what to do next.

ActorError
├── ActorDied           the actor that was asked has ended, or crashed over the question
├── AskCircle           the question closes a circle: nobody in it could ever answer
├── AskTimeout          no answer came in time (also a TimeoutError)
├── MailboxFull         the mailbox's capacity is used up
├── SpecInvalid         a child, supervisor or mailbox spec contradicts itself (also a ValueError)
├── StartFailed         a child could not be started; the reason is its `__cause__`
├── AlreadyStarted      a child of this name is running
├── NameTaken           another actor is registered under this name
├── LinkBroken          a linked actor ended abnormally
├── StashFull           the actor has put aside as many messages as it may
├── UnknownChild        no child has this name
├── SupervisorStopped   the supervisor has ended or is ending
├── SupervisorFailed    the supervisor gave up: its children failed too often
└── StrayCancellation   an actor awaited something that was canceled elsewhere
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import ExitReason


class ActorError(Exception):
    """The root of all errors of the kernel."""


class ActorDied(ActorError):
    """The actor that was asked has ended, or ended while it handled the question.

    Attributes:
        path: the actor's path.
        reason: why it ended.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(f"actor {path} ended before it answered ({reason}): ask again once it has been restarted")
        self.path = path
        self.reason = reason


class AskCircle(ActorError):
    """The actors wait for each other's answers: this question would have closed the circle.

    Attributes:
        paths: who asks whom, first and last the actor that asks now.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(
            f"{' asks '.join(paths)}: nobody could ever answer. Let one of them tell(), or ask from a task of its own"
        )
        self.paths = tuple(paths)


class AskTimeout(ActorError, TimeoutError):
    """No answer came within the timeout. The actor may still do what it was asked; a late answer is dropped.

    Attributes:
        path: the actor's path.
        timeout: seconds that were waited.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__(f"actor {path} did not answer within {timeout:g} s: give it longer, or find what holds it up")
        self.path = path
        self.timeout = timeout


class MailboxFull(ActorError):
    """The mailbox took no more messages.

    Attributes:
        path: the actor's path.
        capacity: messages that the mailbox holds.
    """

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(
            f"the mailbox of actor {path} is full ({capacity} messages): "
            "wait for room with send(), raise its capacity, or choose a dropping overflow policy"
        )
        self.path = path
        self.capacity = capacity


class SpecInvalid(ActorError, ValueError):
    """A spec contradicts itself; the message names the field and the fix."""


class StartFailed(ActorError):
    """A child could not be started; `__cause__` is its own error. Children started before it have been stopped.

    Attributes:
        path: the child's path.
        cause: the child's error.
    """

    def __init__(self, path: str, cause: BaseException) -> None:
        super().__init__(f"{path} did not start ({type(cause).__name__}: {cause}): see the cause above")
        self.path = path
        self.cause = cause
        self.__cause__ = cause


class AlreadyStarted(ActorError):
    """A child of this name is running under the supervisor."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is running: choose another name, or stop it first with stop_child()")
        self.path = path


class NameTaken(ActorError):
    """Another actor is registered under this name."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(f"the name {name!r} is taken by {path}: choose another, or unregister() it first")
        self.name = name
        self.path = path


class LinkBroken(ActorError):
    """The actor ended because one that it was linked to, directly or over others, ended abnormally.

    Attributes:
        path: the actor that ended first.
        reason: why; its error is also the `__cause__`.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(f"linked actor {path} ended ({reason}): trap exits to live on")
        self.path = path
        self.reason = reason
        self.__cause__ = reason.error


class StashFull(ActorError):
    """The stash took no more messages."""

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(
            f"the stash of actor {path} is full ({capacity} messages): unstash() sooner, or raise MailboxSpec.stash"
        )
        self.path = path
        self.capacity = capacity


class UnknownChild(ActorError, LookupError):
    """The supervisor has no such child."""

    def __init__(self, path: str, name: str, wanted: str, names: Sequence[str]) -> None:
        known = ", ".join(sorted(names)[:10]) or "none"
        super().__init__(f"{path} has no {wanted} named {name!r}: its children are {known}")


class SupervisorStopped(ActorError):
    """The supervisor has ended, or is ending, and takes no more children."""

    def __init__(self, path: str) -> None:
        super().__init__(f"supervisor {path} has ended or is ending: start a new one to start children")
        self.path = path


class SupervisorFailed(ActorError):
    """The supervisor gave up: its children failed more often than its restart intensity allows.

    Attributes:
        path: the supervisor's path.
        reason: how the last child ended; its error is also the `__cause__`.
        history: paths and exit reasons of the children's last failures, oldest first.
    """

    def __init__(self, path: str, reason: ExitReason, history: Sequence[tuple[str, ExitReason]]) -> None:
        failures = "; ".join(f"{child} {why}" for child, why in history)
        super().__init__(
            f"supervisor {path} gave up, its children failed too often: {failures}. "
            "Fix what fails, or allow more restarts (intensity, period)"
        )
        self.path = path
        self.reason = reason
        self.history = tuple(history)
        self.__cause__ = reason.error


class StrayCancellation(ActorError):
    """A CancelledError came out of an actor that nobody canceled: it awaited something canceled elsewhere."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"actor {path} awaited a future or task that was canceled elsewhere: catch CancelledError around that await"
        )
        self.path = path
