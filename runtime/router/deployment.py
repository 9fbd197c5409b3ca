"""A deployment: one model of one provider under one key, and what it allows. Frozen values, validated once.

Laws kept here: 9 (an error names the field and the fix), 10 (a key has no way into text: `Secret`).
"""

from __future__ import annotations

import msgspec

from . import providers
from .errors import RouterConfigInvalid


class Secret:
    """A string that is shown to nobody; `reveal()` gives it to the one place that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()
        if not self._value or not self._value.isascii() or not self._value.isprintable() or " " in self._value:
            raise RouterConfigInvalid("a key is empty or holds blanks or letters that no key has: copy it again")

    def reveal(self) -> str:
        """Return the string."""
        return self._value

    def hide(self, text: str) -> str:
        """Return a text without it: providers have been seen to repeat a key in an error."""
        return text.replace(self._value, "***")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider allows; None: no limit known.

    Attributes:
        requests_per_min: requests in any 60 seconds.
        tokens_per_min: input and output tokens in any 60 seconds.
        concurrency: calls under way at once.
        burst_s: requests that may leave at once, in seconds of the limit. Providers enforce a minute's limit over
            shorter periods too: lower it where a burst brings 429s, up to 60 raise it where it does not.
        share: the part of the above that this process may use, above 0, at most 1: with four workers, 0.25.
        fixed: keep to these numbers though the provider says that it allows more.
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None
    burst_s: float = 6.0
    share: float = 1.0
    fixed: bool = False

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        for name in ("requests_per_min", "tokens_per_min", "concurrency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RouterConfigInvalid(f"{where}.{name} is {value}: give a number above 0, or leave it out")
        if not 0 < self.burst_s <= 60:
            raise RouterConfigInvalid(f"{where}.burst_s is {self.burst_s}: give seconds above 0 and up to 60")
        if not 0 < self.share <= 1:
            raise RouterConfigInvalid(f"{where}.share is {self.share}: give a part above 0 and up to 1")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a provider may take, seconds, for one attempt."""

    connect: float = 5.0
    first_token: float = 60.0
    between_tokens: float = 30.0
    total: float = 600.0

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise RouterConfigInvalid(f"{where}.{name} is {getattr(self, name)}: give seconds above 0")


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a deployment is left alone.

    Attributes:
        failures: failures in a row that open the breaker.
        pause_s: how long it stays open at first; doubles with every failed probe.
        longest_pause_s: the longest it stays open. One call at a time probes, so a second is no burden, and an end of
            the outage is noticed within it.
    """

    failures: int = 5
    pause_s: float = 0.5
    longest_pause_s: float = 1.0

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        if self.failures < 1 or not 0 < self.pause_s <= self.longest_pause_s:
            raise RouterConfigInvalid(
                f"{where}: give failures of 1 or more, and a pause_s above 0 that longest_pause_s is not below"
            )


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens."""

    input: float
    output: float


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one provider under one key.

    Attributes:
        name: where several logical models use one deployment it has one name, and they share its limits and breaker.
        provider: a name that `providers` knows; "compatible" for any server that speaks OpenAI's protocol.
        model: the provider's name of the model.
        tier: lower tiers are used first; a higher one when all lower ones are down.
        weight: share of the calls among deployments of a tier that have room.
        prices: None: costs are not known.
    """

    name: str
    provider: str
    model: str
    base_url: str
    key: Secret
    limits: Limits = Limits()
    weight: float = 1.0
    tier: int = 0
    prices: Prices | None = None
    timeouts: Timeouts = Timeouts()
    breaker: BreakerPolicy = BreakerPolicy()

    def __post_init__(self) -> None:
        where = f"deployment {self.name!r}"
        try:
            providers.named(self.provider)
        except RouterConfigInvalid as error:
            raise RouterConfigInvalid(f"{where}: {error}") from None
        if not self.base_url.startswith(("http://", "https://")):
            raise RouterConfigInvalid(f"{where}: base_url is {self.base_url!r}: give an http:// or https:// address")
        if not self.weight > 0:
            raise RouterConfigInvalid(f"{where}: weight is {self.weight}: give a number above 0")
        self.limits.validated(f"{where}: limits")
        self.timeouts.validated(f"{where}: timeouts")
        self.breaker.validated(f"{where}: breaker")

    @property
    def spoken(self) -> providers.Provider:
        """What is true of its provider and of no other."""
        return providers.named(self.provider)

    def same(self, other: Deployment) -> bool:
        """Say whether both are one deployment; weight and tier are the model's affair."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__struct_fields__
            if name not in ("weight", "tier")
        )
