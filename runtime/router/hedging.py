"""Hedging: asking a second deployment when the first takes unusually long, within a budget. Off unless configured.

What is unusual is observed: a percentile of the deployment's own last answers (a stream's: its first tokens). A hedge
is sent only where there is room at once, never after a stream's first token, and hedges are a bounded part of calls.
"""

from __future__ import annotations

from collections import deque

import msgspec

from .errors import RouterConfigInvalid

KEPT = 200
FEWEST = 20
"""Answers seen before it is known what is usual."""


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a second deployment is asked.

    Attributes:
        percentile: of the answers' times after which it is, above 0 and below 100.
        share: hedges as a part of all calls, at most.
        least_s: never earlier than this, seconds.
    """

    percentile: float = 95.0
    share: float = 0.05
    least_s: float = 0.2

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        if not 0 < self.percentile < 100 or not 0 < self.share <= 1 or not self.least_s >= 0:
            raise RouterConfigInvalid(
                f"{where}: give a percentile between 0 and 100, a share above 0 and up to 1, and a least_s of 0 or more"
            )


class Durations:
    """How long a deployment's last answers took, seconds."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=KEPT)
        self.mean = 0.0

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self.mean = seconds if not self._last else self.mean * 0.9 + seconds * 0.1
        self._last.append(seconds)

    def newest(self, count: int) -> tuple[float, ...]:
        """Return the times of the last `count` answers, the oldest first."""
        return tuple(self._last)[-count:]

    def percentile(self, percent: float) -> float | None:
        """Return what so many percent of them took at most; None: too few are known."""
        if len(self._last) < FEWEST:
            return None
        ordered = sorted(self._last)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class HedgeBudget:
    """Hedges left."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._level = 0.0

    def called(self) -> None:
        """A call came in."""
        self._level = min(10.0, self._level + self._share)

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        return self._level >= 1.0

    def take(self) -> None:
        """Take one."""
        self._level -= 1.0
