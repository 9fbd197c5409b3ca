"""What a deployment may still take: requests, tokens, calls under way.

Law 8: no provider sees more than its limits allow, in any window of 60 seconds.
- Requests: a token bucket whose capacity and a minute's refill add up to the limit, so that no window holds more. The
  capacity is small, because providers enforce a minute's limit over shorter periods too.
- Tokens: the exact sum over a sliding window. Calls differ too much in size for a bucket: one large call may need more
  than a small bucket ever holds. An estimate is reserved before sending and settled with the real usage after.

Pure: the clock is an argument, nothing waits.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 60.0
MARGIN_S = 0.5
"""Added to the window, since calls do not travel at the same speed."""

BURST = 0.04
"""Part of a minute's requests that may leave at once."""


class RequestBucket:
    """Requests a minute.

    Args:
        limit: requests in any 60 seconds.
        now: seconds.
    """

    def __init__(self, limit: float, now: float) -> None:
        self.capacity = max(1.0, limit * BURST)
        self.rate = max(limit - self.capacity, limit * 0.5) / WINDOW_S
        if limit <= 2:
            self.capacity, self.rate = 1.0, limit / (WINDOW_S + MARGIN_S) / 2
        self.level = self.capacity
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until one more fits; 0: now."""
        self._refill(now)
        return 0.0 if self.level >= 1.0 - 1e-9 else (1.0 - self.level) / self.rate

    def take(self, now: float) -> None:
        """Take one."""
        self._refill(now)
        self.level -= 1.0

    def _refill(self, now: float) -> None:
        if now > self._at:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
            self._at = now


class Reservation:
    """Tokens set aside for one call."""

    __slots__ = ("amount", "at")

    def __init__(self, at: float, amount: float) -> None:
        self.at = at
        self.amount = amount


class TokenWindow:
    """Tokens a minute.

    Args:
        limit: tokens in any 60 seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0.0
        self._entries: deque[Reservation] = deque()

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` fits; 0: now; infinity: never."""
        self._forget(now)
        if amount > self.limit:
            return math.inf
        excess = self.used + amount - self.limit
        if excess <= 0:
            return 0.0
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return max(0.001, entry.at + WINDOW_S + MARGIN_S - now)
        return WINDOW_S  # pragma: no cover - the sum of all entries is `used`

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

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0].at + WINDOW_S + MARGIN_S <= now:
            entry = self._entries.popleft()
            self.used -= entry.amount
            entry.amount = -1.0
