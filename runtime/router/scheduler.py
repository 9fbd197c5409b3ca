"""Late binding: calls wait in line and are bound to a deployment at the moment it has room.

Why: a call that is given to a deployment early waits behind it while another has room; one that is sent to see whether
there is room provokes a 429. Here a burst drains at the sum of all limits, and nothing is sent that would be refused.

The order is one for all models: priority, then first come first served. A call that finds no room keeps what it waits
for: those behind it get no lane that it could use, so a large call is not starved by small ones, nor one model by
another that shares its deployments. They do get lanes that it cannot use.

Laws kept here: 8 (a lane is taken only when every limit has room), 7 (a canceled call gives back what it took and
leaves the line), 11 (the line is bounded; one timer for all who wait). No wake-up is lost: whoever waits, waits for a
time (the timer), for a ticket under way (its ending looks again), or for somebody ahead. Decisions are synchronous on
one event loop: a single writer, no locks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from bisect import insort
from collections.abc import Callable

from .lane import Lane, Route, Ticket

SOONEST_S = 0.0005


class Unplaceable(Exception):
    """A call needs more tokens than any of its deployments allows a minute."""


class NobodyLeft(Exception):
    """All deployments refuse the key or have no quota: waiting does not help."""


class LineFull(Exception):
    """More calls wait than are allowed to."""


class LineClosed(Exception):
    """The router was closed while the call waited."""


class _Waiter:
    __slots__ = ("avoid", "order", "place", "tokens")

    def __init__(
        self, order: tuple[int, int], tokens: float, avoid: frozenset[str], place: asyncio.Future[Ticket]
    ) -> None:
        self.order = order
        self.tokens = tokens
        self.avoid = avoid
        self.place = place


class Scheduler:
    """The line.

    Args:
        clock: seconds, of the event loop that timers go by.
        most: calls that may wait.
    """

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        self.clock = clock
        self.waiting = 0
        self._most = most
        self._lines: dict[tuple[Route, ...], list[_Waiter]] = {}
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    def number(self) -> int:
        """Return a place in the order; a call keeps its own over all of its attempts."""
        return next(self._numbers)

    async def acquire(
        self, routes: tuple[Route, ...], tokens: float, avoid: frozenset[str], order: tuple[int, int]
    ) -> Ticket:
        """Wait for room for a call.

        Args:
            routes: where it may go.
            tokens: an upper guess of what it takes.
            avoid: deployments to use only if no other is up: they failed it already.
            order: (minus its priority, its number).

        Raises:
            Unplaceable: it is larger than every limit.
            NobodyLeft: every deployment refuses the key.
            LineFull: too many wait.
            LineClosed: the router was closed.
        """
        if self.waiting >= self._most:
            raise LineFull
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(order, tokens, avoid, place)
        insort(self._lines.setdefault(routes, []), waiter, key=lambda one: one.order)
        self.waiting += 1
        self.dispatch()
        try:
            return await place
        except asyncio.CancelledError:
            line = self._lines.get(routes, [])
            if waiter in line:
                line.remove(waiter)
                self.waiting -= 1
                self.dispatch()
            elif place.done() and not place.cancelled() and place.exception() is None:
                place.result().dropped("canceled")
            raise

    def dispatch(self) -> None:
        """Bind every call that has room now; look again when the next one may have."""
        now, soonest = self.clock(), math.inf
        kept: set[Lane] = set()
        heads = [
            (line[0].order, number, routes, 0) for number, (routes, line) in enumerate(self._lines.items()) if line
        ]
        heapq.heapify(heads)
        while heads:
            _, number, routes, at = heapq.heappop(heads)
            if all(route.lane in kept for route in routes):
                continue
            line = self._lines[routes]
            waiter = line[at]
            fitting = [route for route in routes if route.lane.fits(waiter.tokens)]
            if waiter.place.done():
                self._leave(line, at)
            elif not fitting:
                self._leave(line, at).set_exception(Unplaceable())
            elif all(route.lane.refused(now) for route in fitting):
                self._leave(line, at).set_exception(NobodyLeft())
            else:
                wanted = _wanted(fitting, waiter, now)
                waits = {route.lane: route.lane.wait(waiter.tokens, now) for route in fitting}
                ready = [route for route in wanted if waits[route.lane] == 0.0 and route.lane not in kept]
                if ready:
                    lane = min(ready, key=_load).lane
                    self._leave(line, at).set_result(lane.take(waiter.tokens, self.clock, self.dispatch))
                else:
                    kept.update(route.lane for route in wanted)
                    soonest = min([soonest, *(wait for wait in waits.values() if wait)])
                    at += 1
            if at < len(line):
                heapq.heappush(heads, (line[at].order, number, routes, at))
        for routes in [routes for routes, line in self._lines.items() if not line]:
            del self._lines[routes]
        self._look_again(soonest)

    def close(self) -> None:
        """Turn everybody away."""
        self._look_again(math.inf)
        lines, self._lines, self.waiting = self._lines, {}, 0
        for waiter in itertools.chain.from_iterable(lines.values()):
            if not waiter.place.done():
                waiter.place.set_exception(LineClosed())

    def _leave(self, line: list[_Waiter], at: int) -> asyncio.Future[Ticket]:
        self.waiting -= 1
        return line.pop(at).place

    def _look_again(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(after_s, SOONEST_S), self.dispatch)


def _wanted(fitting: list[Route], waiter: _Waiter, now: float) -> list[Route]:
    """Return where a call should go: the lowest tier that is up, and there where it has not failed yet."""
    up = [route for route in fitting if not route.lane.down(now)]
    candidates = [route for route in up if route.lane.name not in waiter.avoid] or up
    tier = min((route.tier for route in candidates), default=0)
    return [route for route in candidates if route.tier == tier] or fitting


def _load(route: Route) -> tuple[float, float]:
    return (route.lane.in_flight / route.weight, route.lane.served / route.weight)
