"""A rate that is found by trying, where nobody says what a provider allows.

Why: without a limit a burst is refused; with a wrong one it is refused for ever. So where no limit is known, calls
begin slowly and their rate doubles in a third of a second while they are answered; where a 429 comes although there
was room, what was answered since the last one, over the time it took, is the rate that the provider bears. From a
tenth below that the rate grows slowly, so that it also finds a limit that was raised. Pure: the clock is an argument.
"""

from __future__ import annotations

import math

FIRST = 10.0
"""Calls a second where nothing is known, and calls that leave at once."""

LEAST = 0.02
DOUBLING = 2.0
"""Added to the rate by every answer until the first refusal: e-fold in half a second."""

GROWTH = 0.02
"""Added after it, as a part of the rate a second."""

TOLD = 0.005
"""Added after it by every answer that tells a limit above the rate, as a part of that limit."""

BELOW = 0.9
TELLING_S = 0.25
"""A shorter time tells how much a provider takes at once, not how much it bears: the search begins again."""

BURST_S = 0.1


class Pace:
    """The rate of one deployment's calls; infinite while limits are known and hold.

    Args:
        known: whether the limit on requests is known.
    """

    def __init__(self, *, known: bool) -> None:
        self.rate = math.inf if known else FIRST
        self._refused = False
        self._level = FIRST
        self._most = FIRST
        self._at = 0.0
        self._since = -math.inf
        self._sent = 0
        self._pressed = False

    @property
    def found(self) -> float:
        """The rate that was found; infinite while nothing is."""
        return self.rate if self._refused else math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until one more may go; 0: now."""
        if self.rate == math.inf:
            return 0.0
        self._advance(now)
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) / self.rate + 1e-6

    def take(self, now: float) -> None:
        """One goes."""
        if self._since == -math.inf:
            self._since = now
        self._sent += 1
        if self.rate < math.inf:
            self._advance(now)
            self._level -= 1.0
            self._pressed = self._level < 1.0

    def answered(self) -> None:
        """One was answered."""
        if self.rate < math.inf and self._pressed:
            self.rate += GROWTH if self._refused else DOUBLING

    def back(self, now: float) -> None:
        """The deployment was down, and is back: the time in between says nothing about what it bears."""
        self._sent, self._since = 0, now

    def refused(self, now: float, until: float, *, again: bool) -> None:
        """One was refused, with a pause; `again`: it was on its way when another one was."""
        self._sent -= 1
        if again:
            return
        took = now - self._since
        self._refused = took >= TELLING_S
        if self._refused:
            self.rate = max(LEAST, min(BELOW * self._sent / took, self.rate))
        else:
            self.rate = min(self.rate, FIRST)
        self._sent, self._since = 0, now
        self._level, self._most, self._at = 0.0, 1.0, until

    def known(self, per_s: float) -> None:
        """An answer tells the limit: there is nothing to find, unless calls were refused below it."""
        if self._refused and self.rate <= per_s:
            self.rate += TOLD * per_s
        else:
            self.rate, self._refused = math.inf, False

    def _advance(self, now: float) -> None:
        if now > self._at:
            most = max(self._most, self.rate * BURST_S)
            self._level = min(most, self._level + (now - self._at) * self.rate)
            self._at = now
