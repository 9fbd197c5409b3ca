"""What all workers have spent of a tenant's budget. Pure: the clock is an argument.

A budget is a reservoir that nobody holds any of: whoever has spent something says so half a second later, and hears
what is left for all. So a call costs no round trip, and a budget is crossed by no more than what all workers spend
in that half second and what is under way then; a worker that is killed takes its last half second with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...transports import Bound, Draw, Grant, Need
from .budget import KINDS, PARTS, Purse
from .share import IDLE_S

LOOK_S = 60.0
"""How often it is looked whether a budget that was spent has something left again, seconds, at the least."""


class Tally:
    """One tenant's budget, as all workers count it.

    Args:
        tenant: whose it is.
        purse: what is checked and charged here.
        due: called when the next draw may be due sooner than it was.
    """

    def __init__(self, tenant: str, purse: Purse, due: Callable[[], None]) -> None:
        self._reservoir = f"budget:{tenant}"
        self._purse = purse
        self._drawn = -math.inf
        self._telling = dict.fromkeys(KINDS, 0.0)
        self._bounds = {
            kind: Bound(limit=limit, window_s=purse.limits.per_s or math.inf)
            for kind in KINDS
            if (limit := getattr(purse.limits, kind)) is not None
        }
        purse.share(due)

    def when(self, now: float) -> float:
        """Return when the next draw is due: soon after a call, and while the budget is spent now and then."""
        if not self._bounds:
            return math.inf
        if self._drawn == -math.inf or self._purse.asked or any(self._purse.untold.values()):
            return self._drawn + IDLE_S
        per_s = self._purse.limits.per_s
        if per_s is None or not self._purse.empty:
            return math.inf
        return self._drawn + min(LOOK_S, max(IDLE_S, per_s / PARTS))

    def ask(self, now: float) -> Draw:
        """Say what was spent here."""
        purse = self._purse
        self._telling, purse.untold, purse.asked = purse.untold, dict.fromkeys(KINDS, 0.0), False
        return self._draw()

    def take(self, grant: Grant, asked: float, now: float) -> None:
        """Hear what all have spent."""
        self._drawn = now
        for kind, bound in self._bounds.items():
            spent = bound.limit - grant.room.get(kind, bound.limit)
            setattr(self._purse, kind, spent + self._purse.untold[kind])

    def fail(self) -> None:
        """It may not have been heard: it is told again."""
        for kind, amount in self._telling.items():
            self._purse.untold[kind] += amount

    def leave(self) -> Draw:
        """Say what was spent last."""
        self._telling = self._purse.untold
        return self._draw()

    def _draw(self) -> Draw:
        needs = {kind: Need(spent=self._telling[kind]) for kind in self._bounds}
        return Draw(reservoir=self._reservoir, bounds=self._bounds, needs=needs)
