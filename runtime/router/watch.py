"""What is watched while a call waits in line: its deadline, whether anything is up at all, and where it stands.

Why: a call whose deadline cannot be met is shed at once, with the time to come again, and takes nobody's place; a run
that waits for providers that are all down gives up its place in memory; and nobody waits without being told.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .call import Call
from .lane import Route
from .scheduler import Scheduler
from .standing import Position, Standing

FIRST_LOOK_S = 1.0
LOOK_S = 2.0
"""Seconds between looks; the first comes sooner."""

IN_LINE_S = 1.5
"""How long a call with patience stays in line while everything is down: long enough to be a probe."""

SHORTEST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 30.0
"""How long it then waits elsewhere: half as long as the outage lasts, between these; up to twice as long, by chance,
so that those who wait come back one by one. The first call of each model stays in line, to notice the end."""


class AllDown(Exception):
    """Every deployment is down: `pause_s` is how long to wait elsewhere."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s


class Shed(Exception):
    """The call's deadline cannot be met."""

    def __init__(self, expected_s: float, left_s: float) -> None:
        super().__init__()
        self.expected_s = expected_s
        self.left_s = left_s
        self.again_s = max(1.0, math.ceil(expected_s - left_s))


class Watch:
    """Looks after one call that waits.

    Args:
        states: says in words how deployments fare.
        scouts: the calls that stay in line whatever happens, one for each set of deployments.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        call: Call,
        routes: tuple[Route, ...],
        found: Standing,
        states: Callable[[tuple[Route, ...]], str],
        scouts: dict[tuple[Route, ...], Call],
    ) -> None:
        self._scheduler = scheduler
        self._call = call
        self._routes = routes
        self._found = found
        self._states = states
        self._scouts = scouts
        self._looked = 0
        self._tell_after = FIRST_LOOK_S

    def look(self) -> float | None:
        """Look; return the seconds until the next look, None for no other.

        Raises:
            Shed: the deadline cannot be met.
            AllDown: nothing is up, and the caller has the patience to wait elsewhere.
        """
        now, call, found = self._scheduler.clock(), self._call, self._found
        expected = math.nan
        if call.deadline < math.inf:
            expected = self._expected()
            if now + expected > call.deadline and call.deadline > now:
                raise Shed(expected, call.deadline - now)
        waited = now - call.patient_since
        down = all(route.lane.breaker.is_open for route in self._routes)
        if (
            down
            and found.patience is not None
            and waited >= IN_LINE_S
            and self._scouts.setdefault(self._routes, call) is not call
        ):
            since = max(route.lane.breaker.since for route in self._routes)
            raise AllDown(min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, (now - since) / 2)))
        self._looked += 1
        if found.tell is not None and waited >= self._tell_after:
            self._tell_after = max(FIRST_LOOK_S, 2 * waited)
            found.tell(
                Position(
                    model=call.asked,
                    ahead=self._scheduler.ahead(self._routes, call.order),
                    expected_s=self._expected() if math.isnan(expected) else expected,
                    waited_s=now - call.started,
                    why=self._states(self._routes),
                )
            )
        if found.tell is None and found.patience is None and call.deadline == math.inf:
            return None
        return FIRST_LOOK_S if self._looked == 1 else LOOK_S

    def _expected(self) -> float:
        return self._scheduler.expected(self._routes, self._call.tokens, self._call.order)
