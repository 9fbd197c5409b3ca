"""What the simulator decides, without IO: who is admitted, which fault strikes, how long things take.

The clock and the seed are arguments, so that a test decides both.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from .plan import Fault, Limits, PlanInvalid, ProviderPlan, default_plans
from .windows import Windows

KEPT = 10_000
"""Requests remembered."""

TINY = 1e-5
"""What a bucket may be short of a call: clocks that count from the epoch in floats cannot tell it."""


class Seen(msgspec.Struct, frozen=True):
    """A request as the provider saw it; `at` in seconds since the start."""

    at: float
    provider: str
    model: str
    path: str
    status: int
    tokens: int


class Meter:
    """A provider's token bucket: admits while it holds something, refills steadily."""

    def __init__(self, per_min: float | None, burst_s: float, now: float) -> None:
        self.limit = per_min
        self.rate = (per_min or 0.0) / 60.0
        self.capacity = max(1.0, self.rate * burst_s)
        self.level = self.capacity
        self._at = now

    def begin(self, level: float, now: float) -> None:
        """Hold so much, or as much as fits."""
        self.level, self._at = min(level, self.capacity), now

    def look(self, now: float) -> float:
        """Return what it holds."""
        self.level = min(self.capacity, self.level + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return self.level

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until it holds `amount`; 0: now."""
        missing = min(amount, self.capacity) - self.look(now)
        return 0.0 if self.limit is None or missing <= TINY else missing / self.rate

    def take(self, amount: float, now: float) -> None:
        """Take it out; a negative amount goes back in."""
        if self.limit is not None:
            self.level = min(self.capacity, self.look(now) - amount)


class Provider:
    """A provider at work."""

    def __init__(self, plan: ProviderPlan, clock: Callable[[], float]) -> None:
        self.plan = plan
        self.clock = clock
        self.in_flight = 0
        self.counts: dict[str, int] = {}
        self.windows: dict[str, Windows] = {}
        self._meters: dict[str, tuple[Meter, Meter]] = {}
        self._over = 0

    def meters(self, model: str) -> tuple[Meter, Meter]:
        """Return the buckets of a model: requests and tokens. Each model has its own."""
        limits: Limits = self.plan.limits
        if model not in self._meters:
            self._meters[model] = (
                Meter(limits.requests_per_min, limits.burst_s, 0.0),
                Meter(limits.tokens_per_min, limits.burst_s, 0.0),
            )
        return self._meters[model]

    def limit(self, limits: Limits, now: float) -> None:
        """Enforce these limits from now on; what the buckets hold stays in them, as far as it fits."""
        self._over, self.windows = self.over(), {}
        self.plan = msgspec.structs.replace(self.plan, limits=limits)
        levels = {model: [meter.look(now) for meter in meters] for model, meters in self._meters.items()}
        self._meters.clear()
        for model, held in levels.items():
            for meter, level in zip(self.meters(model), held, strict=True):
                meter.begin(level, now)

    def over(self) -> int:
        """Return how many minutes of a model held more than the limits of that time allow."""
        return self._over + sum(windows.over(self.plan.limits) for windows in self.windows.values())

    def admit(self, model: str, tokens: float, now: float) -> Admission:
        """Take the room for a call, or tell how long to wait for it."""
        by_request, by_token = self.meters(model)
        wait = max(by_request.wait(1, now), by_token.wait(tokens, now))
        places = self.plan.limits.concurrency
        if wait == 0.0 and places is not None and self.in_flight >= places:
            wait = 0.5
        if wait == 0.0:
            by_request.take(1, now)
            by_token.take(tokens, now)
        return Admission(self, by_token, tokens, wait)


class Admission:
    """A call's room. As a context manager it holds a place while the call is under way.

    Attributes:
        wait_s: 0 if admitted, else the seconds after which to try again.
        used: the tokens that the call took; what was set aside beyond them goes back when it is over.
    """

    def __init__(self, provider: Provider, meter: Meter, reserved: float, wait_s: float) -> None:
        self.wait_s = wait_s
        self.used = reserved
        self._provider = provider
        self._meter = meter
        self._reserved = reserved

    def __enter__(self) -> None:
        self._provider.in_flight += 1

    def __exit__(self, *failure: object) -> None:
        self._provider.in_flight -= 1
        self._meter.take(self.used - self._reserved, self._provider.clock())


class Simulator:
    """The providers, the faults, and a record of what was seen.

    Args:
        plans: the providers.
        faults: rules; the first that strikes counts.
        seed: for jitter, shares and texts.
        clock: seconds, monotonic; by default the running event loop's.
    """

    def __init__(
        self,
        plans: Iterable[ProviderPlan] = (),
        *,
        faults: Iterable[Fault] = (),
        seed: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.plans = tuple(plans) or default_plans()
        if len({plan.name for plan in self.plans}) != len(self.plans):
            raise PlanInvalid("two plans have one name: give each provider its own")
        self.seed = seed
        self._clock = clock or _loop_time
        self.faults: list[Fault] = list(faults)
        self.reset()

    def reset(self) -> None:
        """Forget what was seen; the clock starts again when it is next looked at."""
        self._start: float | None = None
        self._random = random.Random(self.seed)  # noqa: S311 - a simulation
        self._struck: dict[int, int] = {}
        self.providers = {plan.name: Provider(plan, self.now) for plan in self.plans}
        self.seen: deque[Seen] = deque(maxlen=KEPT)

    def now(self) -> float:
        """Return the seconds since the start."""
        now = self._clock()
        if self._start is None:
            self._start = now
        return now - self._start

    def fault_for(self, provider: str, model: str) -> Fault | None:
        """Return the fault that strikes a call made now."""
        now = self.now()
        for fault in self.faults:
            struck = self._struck.get(id(fault), 0)
            if (
                fault.provider in ("*", provider)
                and fault.model in ("*", model)
                and fault.from_s <= now < fault.until_s
                and (fault.times is None or struck < fault.times)
                and (fault.share >= 1.0 or self._random.random() < fault.share)
            ):
                self._struck[id(fault)] = struck + 1
                return fault
        return None

    def limit(self, limits: Mapping[str, Limits]) -> None:
        """Change what these providers enforce, from now until the next reset.

        Raises:
            PlanInvalid: one of them is not simulated; nothing has changed.
        """
        for provider in limits:
            if provider not in self.providers:
                raise PlanInvalid(f"provider {provider!r} is not simulated: give {', '.join(self.providers)}")
        for provider, enforced in limits.items():
            self.providers[provider].limit(enforced, self.now())

    def chance(self) -> float:
        """Draw a number from 0 to 1."""
        return self._random.random()

    def spread(self, median: float, jitter: float) -> float:
        """Draw a duration."""
        return median * self._random.lognormvariate(0.0, jitter) if median > 0 else 0.0

    def record(self, provider: Provider, model: str, path: str, status: int, tokens: int = 0) -> None:
        """Remember a request."""
        self.seen.append(Seen(self.now(), provider.plan.name, model, path, status, tokens))
        if model:
            provider.windows.setdefault(model, Windows()).add(self.now(), tokens)
        key = str(status)
        provider.counts[key] = provider.counts.get(key, 0) + 1

    def over_limit_windows(self) -> int:
        """Return how many minutes of any model held more requests or tokens than its limits allow; refused ones count.

        Models are counted apart, and minutes begin at whole seconds.
        """
        return sum(provider.over() for provider in self.providers.values())

    def state(self) -> dict[str, object]:
        """Return what it saw, by provider."""
        now = self.now()
        return {
            "simulator": "greenroom",
            "seconds": round(now, 3),
            "seed": self.seed,
            "faults": [msgspec.to_builtins(fault) for fault in self.faults],
            "http_429": sum(provider.counts.get("429", 0) for provider in self.providers.values()),
            "over_limit_windows": self.over_limit_windows(),
            "providers": {
                name: {
                    "requests": sum(provider.counts.values()),
                    "by_status": dict(provider.counts),
                    "in_flight": provider.in_flight,
                    "busiest_minute": {model: seen.busiest()[0] for model, seen in provider.windows.items()},
                    "limits": msgspec.to_builtins(provider.plan.limits),
                    "models": list(provider.plan.models),
                }
                for name, provider in self.providers.items()
            },
        }


def _loop_time() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
