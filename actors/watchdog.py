"""The watchdog: names whoever holds up the event loop. Off unless it is asked for.

Why: a handler that computes or blocks for a second stops every actor for a second, and nothing on the loop can say so.
A thread can. It asks the loop to turn, now and then, and if that takes too long, it looks at the loop's stack. The
actors pay nothing; the loop pays one callback for each look.

Laws kept here: 7 (the thread ends with the context).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .circle import life_on
from .errors import SpecInvalid
from .events import log


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """The event loop does not turn.

    Attributes:
        path: the actor that holds it up; None if it is other code.
        seconds: how long it has stood still at least.
        stack: where, as text, the innermost call last.
    """

    path: str | None
    seconds: float
    stack: str

    def __str__(self) -> str:
        who = f"actor {self.path}" if self.path is not None else "code outside of actors"
        return f"{who} has held up the event loop for more than {self.seconds:g} s, in:\n{self.stack}"


def _log(blocked: LoopBlocked) -> None:
    log.warning("%s", blocked)


@asynccontextmanager
async def watch_loop(*, limit: float = 0.5, report: Callable[[LoopBlocked], None] = _log) -> AsyncIterator[None]:
    """Report, once each time, that the event loop has stood still for too long inside the block.

    Args:
        limit: seconds, more than 0. What takes less than twice as long may be missed.
        report: called in a thread of its own while the loop stands still; by default a warning is logged.
    """
    if not limit > 0:
        raise SpecInvalid(f"limit is {limit}: give more than 0 seconds")
    watch = _Watch(asyncio.get_running_loop(), limit, report)
    watch.thread.start()
    try:
        yield
    finally:
        watch.end()


class _Watch:
    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, report: Callable[[LoopBlocked], None]) -> None:
        self.thread = threading.Thread(target=self._run, name="greenroom watchdog", daemon=True)
        self._loop = loop
        self._looks_at = threading.get_ident()
        self._limit = limit
        self._report = report
        self._turned = threading.Event()
        self._pause = threading.Event()
        self._over = False

    def end(self) -> None:
        self._over = True
        self._turned.set()
        self._pause.set()
        self.thread.join()

    def _run(self) -> None:
        while True:
            self._turned.clear()
            if self._over:
                return
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:  # the loop was closed without leaving the context
                return
            if not self._turned.wait(self._limit) and not self._over:
                self._look()
                self._turned.wait()
            self._pause.wait(self._limit)

    def _look(self) -> None:
        frame = sys._current_frames().get(self._looks_at)
        life = life_on(frame)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        del frame
        try:
            self._report(LoopBlocked(life.path if life is not None else None, self._limit, stack))
        except Exception:
            log.exception("the watchdog's report failed")
