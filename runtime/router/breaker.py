"""Leaving a deployment alone while it fails, and asking it again with single calls.

closed -> open after failures in a row (or at once, for a key that is refused) -> half open when the pause is over: one
probe -> closed if it succeeds, else open for twice as long. Pure: the clock is an argument.
"""

from __future__ import annotations

from .config import BreakerPolicy

REFUSED_PAUSE_S = 60.0
"""How long a deployment whose key or quota is refused is left alone."""


class Breaker:
    """The state of one deployment. `since` is when it opened, None while closed."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.failures = 0
        self.since: float | None = None
        self.until = 0.0
        self.probing = False
        self.why = ""
        self._pause = policy.pause_s

    def state(self, now: float) -> str:
        """Return closed, open or half_open."""
        if self.since is None:
            return "closed"
        return "open" if now < self.until else "half_open"

    def wait(self, now: float) -> float | None:
        """Return the seconds until a call may pass; 0: now; None: when the probe under way is back."""
        if self.since is None:
            return 0.0
        if now < self.until:
            return self.until - now
        return None if self.probing else 0.0

    def pass_through(self) -> None:
        """A call passes; while not closed it is the probe."""
        self.probing = self.since is not None

    def succeed(self) -> None:
        """The deployment answered."""
        self.failures, self.since, self.probing, self._pause = 0, None, False, self.policy.pause_s

    def fail(self, now: float, why: str, *, refused: bool = False) -> None:
        """The deployment failed; `refused`: it will not get better by itself soon."""
        self.failures += 1
        self.why = why
        probe, self.probing = self.probing, False
        if refused or probe or (self.since is None and self.failures >= self.policy.failures):
            self.since = self.since if self.since is not None else now
            self.until = now + (REFUSED_PAUSE_S if refused else self._pause)
            self._pause = min(self._pause * 2, self.policy.longest_pause_s)

    def release(self) -> None:
        """The call was given up and says nothing about the deployment."""
        self.probing = False
