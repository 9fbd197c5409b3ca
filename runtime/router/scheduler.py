"""Late binding: calls wait in line and are bound to a deployment at the moment it has room.

Why: a call that is given to a deployment early waits behind it while another has room; one that is sent to see whether
there is room provokes a 429. Here a burst drains at the sum of all limits, and nothing is sent that would be refused.

The order is one for all models: priority, then tenants in turns by weight, then first come first served. A call that
finds no room keeps what it waits for: those behind it get no lane that it could use, so a large call is not starved by
small ones, nor one model by another that shares its deployments. They do get lanes that it cannot use.

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
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple

from .budget import Spent
from .lane import Lane, Route, Ticket

SOONEST_S = 0.0005

Order = tuple[float, ...]
"""(minus the priority, the tenant's turn, the number)"""

SAMPLE = 50
"""Calls of a line that are looked at to guess how large the others are."""

MOST_TENANTS = 10_000
"""Tenants whose turns are remembered before those whose turn is over are forgotten."""


class Unplaceable(Exception):
    """A call needs more tokens than any of its deployments allows a minute."""


class NobodyLeft(Exception):
    """All deployments refuse the key or have no quota: waiting does not help."""


class LineFull(Exception):
    """More calls wait than are allowed to."""


class LineClosed(Exception):
    """The router was closed while the call waited."""


class Waiting(NamedTuple):
    """Calls that wait: how many, the tokens of the first, and of all."""

    calls: int
    first: float
    tokens: float


class _Waiter:
    __slots__ = ("avoid", "bound", "check", "order", "place", "tokens")

    def __init__(
        self,
        order: Order,
        tokens: float,
        avoid: frozenset[str],
        place: asyncio.Future[Ticket],
        bound: Callable[[Ticket], None] | None,
        check: Callable[[], None] | None,
    ) -> None:
        self.order = order
        self.tokens = tokens
        self.avoid = avoid
        self.place = place
        self.bound = bound
        self.check = check

    def refused(self) -> bool:
        """Say whether it may not be sent any more; whoever waits is told then."""
        try:
            if self.check is not None:
                self.check()
        except Spent as spent:
            self.place.set_exception(spent)
            return True
        return False


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
        self._turns: dict[str, float] = {}
        self._turn = 0.0

    def number(self) -> int:
        """Return a number that rises."""
        return next(self._numbers)

    def order(self, priority: int, tenant: str, weight: float) -> Order:
        """Return a place in the order; a call keeps its own over all of its attempts.

        Tenants take turns: a tenant's calls are a turn apart (less for one with more weight), and a tenant that comes
        in begins at the turn that the line has reached, however many calls of others wait.
        """
        turn = max(self._turns.get(tenant, 0.0), self._turn) + 1.0 / weight
        self._turns[tenant] = turn
        if len(self._turns) > MOST_TENANTS:
            self._turns = {name: at for name, at in self._turns.items() if at > self._turn}
        return -priority, turn, self.number()

    def ahead(self, routes: tuple[Route, ...], order: Order) -> int:
        """Return how many calls go before one of this order that could take its place."""
        lanes = {route.lane for route in routes}
        return sum(
            bisect_left(line, order, key=_order)
            for others, line in self._lines.items()
            if any(route.lane in lanes for route in others)
        )

    def waiting_for(self, lane: Lane) -> Waiting:
        """Return which calls could use a lane; their tokens in all are a guess from the first of them."""
        lines = [line for routes, line in self._lines.items() if line and any(route.lane is lane for route in routes)]
        calls = sum(map(len, lines))
        if not calls:
            return Waiting(0, 0.0, 0.0)
        first = min((line[0] for line in lines), key=_order).tokens
        some = [waiter.tokens for line in lines for waiter in line[:SAMPLE]]
        return Waiting(calls, first, sum(some) / len(some) * calls)

    def expected(self, routes: tuple[Route, ...], tokens: float, order: Order) -> float:
        """Return the seconds until a call of this order is sent, if all goes well."""
        now, left = self.clock(), float(self.ahead(routes, order)) + 1.0
        prospects = sorted(
            (route.lane.prospect(tokens, now) for route in routes if route.lane.fits(tokens)),
            key=lambda prospect: prospect.in_s,
        )
        rate, at = 0.0, 0.0
        for prospect in prospects:
            if rate > 0 and left <= rate * (prospect.in_s - at):
                break
            left -= rate * (prospect.in_s - at) if rate else 0.0
            at = prospect.in_s
            left -= prospect.at_once
            rate += prospect.rate
            if left <= 0:
                return at
        return at + left / rate if rate > 0 else at

    def at_once(self, routes: tuple[Route, ...], tokens: float, avoid: frozenset[str], order: Order) -> Ticket | None:
        """Take room for a call that need not wait in line; None: there is none, or somebody waits for it."""
        if self._lines:
            waited_for = {route.lane for others, line in self._lines.items() if line for route in others}
            if any(route.lane in waited_for for route in routes):
                return None
        now = self.clock()
        fitting = [route for route in routes if route.lane.fits(tokens)]
        ready = [route for route in _wanted(fitting, avoid, now) if route.lane.wait(tokens, now) == 0.0]
        if not ready:
            return None
        self._turn = max(self._turn, order[1])
        return min(ready, key=_load).lane.take(tokens, self.clock, self.dispatch)

    async def acquire(
        self,
        routes: tuple[Route, ...],
        tokens: float,
        avoid: frozenset[str],
        order: Order,
        look: Callable[[], float | None] | None = None,
        bound: Callable[[Ticket], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> Ticket:
        """Wait for room for a call.

        Args:
            routes: where it may go.
            tokens: an upper guess of what it takes.
            avoid: deployments to use only if no other is up: they failed it already.
            order: its place; see `order`.
            look: called now and then while it waits; returns the seconds until the next time, None: never.
            bound: called at the moment that it is bound, before whoever waits goes on.
            check: called before that; may raise Spent.

        Raises:
            Unplaceable: it is larger than every limit.
            NobodyLeft: every deployment refuses the key.
            LineFull: too many wait.
            LineClosed: the router was closed.
            Spent: its budget was used up while it waited.
        """
        if self.waiting >= self._most:
            raise LineFull
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(order, tokens, avoid, place, bound, check)
        insort(self._lines.setdefault(routes, []), waiter, key=_order)
        self.waiting += 1
        self.dispatch()
        try:
            while look is not None and not place.done():
                next_s = look()
                if next_s is None:
                    break
                await asyncio.wait([place], timeout=next_s)
            return await place
        except BaseException:
            self._give_up(routes, waiter)
            raise

    def _give_up(self, routes: tuple[Route, ...], waiter: _Waiter) -> None:
        """Leave the line, or give back what was given at the same moment."""
        place, line = waiter.place, self._lines.get(routes, [])
        if place.done() and not place.cancelled() and place.exception() is None:
            place.result().dropped("canceled")
            return
        at = bisect_left(line, waiter.order, key=_order)
        while at < len(line) and line[at] is not waiter:
            at += 1
        if at < len(line):
            del line[at]
            self.waiting -= 1
            self.dispatch()

    def dispatch(self) -> None:
        """Bind every call that has room now; look again when the next one may have."""
        now = self.clock()
        kept: set[Lane] = set()
        down = {route.lane for routes in self._lines for route in routes if route.lane.down(now)}
        soonest = min((lane.up_in(now) for lane in down), default=math.inf)
        heads = [
            (line[0].order, number, routes, 0) for number, (routes, line) in enumerate(self._lines.items()) if line
        ]
        heapq.heapify(heads)
        while heads:
            _, number, routes, at = heapq.heappop(heads)
            if any(route.lane in kept for route in routes) and all(route.lane in kept | down for route in routes):
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
                wanted = _wanted(fitting, waiter.avoid, now)
                waits = {route.lane: route.lane.wait(waiter.tokens, now) for route in fitting}
                ready = [route for route in wanted if waits[route.lane] == 0.0 and route.lane not in kept]
                if ready and waiter.refused():
                    self._leave(line, at)
                elif ready:
                    lane = min(ready, key=_load).lane
                    self._turn = max(self._turn, waiter.order[1])
                    ticket = lane.take(waiter.tokens, self.clock, self.dispatch)
                    if waiter.bound is not None:
                        waiter.bound(ticket)
                    self._leave(line, at).set_result(ticket)
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


def _wanted(fitting: list[Route], avoid: frozenset[str], now: float) -> list[Route]:
    """Return where a call should go: the lowest tier that is up, and there where it has not failed yet."""
    up = [route for route in fitting if not route.lane.down(now)]
    candidates = [route for route in up if route.lane.name not in avoid] or up
    tier = min((route.tier for route in candidates), default=0)
    return [route for route in candidates if route.tier == tier] or fitting


def _order(waiter: _Waiter) -> Order:
    return waiter.order


def _load(route: Route) -> tuple[float, float]:
    return (route.lane.in_flight / route.weight, route.lane.served / route.weight)
