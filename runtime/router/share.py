"""What a worker holds of one deployment's limits: what it says and asks of it, and what it makes of the answer.

Law kept here: 8 (a call goes only where this worker holds room for it, by its own clock too).

A draw also carries the word on a deployment: that it is down, or asked for a pause, or allows something else than was
configured. So what one worker has learned the others know at their next draw, and only one of them probes: the right to
is held like a place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ...transports import Bound, Draw, Grant, Need
from .bucket import MARGIN_S, WINDOW_S
from .failures import Refusal
from .holding import Holding, Told
from .lane import NOTHING_TOLD, Lane, ToldLimits
from .scheduler import Waiting

LEASE_S = 3.0
"""How long a worker may use what it holds without being heard of, seconds."""

IDLE_S = 0.5
"""When what is not used goes back, and what was spent is told at the latest, seconds."""

BACK_S = 0.1
"""When tokens go back that calls did not use, where others wait here, seconds."""

AHEAD_S = 1.0
"""For how long calls are provided for that have not come yet, seconds."""

SOONEST_S = 0.005
"""Between two draws on one reservoir, seconds."""

REQUESTS, TOKENS, PLACES, PROBE = "requests", "tokens", "places", "probe"


class Word(msgspec.Struct, omit_defaults=True):
    """What workers tell each other of a deployment, times by the store's clock.

    Attributes:
        since, until, pause_s, refusal: since when it is down, when it is asked again, how long it is left alone then,
            and its last failure; None: it is up.
        paused: until when it asked to be left alone.
        requests, tokens: limits a minute that it told of itself.
    """

    since: float = 0.0
    until: float = 0.0
    pause_s: float = 0.0
    refusal: Refusal | None = None
    paused: float = 0.0
    requests: float | None = None
    tokens: float | None = None


_word = msgspec.json.Decoder(Word)


class State(NamedTuple):
    """What others should know of a deployment: until when it is down, or paused, and what limits it told."""

    down: float | None = None
    paused: float = 0.0
    told: ToldLimits = NOTHING_TOLD


class Share:
    """One deployment's part of it: what this worker says and asks, and what it makes of the answer.

    Args:
        lane: the deployment at work.
        waiting: tells which calls wait for it.
        due: called when the next draw may be due sooner than it was.
    """

    def __init__(self, lane: Lane, waiting: Callable[[Lane], Waiting], due: Callable[[], None]) -> None:
        self.lane = lane
        self.holding = lane.holding = Holding(due, self.learned)
        self._waiting = waiting
        self._due = due
        self._drawn = self._again = -math.inf
        self._per_s = 0.0
        self._told = Told(0, 0.0, ())
        self._number = 0
        self._news = False
        self._ahead_s = 0.0
        self._known = self._said = State()

    def when(self, now: float) -> float:
        """Return when the next draw is due, by the event loop's clock; infinity: when something happens."""
        holding = self.holding
        if self._news:
            return now
        if holding.hungry:
            return min(self._again, self._drawn + BACK_S) if holding.back else self._again
        if holding.owing or holding.probe or self.lane.in_flight < holding.places < math.inf:
            return self._drawn + IDLE_S
        return holding.until - LEASE_S / 2 if self.lane.in_flight else math.inf

    def learned(self) -> None:
        """Something was learned of the deployment: if it is news, say so soon."""
        if self._state() != self._known:
            self._news = True
            self._due()

    def ask(self, now: float) -> Draw:
        """Say what there is to say, and ask for what calls need; what goes back is not held from here on.

        Who lacks something for the next call keeps nothing: two that wait for what the other one keeps would wait for
        ever.
        """
        lane, holding = self.lane, self.holding
        if now >= holding.until:
            holding.lose()
        waiting = self._waiting(lane)
        calls = self._provide_for(waiting, now)
        one = 1.0 if calls and (waiting.calls or holding.hungry) else 0.0
        first = waiting.first or holding.size
        if one and holding.lacks(first, lane.in_flight, lane.breaker.is_open):
            holding.lose()
        self._told = told = holding.tell()
        bounds, needs = self._bounds(), {}
        if REQUESTS in bounds:
            holding.requests = min(holding.requests, float(calls))
            said = _need(holding.requests, holding.unsent_requests, one, calls, told.requests)
            needs[REQUESTS] = msgspec.structs.replace(
                said, left=lane.requests_left(now), ago_s=max(0.0, now - holding.left_at) if told.requests else 0.0
            )
        if TOKENS in bounds:
            wanted = min(waiting.tokens, calls * first) + max(0, calls - waiting.calls) * holding.size
            wanted = math.ceil(max(wanted, first * one))
            holding.tokens = min(holding.tokens, float(wanted))
            needs[TOKENS] = _need(
                holding.tokens, holding.unsent_tokens, math.ceil(first * one), wanted, told.tokens, told.back
            )
        if PLACES in bounds:
            spare = max(0.0, min(holding.places - lane.in_flight, calls))
            holding.places = lane.in_flight + spare
            needs[PLACES] = _need(spare, lane.in_flight, one, calls)
        holding.probe = holding.probe and lane.breaker.is_open and bool(calls or lane.breaker.probing)
        probing = one if lane.breaker.is_open else 0.0
        needs[PROBE] = _need(float(holding.probe), 0, probing, probing)
        word = self._say() if self._news else None
        return Draw(reservoir=lane.name, bounds=bounds, needs=needs, known=self._number, word=word)

    def take(self, grant: Grant, asked: float, now: float) -> None:
        """Take what a draw came to that was asked for at a time by the event loop's clock."""
        lane, holding = self.lane, self.holding
        self._ahead_s = grant.at - (asked + now) / 2
        self._number = grant.number
        if grant.word is not None:
            self._hear(_word.decode(grant.word), now)
        elif self._news:
            self._known, self._news = self._said, False
        holding.heard(grant.at)
        holding.until = asked + LEASE_S
        holding.requests = _more(holding.requests, grant.got.get(REQUESTS, 0.0), bounded=lane.requests is not None)
        holding.tokens = _more(holding.tokens, grant.got.get(TOKENS, 0.0), bounded=lane.tokens is not None)
        holding.places = _more(holding.places, grant.got.get(PLACES, 0.0), bounded=lane.places < math.inf)
        holding.places = min(holding.places, grant.share.get(PLACES, math.inf))
        holding.probe = holding.probe or PROBE in grant.got
        holding.hungry = False
        self._drawn, self._again = now, now + max(SOONEST_S, grant.again_s)
        self.learned()

    def fail(self) -> None:
        """Nothing came of a draw, or nobody knows what."""
        self.holding.unheard(self._told)

    def leave(self) -> Draw:
        """Say what is left to say, and give everything back."""
        told = self.holding.tell()
        self.holding.lose()
        self.holding.until = -math.inf
        needs = {REQUESTS: Need(spent=told.requests), TOKENS: Need(spent=told.tokens, back=told.back)}
        return Draw(reservoir=self.lane.name, bounds=self._bounds(), needs=needs, known=self._number)

    def _provide_for(self, waiting: Waiting, now: float) -> int:
        """Return for how many calls there should be room: those that wait, and those that are likely to come."""
        lane, holding = self.lane, self.holding
        past_s = now - self._drawn
        if past_s > 0:
            lately = holding.taken / past_s
            self._per_s += min(1.0, past_s / IDLE_S) * (lately - self._per_s)
            holding.taken = 0
        calls = waiting.calls or int(holding.hungry)
        if lane.breaker.is_open:
            return min(1, calls) if lane.breaker.wait(now) == 0.0 else 0
        return 0 if lane.paused_until > now else calls + round(self._per_s * AHEAD_S)

    def _bounds(self) -> dict[str, Bound]:
        lane, window_s = self.lane, WINDOW_S + MARGIN_S
        bounds = {PROBE: Bound(limit=1)}
        if (requests := lane.requests) is not None:
            bounds[REQUESTS] = Bound(
                limit=max(1.0, requests.limit), window_s=window_s, burst=requests.capacity, per_s=requests.rate
            )
        if lane.tokens is not None:
            bounds[TOKENS] = Bound(limit=lane.tokens.limit, window_s=window_s)
        if lane.places < math.inf:
            bounds[PLACES] = Bound(limit=lane.places)
        return bounds

    def _state(self) -> State:
        """Return what others should know, to be compared; while a probe is out nothing is known anew."""
        lane = self.lane
        down = lane.breaker.until if lane.breaker.is_open else None
        if lane.breaker.probing and self._known.down is not None:
            down = self._known.down
        return State(down, lane.paused_until, lane.told)

    def _say(self) -> str:
        lane, breaker = self.lane, self.lane.breaker
        self._said = self._state()
        word = Word(
            paused=lane.paused_until + self._ahead_s if lane.paused_until else 0.0,
            requests=lane.told.requests,
            tokens=lane.told.tokens,
        )
        if breaker.is_open and breaker.refusal is not None:
            word.refusal, word.pause_s = breaker.refusal, breaker.pause_s
            word.since, word.until = breaker.since + self._ahead_s, breaker.until + self._ahead_s
        return msgspec.json.encode(word).decode()

    def _hear(self, word: Word, now: float) -> None:
        """Take over what another worker says; that this one has just found the deployment down is still to be said."""
        lane, breaker = self.lane, self.lane.breaker
        lane.paused_until = max(lane.paused_until, word.paused - self._ahead_s)
        lane.allow(word.requests, word.tokens, now)
        if word.refusal is not None:
            breaker.hear(word.since - self._ahead_s, word.until - self._ahead_s, word.pause_s, word.refusal)
        elif self._news and breaker.is_open and self._known.down is None:
            self._known = State(None, lane.paused_until, lane.told)
            return
        else:
            breaker.close()
        self._known, self._news = self._state(), False


def _need(
    free: float,
    busy: float,
    least: float,
    want: float,
    spent: float = 0.0,
    back: tuple[tuple[float, float], ...] = (),
) -> Need:
    """Say what is held, free and for calls that are on their way, and ask for what is missing."""
    return Need(
        spent=spent,
        keep=max(0.0, free + busy),
        least=max(0.0, least - free),
        want=max(0.0, want - free),
        back=back,
    )


def _more(held: float, got: float, *, bounded: bool) -> float:
    if not bounded:
        return math.inf
    return got if held == math.inf else held + got
