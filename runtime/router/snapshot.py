"""How the router fares, as values to look at."""

from __future__ import annotations

import msgspec


class LaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment fares.

    Attributes:
        breaker: closed, half_open or open.
        why: its last failure, in words; empty where all is well.
        in_flight: calls under way.
        tokens_used: in the last minute.
        outcomes: attempts that ended, by outcome: ok, closed, canceled or a kind of refusal (`limited`: a 429).
        down_s: how long its breaker has been open, seconds; None: it is not.
        paused_s: seconds until it may be asked again, because it said so; 0: now.
        requests_per_min, tokens_per_min: what this process may use, as far as it is known.
        concurrency: calls at once, likewise.
        rate: calls a second that it was found to bear; None: nothing was found.
        latencies: how long the last answers took (of streams: until the first token), seconds, the oldest first.
    """

    deployment: str
    provider: str = ""
    model: str = ""
    breaker: str
    why: str
    in_flight: int
    tokens_used: float
    outcomes: dict[str, int]
    down_s: float | None = None
    paused_s: float = 0.0
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None
    rate: float | None = None
    latencies: tuple[float, ...] = ()


class LineSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The line for a model: calls that wait, and the seconds that one more would wait if all goes well."""

    model: str
    waiting: int
    expected_s: float
