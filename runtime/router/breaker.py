"""Leaving a deployment alone while it fails, and asking it again with single calls.

closed -> open after failures in a row (or at once, for a key that is refused) -> half open when the pause is over: one
probe -> closed if it succeeds, else open for twice as long. While it is not closed only the probe's end counts: calls
sent before it opened say nothing new. Pure: the clock is an argument.
"""

from __future__ import annotations

from .config import BreakerPolicy
from .failures import Refusal

REFUSED_PAUSE_S = 60.0
"""How long a deployment whose key or quota is refused is left alone."""


class Breaker:
    """The state of one deployment. `refusal` is the last failure, None when all is well."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.failures = 0
        self.is_open = False
        self.until = 0.0
        self.probing = False
        self.refusal: Refusal | None = None
        self._pause = policy.pause_s

    def state(self, now: float) -> str:
        """Return closed, open or half_open."""
        if not self.is_open:
            return "closed"
        return "open" if now < self.until else "half_open"

    def wait(self, now: float) -> float | None:
        """Return the seconds until a call may pass; 0: now; None: when the probe under way is back."""
        if not self.is_open:
            return 0.0
        if now < self.until:
            return self.until - now
        return None if self.probing else 0.0

    def pass_through(self) -> bool:
        """A call passes; return whether it is the probe."""
        self.probing = self.is_open
        return self.probing

    def succeed(self, *, probe: bool) -> None:
        """The deployment answered."""
        if self.is_open and not probe:
            return
        self.failures, self.is_open, self.probing, self.refusal = 0, False, False, None
        self._pause = self.policy.pause_s

    def fail(self, now: float, refusal: Refusal, *, probe: bool) -> None:
        """The deployment failed."""
        self.release(probe=probe)
        refused = refusal.kind in ("quota", "refused")
        if self.is_open and not probe and not refused:
            return
        self.failures += 1
        self.refusal = refusal
        if refused or probe or self.failures >= self.policy.failures:
            self.is_open = True
            self.until = now + (REFUSED_PAUSE_S if refused else self._pause)
            self._pause = min(self._pause * 2, self.policy.longest_pause_s)

    def release(self, *, probe: bool) -> None:
        """The call was given up and says nothing about the deployment."""
        if probe:
            self.probing = False
