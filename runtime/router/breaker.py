"""Leaving a deployment alone while it fails, and asking it again with single calls.

closed -> open after failures in a row (or at once, for a key that is refused) -> half open when the pause is over: one
probe -> closed if it succeeds, else open for twice as long. While it is not closed only the probe's end counts: calls
sent before it opened say nothing new. A probe that takes long holds up the next one for `PROBE_S` only. Pure: the
clock is an argument.
"""

from __future__ import annotations

from .deployment import BreakerPolicy
from .failures import Refusal

REFUSED_PAUSE_S = 60.0
"""How long a deployment whose key or quota is refused is left alone."""

PROBE_S = 5.0
"""How long a probe may be out before another one goes, seconds."""


class Breaker:
    """The state of one deployment.

    Attributes:
        refusal: the last failure; None when all is well.
        since: down from then.
        pause_s: how long it stays open the next time.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.failures = 0
        self.is_open = False
        self.until = 0.0
        self.since = 0.0
        self.probing = 0
        self.refusal: Refusal | None = None
        self.pause_s = policy.pause_s

    def state(self, now: float) -> str:
        """Return closed, open or half_open."""
        if not self.is_open:
            return "closed"
        return "open" if now < self.until and not self.probing else "half_open"

    def wait(self, now: float) -> float:
        """Return the seconds until a call may pass; 0: now."""
        return max(0.0, self.until - now) if self.is_open else 0.0

    def pass_through(self, now: float) -> bool:
        """A call passes; return whether it is a probe."""
        if self.is_open:
            self.probing += 1
            self.until = now + PROBE_S
        return self.is_open

    def succeed(self, *, probe: bool) -> None:
        """The deployment answered."""
        self.probing -= probe
        if self.is_open and not probe:
            return
        self.failures, self.is_open, self.refusal = 0, False, None
        self.pause_s = self.policy.pause_s

    def fail(self, now: float, refusal: Refusal, *, probe: bool) -> None:
        """The deployment failed."""
        self.probing -= probe
        refused = refusal.kind in ("quota", "refused")
        if self.is_open and not probe and not refused:
            return
        self.since = self.since if self.failures else now
        self.failures += 1
        self.refusal = refusal
        if refused or probe or self.failures >= self.policy.failures:
            self.is_open = True
            self.until = now + (REFUSED_PAUSE_S if refused else self.pause_s)
            self.pause_s = min(self.pause_s * 2, self.policy.longest_pause_s)

    def trip(self, now: float) -> None:
        """Open, where the failures so far are enough to know."""
        if not self.is_open:
            self.is_open, self.until = True, now + self.pause_s

    def hear(self, since: float, until: float, pause_s: float, refusal: Refusal) -> None:
        """Another worker has found it down."""
        self.failures = max(self.failures, self.policy.failures)
        self.is_open, self.since, self.pause_s, self.refusal = True, since, pause_s, refusal
        self.until = max(self.until, until) if self.probing else until

    def close(self) -> None:
        """Another worker has found it up."""
        if self.is_open:
            self.failures, self.is_open, self.refusal = 0, False, None
            self.pause_s = self.policy.pause_s

    def release(self, now: float, *, probe: bool) -> None:
        """The call was given up and says nothing about the deployment: another probe may go."""
        self.probing -= probe
        if probe and self.is_open and not self.probing:
            self.until = min(self.until, now)
