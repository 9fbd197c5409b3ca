"""What this worker holds of a deployment's shared limits, and what it has to say of it. Pure: the clock is an argument.

Law kept here: 8 (what is taken was held, and its lease had not ended). A call's room is held until the call has left,
and spent then; tokens that it did not use are held again, or handed back once they were told to be spent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

FOREVER = math.inf


class Told(NamedTuple):
    """What was told of a deployment's requests and tokens."""

    requests: int
    tokens: float
    back: tuple[tuple[float, float], ...]


class Holding:
    """The room that calls go by.

    Args:
        starves: called when a call finds no room and none did before.
        learned: called when something was learned of the deployment.

    Attributes:
        until: the end of the lease, by the event loop's clock.
        requests, tokens: what is free; infinite where there is no limit.
        places: calls that may be under way at once.
        probe: whether a call may go though the deployment is down.
        hungry: whether a call found no room since.
        taken: calls since they were last counted, and `size`: the tokens of a usual one.
        spent_requests, spent_tokens, back: what has to be told.
    """

    def __init__(self, starves: Callable[[], None], learned: Callable[[], None]) -> None:
        self.learned = learned
        self.until = -math.inf
        self.requests = 0.0
        self.tokens = 0.0
        self.places = 0.0
        self.probe = False
        self.hungry = False
        self.taken = 0
        self.size = 0.0
        self.unsent_requests = 0
        self.unsent_tokens = 0.0
        self.spent_requests = 0
        self.spent_tokens = 0.0
        self.back: list[tuple[float, float]] = []
        self._starves = starves
        self._untold: list[Hold] = []
        self._telling: list[Hold] = []

    def wait(self, tokens: float, in_flight: int, down: bool, now: float) -> float:
        """Return 0 if a call may go, infinity if it has to wait until more is held."""
        if now < self.until and not self.lacks(tokens, in_flight, down):
            return 0.0
        if not self.hungry:
            self.hungry = True
            self._starves()
        return FOREVER

    def lacks(self, tokens: float, in_flight: int, down: bool) -> bool:
        """Say whether there is too little for a call."""
        return self.requests < 1.0 or self.tokens < tokens or self.places <= in_flight or (down and not self.probe)

    def take(self, tokens: float) -> Hold:
        """Take the room for a call."""
        self.requests -= 1.0
        self.tokens -= tokens
        self.unsent_requests += 1
        self.unsent_tokens += tokens
        self.taken += 1
        self.size += 0.1 * (tokens - self.size) if self.size else tokens
        return Hold(self, tokens)

    @property
    def owing(self) -> bool:
        """Whether there is something to tell, or something that may have to go back."""
        return bool(
            self.spent_requests
            or self.spent_tokens
            or self.back
            or 0.0 < self.requests < FOREVER
            or 0.0 < self.tokens < FOREVER
        )

    def lose(self) -> None:
        """The lease has ended: what was free is gone."""
        self.requests = self.requests if self.requests == FOREVER else 0.0
        self.tokens = self.tokens if self.tokens == FOREVER else 0.0
        self.places = self.places if self.places == FOREVER else 0.0
        self.probe = False

    def tell(self) -> Told:
        """Return what has to be told, which is being told now."""
        told = Told(self.spent_requests, self.spent_tokens, tuple(self.back))
        self.spent_requests, self.spent_tokens = 0, 0.0
        self.back.clear()
        self._telling, self._untold = self._untold, []
        for hold in self._telling:
            hold.telling = True
        return told

    def heard(self, at: float) -> None:
        """It was heard, at a time by the store's clock: tokens that come back are of that time."""
        for hold in self._telling:
            hold.told = at
            if hold.unused > 0:
                self.back.append((at, hold.unused))
        self._telling = []

    def unheard(self, told: Told) -> None:
        """It may not have been heard: what was spent is told again; what came back may count once only."""
        self.spent_requests += told.requests
        self.spent_tokens += told.tokens
        self._untold = self._telling + self._untold
        for hold in self._telling:
            hold.telling = False
            self.spent_tokens -= hold.unused
            hold.unused = 0.0
        self._telling = []


class Hold:
    """One call's room.

    Attributes:
        tokens: set aside for it.
        sent: whether it is on its way, and so spent.
        telling: whether that is being told.
        told: when it was, by the store's clock.
        unused: tokens that came back while it was being told.
    """

    __slots__ = ("_holding", "sent", "telling", "tokens", "told", "unused")

    def __init__(self, holding: Holding, tokens: float) -> None:
        self._holding = holding
        self.tokens = tokens
        self.sent = self.telling = False
        self.told: float | None = None
        self.unused = 0.0

    def left(self) -> None:
        """The call is on its way."""
        if self.sent:
            return
        self.sent = True
        holding = self._holding
        holding.unsent_requests -= 1
        holding.unsent_tokens -= self.tokens
        holding.spent_requests += 1
        holding.spent_tokens += self.tokens
        holding._untold.append(self)

    def over(self, used: float | None) -> None:
        """The call has ended, and used so many tokens; None: it is not known."""
        self.left()
        unused = 0.0 if used is None else self.tokens - used
        holding = self._holding
        if unused < 0.0:
            holding.spent_tokens -= unused
        elif self.told is not None:
            holding.back.append((self.told, unused))
        elif self.telling:
            self.unused += unused
        else:
            holding.spent_tokens -= unused
            holding.tokens += unused
