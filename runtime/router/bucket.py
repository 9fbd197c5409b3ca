"""What a deployment may still take of a minute's requests and tokens.

Law 8: no provider sees more than its limits allow, in any window of 60 seconds.
- Requests: a token bucket that refills at the limit's rate, so that steady traffic gets all of it, and beneath it the
  exact count over a sliding window, so that a burst and the refill after it never add up to more than the limit. The
  bucket holds a few seconds' worth: providers enforce a minute's limit over shorter periods too.
- Tokens: the exact sum over a sliding window. Calls differ too much in size for a bucket: one large call may need more
  than a small bucket ever holds. An estimate is reserved before sending and settled with the real usage after.
- What a provider says is left counts where it is less: others may use the same limit.

Pure: the clock is an argument, nothing waits.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 60.0
MARGIN_S = 0.5
"""Added to the window, since calls do not travel at the same speed."""

SLACK_S = 0.05
"""Taken from the burst, for the same reason."""

GRAIN_S = 0.02
"""Requests closer together than this share an entry of the window: it holds 3,000 entries at most."""

TINY = 1e-6


class RequestLimit:
    """Requests a minute.

    Args:
        limit: requests in any 60 seconds.
        burst_s: seconds of the limit that may leave at once.
        level: what it holds at `now`, if less than that.
    """

    def __init__(self, limit: float, burst_s: float, *, level: float = math.inf, now: float = -math.inf) -> None:
        self._burst_s = burst_s
        self._at = now
        self._sent = 0
        self._unsent = 0
        self._window: deque[list[float]] = deque()
        self._set(limit)
        self.level = min(self.capacity, level)

    def wait(self, now: float) -> float:
        """Return the seconds until one more fits; 0: now."""
        self._advance(now)
        by_bucket = 0.0 if self.level >= 1.0 else (1.0 - self.level) / self.rate + TINY + max(0.0, self._at - now)
        full = self._sent + 1 > max(1.0, self.limit)
        return max(by_bucket, self._window[0][0] + WINDOW_S + MARGIN_S - now + TINY if full else 0.0)

    def take(self, now: float) -> None:
        """Take one."""
        self._advance(now)
        self.level -= 1.0
        self._sent += 1
        self._unsent += 1
        if self._window and now - self._window[-1][2] < GRAIN_S:
            self._window[-1][0] = now
            self._window[-1][1] += 1
        else:
            self._window.append([now, 1, now])

    def left(self, now: float) -> None:
        """One that was taken is on its way now.

        Until then the provider's bucket may be full and gain nothing: where this process is so busy that calls leave
        late, they would arrive together with those that the time in between seems to allow.
        """
        self._advance(now)
        self._unsent -= 1

    def told(self, limit: float | None, remaining: float | None, age_s: float, in_flight: int = 0) -> None:
        """Learn from the provider: its limit, and what was left `age_s` seconds ago, `in_flight` calls being out."""
        if limit and limit != self.limit:
            raised = limit > self.limit
            self._set(limit)
            if raised:
                self.level = max(self.level, min(self.capacity, (remaining or 0.0) - in_flight))
        if remaining is not None:
            self.level = min(self.level, remaining + 1.0 + age_s * self.rate, self.capacity)

    def left_at(self, now: float) -> float:
        """Return how many the provider can allow at once now, as far as is known here: not more."""
        self._advance(now)
        return self.level - max(0.0, self._at - now) * self.rate

    def drained(self, until: float) -> None:
        """The provider refused: it holds nothing, and refills from `until` on."""
        self.level, self._at = min(self.level, 0.0), max(self._at, until)

    def _set(self, limit: float) -> None:
        self.limit = limit
        self.rate = limit / WINDOW_S
        self.capacity = max(1.0, self.rate * (self._burst_s - SLACK_S))

    def _advance(self, now: float) -> None:
        if now > self._at:
            most = max(self.capacity - self._unsent, self.level)
            self.level = min(most, self.level + (now - self._at) * self.rate)
            self._at = now
        while self._window and self._window[0][0] + WINDOW_S + MARGIN_S <= now:
            self._sent -= int(self._window.popleft()[1])


class Reservation:
    """Tokens set aside for one call."""

    __slots__ = ("amount", "at")

    def __init__(self, at: float, amount: float) -> None:
        self.at = at
        self.amount = amount


class TokenLimit:
    """Tokens a minute.

    Args:
        limit: tokens in any 60 seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0.0
        self._entries: deque[Reservation] = deque()
        self._foreign = 0.0
        self._foreign_at = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` fits; 0: now; infinity: never."""
        self._forget(now)
        if amount > self.limit:
            return math.inf
        foreign = self.foreign(now)
        excess = self.used + foreign + amount - self.limit
        if excess <= 0:
            return 0.0
        until_decayed = excess / self.limit * WINDOW_S + TINY if excess <= foreign else math.inf
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return min(until_decayed, max(TINY, entry.at + WINDOW_S + MARGIN_S - now + TINY))
        return min(until_decayed, WINDOW_S)

    def reserve(self, amount: float, now: float) -> Reservation:
        """Set tokens aside."""
        entry = Reservation(now, amount)
        self._entries.append(entry)
        self.used += amount
        return entry

    def settle(self, entry: Reservation, amount: float) -> None:
        """Replace the estimate by what was used; what has left the window stays gone."""
        if entry.amount >= 0:
            self.used += amount - entry.amount
            entry.amount = amount

    def told(self, limit: float | None, remaining: float | None, used: float, at: float) -> None:
        """Learn from the provider: its limit, and what was left at `at`, when we had `used`."""
        if limit:
            self.limit = limit
        if remaining is not None:
            self._foreign, self._foreign_at = max(0.0, self.limit - remaining - used), at

    def foreign(self, now: float) -> float:
        """Return what others seem to have used: it decays as the provider refills."""
        return max(0.0, self._foreign - (now - self._foreign_at) * self.limit / WINDOW_S)

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0].at + WINDOW_S + MARGIN_S <= now:
            entry = self._entries.popleft()
            self.used -= entry.amount
            entry.amount = -1.0
        if not self._entries:
            self.used = 0.0
