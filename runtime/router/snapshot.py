"""How the router fares, as values to look at."""

from __future__ import annotations

import msgspec


class LaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment fares; `why` is its last failure, `tokens_used` counts the last minute."""

    deployment: str
    breaker: str
    why: str
    in_flight: int
    tokens_used: float
    outcomes: dict[str, int]


class LineSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The line for a model: calls that wait, and the seconds that one more would wait if all goes well."""

    model: str
    waiting: int
    expected_s: float
