"""Late binding: calls wait in one line per model and are bound to a deployment at the moment it has room.

Why: a call that is given to a deployment early waits behind it while another has room; one that is sent to see whether
there is room provokes a 429. Here a burst drains at the sum of all limits, and nothing is sent that would be refused.

Laws kept here: 8 (a lane is taken only when every limit has room), 7 (a canceled call gives back what it took, and
leaves the line), 11 (one timer for all who wait). Decisions are synchronous on one
event loop: a single writer, no locks.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence

from .breaker import Breaker
from .bucket import RequestBucket, Reservation, TokenWindow
from .config import Deployment


class Unplaceable(Exception):
    """A call needs more tokens than any of its deployments allows a minute."""


class Lane:
    """A deployment at work: what it may still take, and how it fares."""

    def __init__(self, deployment: Deployment, now: float) -> None:
        limits = deployment.limits
        self.deployment = deployment
        self.breaker = Breaker(deployment.breaker)
        self.in_flight = 0
        self.served = 0
        self.paused_until = 0.0
        self.outcomes: dict[str, int] = {}
        self._requests = RequestBucket(limits.requests_per_min * limits.share, now) if limits.requests_per_min else None
        self.tokens = TokenWindow(limits.tokens_per_min * limits.share) if limits.tokens_per_min else None
        self._places = max(1, int(limits.concurrency * limits.share)) if limits.concurrency else None

    def wait(self, tokens: float, now: float) -> float | None:
        """Return the seconds until a call fits; 0: now; None: when another one ends; infinity: never."""
        pause = self.breaker.wait(now)
        if pause is None or (self._places is not None and self.in_flight >= self._places):
            return None
        parts = [pause, self.paused_until - now]
        if self._requests is not None:
            parts.append(self._requests.wait(now))
        if self.tokens is not None:
            parts.append(self.tokens.wait(tokens, now))
        return max(0.0, *parts)

    def take(self, tokens: float, now: float) -> Ticket:
        """Take the room for a call."""
        self.breaker.pass_through()
        self.in_flight += 1
        self.served += 1
        if self._requests is not None:
            self._requests.take(now)
        return Ticket(self, self.tokens.reserve(tokens, now) if self.tokens is not None else None)

    def pause(self, seconds: float, now: float) -> None:
        """Send nothing for a while: the provider asked for it."""
        self.paused_until = max(self.paused_until, now + seconds)


class Ticket:
    """The right to send one call to one deployment. `give_back` exactly once counts; more do nothing."""

    __slots__ = ("_reservation", "lane", "open")

    def __init__(self, lane: Lane, reservation: Reservation | None) -> None:
        self.lane = lane
        self.open = True
        self._reservation = reservation

    def give_back(self, outcome: str, tokens: int | None = None) -> None:
        """The call is over. `tokens`: what it used; None: not known, the estimate stands."""
        if not self.open:
            return
        self.open = False
        self.lane.in_flight -= 1
        self.lane.outcomes[outcome] = self.lane.outcomes.get(outcome, 0) + 1
        if tokens is not None and self._reservation is not None and self.lane.tokens is not None:
            self.lane.tokens.settle(self._reservation, tokens)


class _Waiter:
    __slots__ = ("avoid", "number", "place", "priority", "tokens")

    def __init__(
        self, tokens: float, avoid: frozenset[str], priority: int, number: int, place: asyncio.Future[Ticket]
    ) -> None:
        self.tokens = tokens
        self.avoid = avoid
        self.priority = priority
        self.number = number
        self.place = place


class Scheduler:
    """The lines of all models.

    Args:
        lanes: model -> where its calls may go.
        clock: seconds, monotonic.
    """

    def __init__(self, lanes: Mapping[str, Sequence[Lane]], clock: Callable[[], float]) -> None:
        self.lanes = lanes
        self.clock = clock
        self._lines: dict[str, list[_Waiter]] = {model: [] for model in lanes}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return sum(map(len, self._lines.values()))

    async def acquire(self, model: str, tokens: float, avoid: frozenset[str], priority: int = 0) -> Ticket:
        """Wait for room for a call.

        Args:
            model: a key of `lanes`.
            tokens: an upper guess of what it takes.
            avoid: deployments to use only if no other may be used: they failed it already.
            priority: higher goes first.

        Raises:
            Unplaceable: it is larger than every limit.
        """
        if all(lane.wait(tokens, self.clock()) == math.inf for lane in self.lanes[model]):
            raise Unplaceable
        self._count += 1
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(tokens, avoid, priority, self._count, place)
        line = self._lines[model]
        insort(line, waiter, key=lambda one: (-one.priority, one.number))
        self.dispatch()
        try:
            return await place
        except asyncio.CancelledError:
            if waiter in line:
                line.remove(waiter)
            elif place.done() and not place.cancelled():
                place.result().lane.breaker.release()
                place.result().give_back("canceled")
            self.dispatch()
            raise

    def dispatch(self) -> None:
        """Bind every call that has room now; look again when the next one may have."""
        now = self.clock()
        soonest = math.inf
        for model, line in self._lines.items():
            while line:
                wait, lane = self._choose(self.lanes[model], line[0], now)
                if lane is None:
                    soonest = min(soonest, wait)
                    break
                waiter = line.pop(0)
                if not waiter.place.done():
                    waiter.place.set_result(lane.take(waiter.tokens, now))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if soonest < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(soonest, 0.0005), self.dispatch)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _choose(self, lanes: Sequence[Lane], waiter: _Waiter, now: float) -> tuple[float, Lane | None]:
        """Return the lane to use now, or the seconds until there may be one."""
        soonest, ready = math.inf, []
        for tier in sorted({lane.deployment.tier for lane in lanes}):
            members = [lane for lane in lanes if lane.deployment.tier == tier]
            for lane in members:
                wait = lane.wait(waiter.tokens, now)
                if wait == 0.0:
                    ready.append(lane)
                elif wait is not None:
                    soonest = min(soonest, wait)
            if ready or any(lane.breaker.state(now) != "open" for lane in members):
                break
        fresh = [lane for lane in ready if lane.deployment.name not in waiter.avoid]
        if not fresh and any(
            lane.deployment.name not in waiter.avoid and lane.breaker.state(now) == "closed" for lane in lanes
        ):
            return (soonest, None)
        chosen = min(fresh or ready, key=_load, default=None)
        return (soonest, chosen)


def _load(lane: Lane) -> tuple[float, float]:
    weight = lane.deployment.weight
    return ((lane.in_flight + 1) / weight, lane.served / weight)
