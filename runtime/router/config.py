"""Where calls may go: deployments, their limits and keys. Frozen values, validated once.

Law kept here: 9 (an error names the field and the fix).
Prices and default limits are the user's to set: providers change them by account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from . import providers
from .budget import Tenant
from .cache import CachePolicy
from .deployment import BreakerPolicy, Deployment, Limits, Prices, Secret, Timeouts
from .errors import RouterConfigInvalid
from .hedging import HedgePolicy


class _Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None
    provider: str
    model: str
    key_env: str | list[str] | None = None
    one_account: bool = False
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
        max_down_s: how long a call that has no deadline waits while all of its deployments are down.
        max_waiting: calls that may wait at once; more get a 503 at once.
        retry_ratio: tries after a failure that each call adds to a common budget; where it is used up they are spread.
        stream_failover: what a stream that breaks after its first token does: "fail": it ends with an error; "reset":
            inside a run its step starts again, and readers are told to forget what it had shown.
        hedge: when a second deployment is asked; None: never.
        cache: how long answers are given again; None: not at all.
        tenants: those with a weight or a budget of their own.
        shared: whether workers on one store share the limits; if not, each of them has them for itself.
    """

    models: Mapping[str, tuple[Deployment, ...]]
    max_attempts: int = 6
    max_wait_s: float = 300.0
    max_down_s: float = 60.0
    max_waiting: int = 10_000
    retry_ratio: float = 0.2
    stream_failover: str = "fail"
    hedge: HedgePolicy | None = None
    cache: CachePolicy | None = None
    tenants: Mapping[str, Tenant] = {}
    shared: bool = True

    def __post_init__(self) -> None:
        for name in ("max_attempts", "max_wait_s", "max_down_s", "max_waiting"):
            if not getattr(self, name) >= 1:
                raise RouterConfigInvalid(f"{name} is {getattr(self, name)}: give 1 or more")
        if not self.retry_ratio >= 0:
            raise RouterConfigInvalid(f"retry_ratio is {self.retry_ratio}: give 0 or more")
        if self.stream_failover not in ("fail", "reset"):
            raise RouterConfigInvalid(f"stream_failover is {self.stream_failover!r}: give fail or reset")
        if self.hedge is not None:
            self.hedge.validated("hedge")
        if self.cache is not None:
            self.cache.validated("cache")
        for tenant, terms in self.tenants.items():
            terms.validated(f"tenants.{tenant}")
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

        Embeddings of two models cannot be mixed: the first provider gets all.

        `OPENAI_BASE_URL` and `GEMINI_BASE_URL` point elsewhere. `GREENROOM_OPENAI_RPM`, `GREENROOM_OPENAI_TPM` (and
        `..._GEMINI_...`) are the account's limits a minute, by default 500 and 200,000; `GREENROOM_SHARE` is the part
        of them that this process may use. With no key at all the configuration is empty, and calls say so.

        Raises:
            RouterConfigInvalid: names the variable and the fix.
        """
        models: dict[str, tuple[Deployment, ...]] = {}
        for provider in providers.known():
            if not provider.key_env or not env.get(provider.key_env, "").strip():
                continue
            prefix = f"GREENROOM_{provider.variables}"
            limits = Limits(
                requests_per_min=_number(env, f"{prefix}_RPM", 500),
                tokens_per_min=_number(env, f"{prefix}_TPM", 200_000),
                concurrency=64,
                share=_number(env, "GREENROOM_SHARE", 1),
            )
            for logical, model in provider.models.items():
                if logical == "embed" and logical in models:
                    continue
                deployment = Deployment(
                    name=f"{provider.name}/{model}",
                    provider=provider.name,
                    model=model,
                    base_url=env.get(f"{provider.variables}_BASE_URL") or provider.base_url,
                    key=_key(env, provider.key_env),
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
                deployment
                for number, entry in enumerate(entries)
                for deployment in _deployments(f"router.models.{logical}[{number}]", entry, env)
            )
        settings = {}
        for name, kind in SETTINGS.items():
            if name in table:
                try:
                    settings[name] = msgspec.convert(table[name], kind)
                except msgspec.ValidationError as error:
                    raise RouterConfigInvalid(f"router.{name}: {error}") from None
        return RouterConfig(models=models, **settings)


SETTINGS: dict[str, Any] = {
    "max_attempts": int,
    "max_wait_s": float,
    "max_down_s": float,
    "max_waiting": int,
    "retry_ratio": float,
    "stream_failover": str,
    "hedge": HedgePolicy,
    "cache": CachePolicy,
    "tenants": dict[str, Tenant],
    "shared": bool,
}


def _deployments(where: str, entry: Any, env: Mapping[str, str]) -> Iterator[Deployment]:
    """Read an entry: one deployment for each of its keys."""
    if isinstance(entry, Mapping) and "key" in entry:
        raise RouterConfigInvalid(f"{where}.key: keys do not belong into files: name a variable, key_env")
    try:
        row = msgspec.convert(entry, _Row)
    except msgspec.ValidationError as error:
        raise RouterConfigInvalid(f"{where}: {error}") from None
    try:
        provider = providers.named(row.provider)
    except RouterConfigInvalid as error:
        raise RouterConfigInvalid(f"{where}: {error}") from None
    variable = row.key_env or provider.key_env
    if not variable or row.key_env == []:
        raise RouterConfigInvalid(f"{where}.key_env is missing: name the variable that holds the key")
    variables = [variable] if isinstance(variable, str) else variable
    if len(set(variables)) < len(variables):
        raise RouterConfigInvalid(f"{where}.key_env names a variable twice: name each once")
    limits = row.limits
    if row.one_account:
        limits = msgspec.structs.replace(limits, share=limits.share / len(variables))
    fields = {name: getattr(row, name) for name in ("weight", "tier", "prices", "timeouts", "breaker")}
    for variable in variables:
        named = row.name or f"{row.provider}/{row.model}"
        plain = row.key_env is None or (row.name is not None and len(variables) == 1)
        try:
            yield Deployment(
                name=named if plain else f"{named}@{variable}",
                provider=row.provider,
                model=row.model,
                base_url=row.base_url or provider.base_url,
                key=_key(env, variable),
                limits=limits,
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
