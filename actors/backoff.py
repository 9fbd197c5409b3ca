"""Backoff: how long a child waits before it is started again. Decides, and does nothing.

Why: what a child needs may be away for a while (a server, a file); started again at once, it would only use up the
restarts that its supervisor allows. The wait is the child's alone: its supervisor goes on.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from .errors import SpecInvalid


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long a child waits before it is started again; for a series of failures, each time longer.

    A life that lasted for `longest` seconds ends the series. Restarts that wait count for the supervisor's intensity
    when the child fails: to have a child tried for ever, give a period shorter than `longest`.

    Attributes:
        first: wait after the first failure, seconds.
        factor: growth of the wait, 1 or more.
        longest: the longest wait, seconds.
        jitter: the part of a wait that is random, 0 (none) to 1 (anything up to the full wait).
        seed: what the jitter is drawn from; None is another one for each child.
    """

    first: float = 0.1
    factor: float = 2.0
    longest: float = 30.0
    jitter: float = 0.5
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.first > 0:
            raise SpecInvalid(f"first of a Backoff is {self.first}: give more than 0 seconds")
        if not self.factor >= 1:
            raise SpecInvalid(f"factor of a Backoff is {self.factor}: give 1 (constant) or more")
        if not self.longest >= self.first:
            raise SpecInvalid(f"longest of a Backoff is {self.longest}: give {self.first} seconds (first) or more")
        if not 0 <= self.jitter <= 1:
            raise SpecInvalid(f"jitter of a Backoff is {self.jitter}: give 0 to 1")


class Series:
    """The failures of one child, one after the other.

    Attributes:
        spec: how the waits grow.
        began: when the life began that is now, seconds on the loop's clock; None if none has begun since a failure.
        timer: of the wait that is now; None if there is none.
    """

    __slots__ = ("_random", "_wait", "began", "spec", "timer")

    def __init__(self, spec: Backoff) -> None:
        self.spec = spec
        self.began: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._random = random.Random(spec.seed)  # noqa: S311 - spreads load, hides nothing
        self._wait = spec.first

    def failed(self, now: float) -> float:
        """Return how long to wait after a failure at this time, seconds."""
        spec = self.spec
        if self.began is not None and now - self.began >= spec.longest:
            self._wait = spec.first
        self.began = None
        wait, self._wait = self._wait, min(self._wait * spec.factor, spec.longest)
        return wait * (1 - spec.jitter * self._random.random())

    def wait_no_more(self) -> None:
        """Cancel the wait that is now."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
