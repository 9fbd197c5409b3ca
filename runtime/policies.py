"""What surrounds a step: retry, timeout, cache, rate. Frozen values, validated once; they decide and never act.

The first of the three ways to fail (an error) is owned here: which errors are tried again, after how long.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from .errors import ConfigInvalid


def _require(ok: bool, field: str, fix: str) -> None:
    if not ok:
        raise ConfigInvalid(f"{field}: {fix}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How often a step is tried, and how long to wait between attempts.

    Attributes:
        attempts: tries in all, 1 or more.
        first_s: wait after the first failure, seconds; it grows by `factor` up to `max_s`.
        factor: growth of the wait, 1 or more.
        max_s: the longest wait, seconds.
        jitter: the part of a wait that is random, 0 (none) to 1 (anything up to the full wait).
        on: exception types that are tried again.
        never: exception types that are not, though `on` names a base of theirs.
    """

    attempts: int = 3
    first_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.5
    on: tuple[type[Exception], ...] = (Exception,)
    never: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        _require(self.attempts >= 1, "Retry.attempts", f"is {self.attempts}, must be 1 (no retry) or more")
        _require(self.first_s >= 0, "Retry.first_s", f"is {self.first_s}, must be 0 or more seconds")
        _require(self.factor >= 1, "Retry.factor", f"is {self.factor}, must be 1 (constant) or more")
        _require(self.max_s >= self.first_s, "Retry.max_s", f"is {self.max_s}, must not be less than first_s")
        _require(0 <= self.jitter <= 1, "Retry.jitter", f"is {self.jitter}, must be between 0 and 1")

    def delay(self, attempt: int, error: Exception, rng: random.Random) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 1), or None for no more tries.

        A server's own wish (`Retry-After`) is honoured where it is longer.
        """
        if attempt >= self.attempts or not isinstance(error, self.on) or isinstance(error, self.never):
            return None
        wait = min(self.max_s, self.first_s * self.factor ** (attempt - 1))
        wait -= wait * self.jitter * rng.random()
        return max(wait, retry_after(error) or 0.0)


ONCE = Retry(attempts=1)
"""No second try."""


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server behind an HTTP error asked to wait, if it did (`Retry-After-Ms`, `Retry-After`)."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return None
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name)) * scale)
        except (TypeError, ValueError):
            continue
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeout:
    """Seconds that one attempt, and the whole step with its waits, may take. None: no bound."""

    attempt_s: float | None = None
    total_s: float | None = None

    def __post_init__(self) -> None:
        for field in ("attempt_s", "total_s"):
            value = getattr(self, field)
            _require(value is None or value > 0, f"Timeout.{field}", f"is {value}, must be more than 0 seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Results are kept `ttl_s` seconds by the transport and answer equal calls of any run."""

    ttl_s: float

    def __post_init__(self) -> None:
        _require(self.ttl_s > 0, "Cache.ttl_s", f"is {self.ttl_s}, must be more than 0 seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """At most `calls` starts of a component per `per_s` seconds, in one worker (a leaky bucket)."""

    calls: float
    per_s: float = 1.0

    def __post_init__(self) -> None:
        _require(self.calls >= 1, "Rate.calls", f"is {self.calls}, must be 1 or more")
        _require(self.per_s > 0, "Rate.per_s", f"is {self.per_s}, must be more than 0 seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Policies:
    """Everything that surrounds a component's calls."""

    retry: Retry = ONCE
    timeout: Timeout = Timeout()
    cache: Cache | None = None
    rate: Rate | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        ok = self.concurrency is None or self.concurrency >= 1
        _require(ok, "concurrency", f"is {self.concurrency}, must be 1 or more, or None for no bound")
