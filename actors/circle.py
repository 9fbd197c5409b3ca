"""Questions in a circle: A asks B, B asks A, and nobody can ever answer. Refused at the ask that would close it.

Why this way: nothing is written down when an actor asks, so an ask that is not nested costs nothing. Only when the
actor that is asked sits in a handler, the stacks are read: of the task that asks, to see which actor it is, and of the
task of the one that is asked, to see whether it waits for an answer itself, and whose; and so on along the chain.

What is not seen: a question asked from a task that a handler has started, because the actor itself does not wait then
(or if it does, not by an `ask`). A function actor is taken to read its mailbox in the task in which it asks; if it
reads in another one, it is no part of a circle while that one waits for mail.
"""

from __future__ import annotations

import asyncio
import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mailbox import Mailbox
    from .reader import Reader

LIVES: set[CodeType] = set()
"""The code that lives run in; each has its life as `self`."""

ASKS: set[CodeType] = set()
"""The code that waits for an answer; each has whom it asks as `mailbox`."""


def life_on(frame: FrameType | None) -> Reader | None:
    """Return the actor's life that a stack belongs to, or None."""
    while frame is not None:
        if frame.f_code in LIVES:
            life: Reader = frame.f_locals["self"]
            return life
        frame = frame.f_back
    return None


def asked_by(task: asyncio.Task[Any]) -> Mailbox[Any] | None:
    """Return the actor whose answer a task waits for, or None."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        if getattr(awaited, "cr_code", None) in ASKS:
            return awaited.cr_frame.f_locals["mailbox"] if awaited.cr_frame is not None else None
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return None


def circle(mailbox: Mailbox[Any]) -> tuple[str, ...]:
    """Return the paths of the circle that the caller would close by asking this actor, or nothing."""
    asker = life_on(sys._getframe(1))
    if asker is None:
        return ()
    paths = [asker.path]
    seen: set[int] = set()
    target: Mailbox[Any] | None = mailbox
    while target is not None and target.sleeper is None and id(target) not in seen:  # who sleeps will take the question
        seen.add(id(target))
        paths.append(target.path)
        life = target.reader
        if life is asker:
            return tuple(paths)
        task = life.host.task if life is not None and life.host is not None else None
        target = asked_by(task) if task is not None else None
    return ()
