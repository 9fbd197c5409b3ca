"""What a simulated provider offers: models, limits, speed, faults. Frozen values, validated once."""

from __future__ import annotations

from enum import Enum

import msgspec


class PlanInvalid(Exception):
    """A plan or fault rule is wrong; the message names the part and the fix."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that the provider enforces; None: none.

    Attributes:
        requests_per_min, tokens_per_min: refill of its token buckets.
        concurrency: calls under way at once.
        burst_s: capacity of the buckets, in seconds of refill; 60 is a whole minute.
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None
    burst_s: float = 60.0


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speed: median seconds to the first token, tokens a second after it, and the sigma of the log-normal around."""

    first_token_s: float = 0.25
    tokens_per_s: float = 80.0
    jitter: float = 0.2


class FaultKind(Enum):
    """What can go wrong.

    `stall`, `cut` (the connection breaks), `truncate` (a clean end, too early), `malformed` and `error_event` strike a
    stream after some pieces; an answer that is not streamed is spoilt as a whole.
    """

    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    ERROR = "error"
    AUTH = "auth"
    RESET = "reset"
    STALL = "stall"
    SLOW = "slow"
    CUT = "cut"
    TRUNCATE = "truncate"
    MALFORMED = "malformed"
    ERROR_EVENT = "error_event"
    HTML = "html"
    EMPTY = "empty"
    BROWN_OUT = "brown_out"
    RAMP = "ramp"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: which calls fail, and how.

    Attributes:
        provider, model: whose calls; "*" means all.
        kind: what happens.
        status: of an `error`; 429 of an `error_event` makes it a rate limit.
        share: the part of the calls that it hits, 0 to 1.
        from_s, until_s: when, in seconds since the start.
        times: how often at most.
        factor: of brown_out and ramp: how many times as long answers take, 1 or more; a ramp gets there at `until`.
        after: for stall, cut, truncate, malformed, error_event: after how many pieces of a stream; 0: before any.
    """

    provider: str = "*"
    model: str = "*"
    kind: FaultKind = FaultKind.ERROR
    status: int = 503
    share: float = 1.0
    from_s: float = 0.0
    until_s: float = float("inf")
    times: int | None = None
    after: int = 3
    factor: float = 5.0

    @staticmethod
    def parse(text: str) -> Fault:
        """Read `provider:kind[:name=value ...]`, such as `openai:503:share=0.2:from=2:until=5` or `*:cut:times=1`.

        Raises:
            PlanInvalid: names the part and the fix.
        """
        provider, _, rest = text.partition(":")
        kind, *options = rest.split(":")
        fields: dict[str, object] = {"provider": provider or "*"}
        if kind.isdigit() and 400 <= int(kind) <= 599:
            fields |= {"kind": FaultKind.ERROR, "status": int(kind)}
        else:
            try:
                fields["kind"] = FaultKind(kind)
            except ValueError:
                kinds = ", ".join(one.value for one in FaultKind)
                raise PlanInvalid(f"fault {text!r}: {kind!r} is no kind: give a status (400-599) or {kinds}") from None
        types = {"model": str, "share": float, "from": float, "until": float, "times": int, "after": int, "status": int}
        types["factor"] = float
        for option in options:
            name, _, value = option.partition("=")
            if name not in types:
                raise PlanInvalid(f"fault {text!r}: {name!r} is no option: give {', '.join(types)}")
            try:
                fields[f"{name}_s" if name in ("from", "until") else name] = types[name](value)
            except ValueError:
                raise PlanInvalid(f"fault {text!r}: {name}={value!r}: give a {types[name].__name__}") from None
        return msgspec.convert(fields, Fault)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.kind is FaultKind.RAMP and self.until_s == float("inf"):
            raise PlanInvalid(f"fault of {self.provider!r}: a ramp has to end: give until")
        for name, ok, fix in (
            ("share", 0 <= self.share <= 1, "a part from 0 to 1"),
            ("from", 0 <= self.from_s <= self.until_s, "seconds from 0 to until"),
            ("times", self.times is None or self.times >= 1, "1 or more"),
            ("after", self.after >= 0, "0 or more pieces"),
            ("factor", self.factor >= 1, "1 or more"),
            ("status", 400 <= self.status <= 599, "400 to 599"),
        ):
            if not ok:
                raise PlanInvalid(f"fault of {self.provider!r}: {name} makes no sense: give {fix}")


class ProviderPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. `models` ("*",) accepts any name."""

    name: str
    models: tuple[str, ...]
    limits: Limits = Limits()
    latency: Latency = Latency()


TIERS = {
    "free": (Limits(requests_per_min=3, tokens_per_min=40_000), Limits(requests_per_min=10, tokens_per_min=250_000)),
    "1": (Limits(requests_per_min=500, tokens_per_min=30_000), Limits(requests_per_min=150, tokens_per_min=1_000_000)),
    "2": (
        Limits(requests_per_min=5_000, tokens_per_min=450_000),
        Limits(requests_per_min=1_000, tokens_per_min=2_000_000),
    ),
    "3": (
        Limits(requests_per_min=5_000, tokens_per_min=800_000),
        Limits(requests_per_min=2_000, tokens_per_min=4_000_000),
    ),
    "5": (
        Limits(requests_per_min=10_000, tokens_per_min=30_000_000),
        Limits(requests_per_min=2_000, tokens_per_min=8_000_000),
    ),
}
"""Limits of one model in the size of the providers' usage tiers: (OpenAI, Gemini). Accounts and models differ."""


def tier_plans(tier: str) -> tuple[ProviderPlan, ...]:
    """Return both providers with the limits of a usage tier.

    Raises:
        PlanInvalid: there is no such tier.
    """
    if tier not in TIERS:
        raise PlanInvalid(f"tier {tier!r} is unknown: give {', '.join(TIERS)}")
    return tuple(
        msgspec.structs.replace(plan, limits=limits) for plan, limits in zip(default_plans(), TIERS[tier], strict=True)
    )


def default_plans(*, openai_rpm: float = 500, gemini_rpm: float = 300) -> tuple[ProviderPlan, ...]:
    """Return both providers with the models that a router finds by default."""
    return (
        ProviderPlan(
            name="openai",
            models=("gpt-5.2", "gpt-5.2-mini", "text-embedding-3-small"),
            limits=Limits(requests_per_min=openai_rpm, tokens_per_min=400_000, concurrency=100),
        ),
        ProviderPlan(
            name="gemini",
            models=("gemini-3-pro", "gemini-3-flash", "gemini-embedding-001"),
            limits=Limits(requests_per_min=gemini_rpm, tokens_per_min=400_000, concurrency=100),
            latency=Latency(first_token_s=0.35, tokens_per_s=120.0),
        ),
    )
