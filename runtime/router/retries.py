"""A budget for retries, so that they cannot multiply load.

Why: where much fails at once, every call that tries again is one more call. Each call adds a part of a retry, and so
does each second; a retry that finds none waits until there is one. Nothing is lost by it, it is only spread. Probes of
a breaker are not retries. Pure: the clock is an argument.
"""

from __future__ import annotations

PER_SECOND = 10.0
"""Retries that are there however few calls are made."""

MOST = 100.0
"""Retries that can be saved up."""


class RetryBudget:
    """Retries left.

    Args:
        ratio: retries that a call adds.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._level = MOST
        self._at = 0.0

    def called(self) -> None:
        """A call came in."""
        self._level = min(MOST, self._level + self._ratio)

    def take(self, now: float) -> float:
        """Take one; return the seconds to wait before it may be used."""
        self._level = min(MOST, self._level + max(0.0, now - self._at) * PER_SECOND)
        self._at = now
        self._level -= 1.0
        return max(0.0, -self._level / PER_SECOND)
