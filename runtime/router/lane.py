"""A deployment at work: what it may still take, and how it fares.

A ticket is the right to send one call there. However the call ends, exactly one of the ticket's endings counts: it
settles the limits, draws the conclusions, and has the scheduler look again; so no wake-up depends on who remembers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .breaker import Breaker
from .bucket import RequestLimit, Reservation, TokenLimit
from .config import Deployment
from .failures import LONGEST_PAUSE_S, Refusal

FIRST_PAUSE_S = 0.5
"""How long a deployment pauses that refused without saying how long; doubles with every refusal in a row."""


class Lane:
    """The live side of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        limits = deployment.limits
        self.deployment = deployment
        self.breaker = Breaker(deployment.breaker)
        self.in_flight = 0
        self.served = 0
        self.paused_until = 0.0
        self.outcomes: dict[str, int] = {}
        self.tokens = TokenLimit(limits.tokens_per_min * limits.share) if limits.tokens_per_min else None
        self.requests = (
            RequestLimit(limits.requests_per_min * limits.share, limits.burst_s) if limits.requests_per_min else None
        )
        self._places = max(1, int(limits.concurrency * limits.share)) if limits.concurrency else math.inf
        self._limited = 0

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.deployment.name

    def fits(self, tokens: float) -> bool:
        """Say whether a call of this size can ever be sent here."""
        return self.tokens is None or tokens <= self.tokens.limit

    def down(self, now: float) -> bool:
        """Say whether it is to be left alone now: its breaker is open, or it asked for a pause."""
        return self.breaker.wait(now) != 0.0 or self.paused_until > now

    def refused(self, now: float) -> bool:
        """Say whether its key or quota is refused: waiting does not help."""
        refusal = self.breaker.refusal
        return refusal is not None and refusal.kind in ("quota", "refused") and self.breaker.state(now) == "open"

    def wait(self, tokens: float, now: float) -> float | None:
        """Return the seconds until a call fits; 0: now; None: when another one ends."""
        pause = self.breaker.wait(now)
        if pause is None or self.in_flight >= self._places:
            return None
        by_request = self.requests.wait(now) if self.requests is not None else 0.0
        by_token = self.tokens.wait(tokens, now) if self.tokens is not None else 0.0
        return max(pause, self.paused_until - now, by_request, by_token, 0.0)

    def take(self, tokens: float, clock: Callable[[], float], freed: Callable[[], None]) -> Ticket:
        """Take the room for a call. `freed` is called when it is given back."""
        now = clock()
        probe = self.breaker.pass_through()
        self.in_flight += 1
        self.served += 1
        if self.requests is not None:
            self.requests.take(now)
        return Ticket(self, self.tokens.reserve(tokens, now) if self.tokens else None, probe, clock, freed)

    def learn(self, headers: Mapping[str, str], ticket: Ticket, now: float) -> None:
        """Read `x-ratelimit-*`: the provider tells its limits, and how much is left, before it says 429."""
        share, burst_s = self.deployment.limits.share, self.deployment.limits.burst_s
        if limit := _number(headers, "x-ratelimit-limit-requests"):
            remaining = _number(headers, "x-ratelimit-remaining-requests")
            if self.requests is None:
                self.requests = RequestLimit(limit * share, burst_s, level=remaining or 0.0, now=now)
            self.requests.told(limit * share, remaining, now - ticket.at)
        if limit := _number(headers, "x-ratelimit-limit-tokens"):
            self.tokens = self.tokens or TokenLimit(limit * share)
            remaining = _number(headers, "x-ratelimit-remaining-tokens") if share == 1 else None
            self.tokens.told(limit * share, remaining, ticket.used, ticket.at)

    def conclude(self, refusal: Refusal | None, now: float, *, probe: bool) -> None:
        """Draw the conclusions of an attempt that ended; no refusal: it was answered."""
        if refusal is None or refusal.kind in ("caller", "unfit"):
            self._limited = 0
            self.breaker.succeed(probe=probe)
            return
        pause = refusal.retry_after_s
        if refusal.kind == "limited":
            self.breaker.release(probe=probe)
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._limited) if pause is None else pause
            self._limited = min(self._limited + 1, 20) if self.paused_until <= now else self._limited
        else:
            self.breaker.fail(now, refusal, probe=probe)
        if pause:
            self.paused_until = max(self.paused_until, now + pause)
            if self.requests is not None and refusal.kind == "limited":
                self.requests.drained(self.paused_until)


class Ticket:
    """The right to send one call to one deployment. The first ending counts; more do nothing."""

    __slots__ = ("_clock", "_freed", "_reservation", "at", "lane", "open", "probe", "used")

    def __init__(
        self,
        lane: Lane,
        reservation: Reservation | None,
        probe: bool,
        clock: Callable[[], float],
        freed: Callable[[], None],
    ) -> None:
        self.lane = lane
        self.open = True
        self.probe = probe
        self.at = clock()
        self.used = lane.tokens.used if lane.tokens is not None else math.inf
        self._reservation = reservation
        self._clock = clock
        self._freed = freed

    def told(self, headers: Mapping[str, str]) -> None:
        """The provider's headers are here."""
        self.lane.learn(headers, self, self._clock())

    def answered(self, tokens: int | None, refusal: Refusal | None = None) -> None:
        """The call is over, with an answer or a refusal.

        Args:
            tokens: what it used; None: not known, the estimate stands.
            refusal: how it failed.
        """
        if self.open:
            self.lane.conclude(refusal, self._clock(), probe=self.probe)
            self._end(refusal.kind if refusal is not None else "ok", tokens)

    def dropped(self, outcome: str, tokens: int | None = None) -> None:
        """The caller gave up: nothing is learned of the deployment."""
        if self.open:
            self.lane.breaker.release(probe=self.probe)
            self._end(outcome, tokens)

    def _end(self, outcome: str, tokens: int | None) -> None:
        self.open = False
        self.lane.in_flight -= 1
        self.lane.outcomes[outcome] = self.lane.outcomes.get(outcome, 0) + 1
        if tokens is not None and self._reservation is not None and self.lane.tokens is not None:
            self.lane.tokens.settle(self._reservation, tokens)
        self._freed()


class Route(NamedTuple):
    """A lane as one model uses it."""

    lane: Lane
    weight: float
    tier: int


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return max(0.0, float(headers[name]))
    except (KeyError, ValueError):
        return None
