"""What a provider saw, second by second: whether any minute held more than its limits allow. Law 8 is checked by it.

Refused requests count: a provider sees them too. Windows begin at whole seconds.
"""

from __future__ import annotations

from collections import OrderedDict

from .plan import Limits

KEPT = 100_000
"""Seconds of one model that are remembered: a day and more."""


class Windows:
    """Requests and tokens of one model by second."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, list[int]] = OrderedDict()

    def add(self, at: float, tokens: int) -> None:
        """Count a request."""
        second = self._seconds.setdefault(int(at), [0, 0])
        second[0] += 1
        second[1] += tokens
        if len(self._seconds) > KEPT:
            self._seconds.popitem(last=False)

    def over(self, limits: Limits, window_s: int = 60) -> int:
        """Return how many windows held more requests or tokens than the limits allow in that time."""
        most = [
            None if per_min is None else per_min * window_s / 60
            for per_min in (limits.requests_per_min, limits.tokens_per_min)
        ]
        return sum(
            any(bound is not None and value > bound for bound, value in zip(most, held, strict=True))
            for held in self._sums(window_s)
        )

    def busiest(self, window_s: int = 60) -> tuple[int, int]:
        """Return the most requests and the most tokens in any window."""
        sums = self._sums(window_s)
        return max((held[0] for held in sums), default=0), max((held[1] for held in sums), default=0)

    def _sums(self, window_s: int) -> list[tuple[int, int]]:
        """Add up every window that begins with a second in which something came."""
        seconds = sorted(self._seconds.items())
        sums, end, requests, tokens = [], 0, 0, 0
        for start, (own_requests, own_tokens) in seconds:
            while end < len(seconds) and seconds[end][0] < start + window_s:
                requests += seconds[end][1][0]
                tokens += seconds[end][1][1]
                end += 1
            sums.append((requests, tokens))
            requests -= own_requests
            tokens -= own_tokens
        return sums
