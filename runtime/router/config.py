"""Where calls may go: deployments, their limits and keys. Frozen values, validated once.

Laws kept here: 9 (an error names the field and the fix), 10 (a key has no way into text: `Secret`).
Prices and default limits are the user's to set: providers change them by account.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import RouterConfigInvalid

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
}
KEYS = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
ENV_MODELS = {
    "openai": {"smart": "gpt-5.2", "fast": "gpt-5.2-mini", "embed": "text-embedding-3-small"},
    "gemini": {"smart": "gemini-3-pro", "fast": "gemini-3-flash", "embed": "gemini-embedding-001"},
}
"""Logical models of `RouterConfig.from_env`. Embeddings of two models cannot be mixed: the first provider gets all."""


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
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None
    burst_s: float = 6.0
    share: float = 1.0

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
        longest_pause_s: the longest it stays open.
    """

    failures: int = 5
    pause_s: float = 2.0
    longest_pause_s: float = 60.0

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
        provider: "openai", "gemini", or "compatible" for any server that speaks OpenAI's protocol.
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
        if self.provider not in ("openai", "gemini", "compatible"):
            raise RouterConfigInvalid(f"{where}: provider is {self.provider!r}: give openai, gemini or compatible")
        if not self.base_url.startswith(("http://", "https://")):
            raise RouterConfigInvalid(f"{where}: base_url is {self.base_url!r}: give an http:// or https:// address")
        if not self.weight > 0:
            raise RouterConfigInvalid(f"{where}: weight is {self.weight}: give a number above 0")
        self.limits.validated(f"{where}: limits")
        self.timeouts.validated(f"{where}: timeouts")
        self.breaker.validated(f"{where}: breaker")

    def same(self, other: Deployment) -> bool:
        """Say whether both are one deployment; weight and tier are the model's affair."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__struct_fields__
            if name not in ("weight", "tier")
        )


class _Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None
    provider: str
    model: str
    key_env: str | None = None
    base_url: str | None = None
    limits: Limits = Limits()
    weight: float = 1.0
    tier: int = 0
    prices: Prices | None = None
    timeouts: Timeouts = Timeouts()
    breaker: BreakerPolicy = BreakerPolicy()


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Logical models and where each may go.

    Attributes:
        models: logical name -> deployments.
        max_attempts: tries of one call over all deployments.
        max_wait_s: how long a call may wait for room before it gets a 503 that says when to try again.
        max_waiting: calls that may wait at once; more get a 503 at once.
    """

    models: Mapping[str, tuple[Deployment, ...]]
    max_attempts: int = 6
    max_wait_s: float = 300.0
    max_waiting: int = 10_000

    def __post_init__(self) -> None:
        for name in SETTINGS:
            if not getattr(self, name) >= 1:
                raise RouterConfigInvalid(f"{name} is {getattr(self, name)}: give 1 or more")
        seen: dict[str, Deployment] = {}
        for logical, deployments in self.models.items():
            if not deployments:
                raise RouterConfigInvalid(f"model {logical!r} has no deployments: give it one")
            for deployment in deployments:
                if not seen.setdefault(deployment.name, deployment).same(deployment):
                    raise RouterConfigInvalid(
                        f"two deployments are named {deployment.name!r} and differ in more than weight and tier: "
                        "make them agree, or give one another name"
                    )

    @staticmethod
    def from_env(env: Mapping[str, str]) -> RouterConfig:
        """Use the providers whose keys are in the environment, under the logical models smart, fast and embed.

        `OPENAI_BASE_URL` and `GEMINI_BASE_URL` point elsewhere. `GREENROOM_OPENAI_RPM`, `GREENROOM_OPENAI_TPM` (and
        `..._GEMINI_...`) are the account's limits a minute, by default 500 and 200,000; `GREENROOM_SHARE` is the part
        of them that this process may use. With no key at all the configuration is empty, and calls say so.

        Raises:
            RouterConfigInvalid: names the variable and the fix.
        """
        models: dict[str, tuple[Deployment, ...]] = {}
        for provider, variable in KEYS.items():
            if not env.get(variable, "").strip():
                continue
            prefix = f"GREENROOM_{provider.upper()}"
            limits = Limits(
                requests_per_min=_number(env, f"{prefix}_RPM", 500),
                tokens_per_min=_number(env, f"{prefix}_TPM", 200_000),
                concurrency=64,
                share=_number(env, "GREENROOM_SHARE", 1),
            )
            for logical, model in ENV_MODELS[provider].items():
                if logical == "embed" and logical in models:
                    continue
                deployment = Deployment(
                    name=f"{provider}/{model}",
                    provider=provider,
                    model=model,
                    base_url=env.get(f"{provider.upper()}_BASE_URL") or BASE_URLS[provider],
                    key=_key(env, variable),
                    limits=limits,
                )
                models[logical] = (*models.get(logical, ()), deployment)
        return RouterConfig(models=models)

    @staticmethod
    def from_table(table: Mapping[str, Any], env: Mapping[str, str]) -> RouterConfig:
        """Read the `[router]` table of a configuration file; keys come from the environment, by `key_env`.

        Raises:
            RouterConfigInvalid: names the field and the fix.
        """
        if unknown := table.keys() - {"models", *SETTINGS}:
            raise RouterConfigInvalid(f"router.{min(unknown)} is unknown: give models, {', '.join(SETTINGS)}")
        rows = table.get("models", {})
        if not isinstance(rows, Mapping):
            raise RouterConfigInvalid("router.models is no table: give [[router.models.NAME]] entries")
        models = {}
        for logical, entries in rows.items():
            if not isinstance(entries, list):
                raise RouterConfigInvalid(f"router.models.{logical} is no list: write [[router.models.{logical}]]")
            models[logical] = tuple(
                _deployment(f"router.models.{logical}[{number}]", entry, env) for number, entry in enumerate(entries)
            )
        settings = {}
        for name, kind in SETTINGS.items():
            if name in table:
                try:
                    settings[name] = msgspec.convert(table[name], kind)
                except msgspec.ValidationError as error:
                    raise RouterConfigInvalid(f"router.{name}: {error}") from None
        return RouterConfig(models=models, **settings)


SETTINGS: dict[str, Any] = {"max_attempts": int, "max_wait_s": float, "max_waiting": int}


def _deployment(where: str, entry: Any, env: Mapping[str, str]) -> Deployment:
    if isinstance(entry, Mapping) and "key" in entry:
        raise RouterConfigInvalid(f"{where}.key: keys do not belong into files: name a variable, key_env")
    try:
        row = msgspec.convert(entry, _Row)
    except msgspec.ValidationError as error:
        raise RouterConfigInvalid(f"{where}: {error}") from None
    variable = row.key_env or KEYS.get(row.provider)
    if variable is None:
        raise RouterConfigInvalid(f"{where}.key_env is missing: name the variable that holds the key")
    name = f"{row.provider}/{row.model}"
    fields = {name: getattr(row, name) for name in ("limits", "weight", "tier", "prices", "timeouts", "breaker")}
    try:
        return Deployment(
            name=row.name or (name if row.key_env is None else f"{name}@{row.key_env}"),
            provider=row.provider,
            model=row.model,
            base_url=row.base_url or BASE_URLS.get(row.provider, ""),
            key=_key(env, variable),
            **fields,
        )
    except RouterConfigInvalid as error:
        raise RouterConfigInvalid(f"{where}: {error}") from None


def _key(env: Mapping[str, str], variable: str) -> Secret:
    if not env.get(variable):
        raise RouterConfigInvalid(f"{variable} is not set: set it to the key")
    try:
        return Secret(env[variable])
    except RouterConfigInvalid as error:
        raise RouterConfigInvalid(f"{variable}: {error}") from None


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(env.get(name) or default)
    except ValueError:
        raise RouterConfigInvalid(f"{name} is {env[name]!r}: give a number") from None
