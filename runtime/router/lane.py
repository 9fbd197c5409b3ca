"""A deployment at work: what it may still take, and how it fares.

A ticket is the right to send one call there. However the call ends, exactly one of the ticket's endings counts: it
settles the limits, draws the conclusions, and has the scheduler look again; so no wake-up depends on who remembers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .breaker import Breaker
from .bucket import WINDOW_S, RequestLimit, Reservation, TokenLimit
from .connection import Answer
from .deployment import Deployment
from .failures import Refusal
from .hedging import Durations
from .holding import Hold, Holding
from .pace import Pace
from .protocol import LONGEST_PAUSE_S
from .snapshot import LaneSnapshot

FIRST_PAUSE_S = 0.5
"""How long a deployment pauses that refused without saying how long; doubles with every refusal in a row."""

LATENCIES = 60
"""Answers whose times are shown, the newest."""


class ToldLimits(NamedTuple):
    """Limits a minute that a provider has told of itself; None: it has not."""

    requests: float | None = None
    tokens: float | None = None


NOTHING_TOLD = ToldLimits()


class Prospect(NamedTuple):
    """What a lane will take: from `in_s` seconds on `at_once` calls, and then `rate` a second."""

    in_s: float
    at_once: float
    rate: float


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
        self.pace = Pace(known=self.requests is not None)
        self.durations = Durations()
        self._tokens_per_call = 0.0
        self.places = max(1, int(limits.concurrency * limits.share)) if limits.concurrency else math.inf
        self.told = NOTHING_TOLD
        self.holding: Holding | None = None
        self._limited = 0
        self._refused_at = -math.inf

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

    def state(self, now: float) -> str:
        """Say in words how it fares: since when it is down, and why, and when it is asked again."""
        breaker = self.breaker
        if breaker.is_open and breaker.refusal is not None:
            again = f"asked again in {self.up_in(now):.1f} s"
            return f"{self.name} (down for {now - breaker.since:.0f} s: {breaker.refusal.message}; {again})"
        if self.paused_until > now:
            return f"{self.name} (asked to wait {self.paused_until - now:.1f} s)"
        return f"{self.name} ({breaker.state(now)}: {breaker.refusal.message if breaker.refusal else 'busy'})"

    def snapshot(self, now: float) -> LaneSnapshot:
        """Return how it fares, as a value."""
        breaker = self.breaker
        return LaneSnapshot(
            deployment=self.name,
            provider=self.deployment.provider,
            model=self.deployment.model,
            breaker=breaker.state(now),
            why=breaker.refusal.message if breaker.refusal is not None else "",
            in_flight=self.in_flight,
            tokens_used=self.tokens.used if self.tokens else 0.0,
            outcomes=dict(self.outcomes),
            down_s=now - breaker.since if breaker.is_open else None,
            paused_s=max(0.0, self.paused_until - now),
            requests_per_min=self.requests.limit if self.requests else None,
            tokens_per_min=self.tokens.limit if self.tokens else None,
            concurrency=None if self.places == math.inf else int(self.places),
            rate=None if self.pace.found == math.inf else self.pace.found,
            latencies=self.durations.newest(LATENCIES),
        )

    def wait(self, tokens: float, now: float) -> float | None:
        """Return the seconds until a call fits; 0: now; None: when another one ends."""
        if self.in_flight >= self.places:
            return None
        by_request = self.requests.wait(now) if self.requests is not None else 0.0
        by_token = self.tokens.wait(tokens, now) if self.tokens is not None else 0.0
        wait = max(self.up_in(now), by_request, by_token, self.pace.wait(now))
        if wait > 0.0 or self.holding is None:
            return wait
        return self.holding.wait(tokens, self.in_flight, self.breaker.is_open, now)

    def up_in(self, now: float) -> float:
        """Return the seconds until it may be asked again at all; 0: it is up."""
        return max(self.breaker.wait(now), self.paused_until - now, 0.0)

    def prospect(self, tokens: float, now: float) -> Prospect:
        """Say what it will take of calls of this size, as far as limits are known: not less."""
        at_once, rate = math.inf, self.pace.found
        if self.requests is not None:
            self.requests.wait(now)
            at_once, rate = max(0.0, self.requests.level), min(rate, self.requests.rate)
        if self.tokens is not None:
            size = max(1.0, min(tokens, self._tokens_per_call or tokens))
            room = self.tokens.limit - self.tokens.used - self.tokens.foreign(now)
            at_once, rate = min(at_once, max(0.0, room) / size), min(rate, self.tokens.limit / WINDOW_S / size)
        if self.places < math.inf:
            at_once = min(at_once, max(0.0, self.places - self.in_flight))
            rate = min(rate, self.places / self.durations.mean if self.durations.mean else math.inf)
        return Prospect(self.up_in(now), at_once, rate)

    def take(self, tokens: float, clock: Callable[[], float], freed: Callable[[], None]) -> Ticket:
        """Take the room for a call. `freed` is called when it is given back."""
        now = clock()
        probe = self.breaker.pass_through(now)
        self.in_flight += 1
        self.served += 1
        self.pace.take(now)
        if self.requests is not None:
            self.requests.take(now)
        hold = self.holding.take(tokens) if self.holding is not None else None
        return Ticket(self, self.tokens.reserve(tokens, now) if self.tokens else None, probe, clock, freed, hold)

    def learn(self, headers: Mapping[str, str], ticket: Ticket, now: float) -> None:
        """Read `x-ratelimit-*`: the provider tells its limits, and how much is left, before it says 429."""
        limits, before, told_of = self.deployment.limits, self.told, self.deployment.spoken.limit
        if (told := told_of(headers, "requests")) is not None:
            limit, remaining = self._bounded(told.limit, limits.requests_per_min), told.remaining
            if self.requests is None:
                self.requests = RequestLimit(limit, limits.burst_s, level=remaining or 0.0, now=now)
            self.requests.told(limit, remaining, now - ticket.at, self.in_flight)
            self.pace.known(self.requests.rate)
            if limit != self.told.requests:
                self.told = ToldLimits(limit, self.told.tokens)
        if (told := told_of(headers, "tokens")) is not None:
            limit, remaining = self._bounded(told.limit, limits.tokens_per_min), told.remaining
            if limit != self.told.tokens:
                self.told = ToldLimits(self.told.requests, limit)
            self.tokens = self.tokens or TokenLimit(limit)
            self.tokens.told(limit, remaining if limits.share == 1 else None, ticket.used, ticket.at)
        if self.told is not before:
            self._learned()

    def allow(self, requests: float | None, tokens: float | None, now: float) -> None:
        """Take over limits a minute that the provider told somebody else."""
        if requests is not None:
            self.requests = self.requests or RequestLimit(requests, self.deployment.limits.burst_s, level=0.0, now=now)
            self.requests.told(requests, None, 0.0)
            self.pace.known(self.requests.rate)
        if tokens is not None:
            self.tokens = self.tokens or TokenLimit(tokens)
            self.tokens.told(tokens, None, 0.0, now)
        self.told = ToldLimits(requests or self.told.requests, tokens or self.told.tokens)

    def _learned(self) -> None:
        if self.holding is not None:
            self.holding.learned()

    def _bounded(self, told: float, configured: float | None) -> float:
        limits = self.deployment.limits
        return limits.share * (min(told, configured) if limits.fixed and configured else told)

    def used(self, tokens: float) -> None:
        """A call took so many tokens."""
        self._tokens_per_call = 0.9 * self._tokens_per_call + 0.1 * tokens if self._tokens_per_call else tokens

    def conclude(self, refusal: Refusal | None, now: float, *, probe: bool, at: float = math.inf) -> None:
        """Draw the conclusions of an attempt that was sent at `at` and ended; no refusal: it was answered."""
        if refusal is None or refusal.kind in ("caller", "unfit"):
            self._limited = 0
            if probe:
                self.pace.back(now)
            self.breaker.succeed(probe=probe)
            self.pace.answered()
            if probe:
                self._learned()
            return
        pause = refusal.retry_after_s
        if refusal.kind == "limited":
            self.breaker.release(now, probe=probe)
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._limited) if pause is None else pause
            again = self.paused_until > now or at < self._refused_at
            self.pace.refused(now, now + pause, again=again)
            if not again:
                self._limited, self._refused_at = min(self._limited + 1, 20), now
        else:
            self.breaker.fail(now, refusal, probe=probe)
        if pause:
            self.paused_until = max(self.paused_until, now + pause)
            if self.requests is not None and refusal.kind == "limited":
                self.requests.drained(self.paused_until)
        self._learned()

    def requests_left(self, now: float) -> float | None:
        """Return how many requests the provider can allow at once now, below 0 if it refused; None: unknown."""
        return self.requests.left_at(now) if self.requests is not None else None


class Ticket:
    """The right to send one call to one deployment. The first ending counts; more do nothing.

    `begun`: the call, where it was sent at the moment it was bound and its answer has not been asked for yet.
    """

    __slots__ = (
        "_clock",
        "_freed",
        "_hold",
        "_reservation",
        "at",
        "begun",
        "lane",
        "open",
        "probe",
        "requests",
        "sent",
        "used",
    )

    def __init__(
        self,
        lane: Lane,
        reservation: Reservation | None,
        probe: bool,
        clock: Callable[[], float],
        freed: Callable[[], None],
        hold: Hold | None = None,
    ) -> None:
        self.lane = lane
        self.requests = lane.requests
        self.open = True
        self.sent = False
        self.begun: Answer | None = None
        self.probe = probe
        self.at = clock()
        self.used = lane.tokens.used if lane.tokens is not None else math.inf
        self._reservation = reservation
        self._clock = clock
        self._freed = freed
        self._hold = hold

    def left(self) -> None:
        """The call is on its way."""
        if not self.sent:
            self.sent = True
            if self.requests is not None:
                self.requests.left(self._clock())
            if self._hold is not None:
                self._hold.left(self._clock())

    def told(self, headers: Mapping[str, str]) -> None:
        """The provider's headers are here."""
        self.lane.learn(dict(headers), self, self._clock())

    def answered(self, tokens: int | None, refusal: Refusal | None = None) -> None:
        """The call is over, with an answer or a refusal.

        Args:
            tokens: what it used; None: not known, the estimate stands.
            refusal: how it failed.
        """
        if self.open:
            self.lane.conclude(refusal, self._clock(), probe=self.probe, at=self.at)
            if refusal is None and tokens is not None:
                self.lane.used(tokens)
            self._end(refusal.kind if refusal is not None else "ok", tokens)

    def dropped(self, outcome: str, tokens: int | None = None) -> None:
        """The caller gave up: nothing is learned of the deployment."""
        if self.open:
            self.lane.breaker.release(self._clock(), probe=self.probe)
            if self.probe:
                self.lane._learned()
            self._end(outcome, tokens)

    def _end(self, outcome: str, tokens: int | None) -> None:
        self.left()
        self.open = False
        if self.begun is not None:
            self.begun.close()
        self.lane.in_flight -= 1
        self.lane.outcomes[outcome] = self.lane.outcomes.get(outcome, 0) + 1
        if tokens is not None and self._reservation is not None and self.lane.tokens is not None:
            self.lane.tokens.settle(self._reservation, tokens)
        if self._hold is not None:
            self._hold.over(tokens)
        self._freed()


class Route(NamedTuple):
    """A lane as one model uses it."""

    lane: Lane
    weight: float
    tier: int
