"""What the kernel tells a listener: every start, end, restart, escalation and dead letter.

Why: telemetry listens here and the kernel knows nothing of it. Without a listener no event is even made; crashes and
escalations then go to the standard log `greenroom.actors`, so that none passes in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .messages import Exit, ExitReason

log = logging.getLogger("greenroom.actors")


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A child runs for the first time."""

    path: str


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A child ended; a restart may follow."""

    path: str
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class ChildRestarted:
    """A child runs again, for the n-th time after a failure of itself or of a sibling."""

    path: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Escalated:
    """A supervisor gave up and ends; its own supervisor is next to decide."""

    path: str
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that no actor will handle to its end.

    Attributes:
        path: the actor that it was meant for.
        message: the message.
        reason: why the actor ended, or a sentence on why the mailbox dropped it.
    """

    path: str
    message: object
    reason: ExitReason | str


KernelEvent: TypeAlias = ChildStarted | ChildExited | ChildRestarted | Escalated | DeadLetter
Listener: TypeAlias = Callable[[KernelEvent], None]


def log_failure(path: str, reason: ExitReason) -> None:
    """Write a crash to the standard log: what a tree without a listener does."""
    if reason.exit is Exit.CRASHED:
        log.error("%s crashed", path, exc_info=reason.error)
