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
        self._value = value

    def reveal(self) -> str:
        """Return the string."""
        return self._value

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
        share: the part of the above that this process may use, above 0, at most 1: with four workers, 0.25.
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    concurrency: int | None = None
    share: float = 1.0

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        for name in ("requests_per_min", "tokens_per_min", "concurrency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RouterConfigInvalid(f"{where}.{name} is {value}: give a number above 0, or leave it out")
        if not 0 < self.share <= 1:
            raise RouterConfigInvalid(f"{where}.share is {self.share}: give a part above 0 and up to 1")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a provider may take, seconds, for one attempt."""

    connect: float = 5.0
    first_token: float = 60.0
    between_tokens: float = 30.0
    total: float = 600.0


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


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens."""

    input: float
    output: float


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one provider under one key.

    Attributes:
        name: unique in the configuration; deployments of one name share limits and breaker.
        provider: "openai", "gemini", or "compatible" for any server that speaks OpenAI's protocol.
        model: the provider's name of the model.
        tier: lower tiers are used first; a higher one when all lower ones are down.
        weight: share of the calls among deployments of a tier that have room.
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


class _Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
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
    """

    models: Mapping[str, tuple[Deployment, ...]]
    max_attempts: int = 6
    max_wait_s: float = 300.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise RouterConfigInvalid(f"max_attempts is {self.max_attempts}: give 1 or more")
        seen: dict[str, Deployment] = {}
        for logical, deployments in self.models.items():
            if not deployments:
                raise RouterConfigInvalid(f"model {logical!r} has no deployments: give it one")
            for deployment in deployments:
                if seen.setdefault(deployment.name, deployment) is not deployment:
                    raise RouterConfigInvalid(f"two deployments are named {deployment.name!r}: give one another name")

    @staticmethod
    def from_env(env: Mapping[str, str]) -> RouterConfig:
        """Use the providers whose keys are in the environment, under the logical models smart, fast and embed.

        `OPENAI_BASE_URL` and `GEMINI_BASE_URL` point elsewhere. `GREENROOM_OPENAI_RPM`, `GREENROOM_OPENAI_TPM` (and
        `..._GEMINI_...`) are the account's limits a minute, by default 500 and 200,000; `GREENROOM_SHARE` is the part
        of them that this process may use. With no key at all the configuration is empty, and calls say so.

        Raises:
            RouterConfigInvalid: a variable is no number.
        """
        models: dict[str, tuple[Deployment, ...]] = {}
        for provider, variable in KEYS.items():
            if not env.get(variable):
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
                    key=Secret(env[variable]),
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
        models: dict[str, tuple[Deployment, ...]] = {}
        rows = table.get("models", {})
        if not isinstance(rows, Mapping):
            raise RouterConfigInvalid("router.models is no table: give [[router.models.NAME]] entries")
        for logical, entries in rows.items():
            deployments = []
            for number, entry in enumerate(entries):
                where = f"router.models.{logical}[{number}]"
                if isinstance(entry, Mapping) and "key" in entry:
                    raise RouterConfigInvalid(f"{where}.key: keys do not belong into files: name a variable, key_env")
                try:
                    row = msgspec.convert(entry, _Row)
                except msgspec.ValidationError as error:
                    raise RouterConfigInvalid(f"{where}: {error}") from None
                variable = row.key_env or KEYS.get(row.provider, "")
                if not env.get(variable):
                    raise RouterConfigInvalid(f"{where}: {variable or 'key_env'} is not set: set it to the key")
                deployments.append(
                    Deployment(
                        name=f"{logical}.{number}:{row.provider}/{row.model}",
                        provider=row.provider,
                        model=row.model,
                        base_url=row.base_url or BASE_URLS.get(row.provider, ""),
                        key=Secret(env[variable]),
                        limits=row.limits,
                        weight=row.weight,
                        tier=row.tier,
                        prices=row.prices,
                        timeouts=row.timeouts,
                        breaker=row.breaker,
                    )
                )
            models[logical] = tuple(deployments)
        settings = {name: table[name] for name in ("max_attempts", "max_wait_s") if name in table}
        if unknown := table.keys() - {"models", "max_attempts", "max_wait_s"}:
            raise RouterConfigInvalid(f"router.{min(unknown)} is unknown: give models, max_attempts or max_wait_s")
        return RouterConfig(models=models, **settings)


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(env.get(name) or default)
    except ValueError:
        raise RouterConfigInvalid(f"{name} is {env[name]!r}: give a number") from None
