"""Configuration: what it says, and that every mistake is one sentence that names the field and the fix (law 9)."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from greenroom.runtime.router import Limits, Router, RouterConfig, RouterConfigInvalid

from .conftest import deployment

ENV = {"OPENAI_API_KEY": "sk-o", "GEMINI_API_KEY": "g", "ACME_KEY": "a"}

TABLE = """
max_attempts = 4
max_wait_s = 60

[[models.smart]]
provider = "openai"
model = "gpt-5.2"
weight = 2
limits = { requests_per_min = 500, tokens_per_min = 200000, share = 0.5 }

[[models.smart]]
provider = "gemini"
model = "gemini-3-pro"
tier = 1

[[models.cheap]]
provider = "compatible"
model = "acme-1"
base_url = "https://llm.acme.example/v1"
key_env = "ACME_KEY"
prices = { input = 0.1, output = 0.4 }
"""


def test_a_table_makes_deployments() -> None:
    config = RouterConfig.from_table(tomllib.loads(TABLE), ENV)
    first, second = config.models["smart"]
    assert (first.name, first.weight, first.limits.share, first.key.reveal()) == ("openai/gpt-5.2", 2.0, 0.5, "sk-o")
    assert (second.tier, second.base_url) == (1, "https://generativelanguage.googleapis.com/v1beta/openai")
    [acme] = config.models["cheap"]
    assert (acme.name, acme.key.reveal()) == ("compatible/acme-1@ACME_KEY", "a")
    assert (config.max_attempts, config.max_wait_s) == (4, 60.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tries": 1}, "router.tries is unknown: give models, max_attempts, max_wait_s, max_down_s"),
        ({"max_attempts": "x"}, "router.max_attempts: Expected `int`"),
        ({"max_attempts": 0}, "max_attempts is 0: give 1 or more"),
        ({"models": []}, "router.models is no table"),
        ({"models": {"smart": {"provider": "openai"}}}, r"router.models.smart is no list: write \[\[router.models"),
        ({"models": {"smart": []}}, "model 'smart' has no deployments"),
        ({"models": {"smart": [{"provider": "openai"}]}}, r"router.models.smart\[0\]: .*`model`"),
        ({"models": {"smart": [{"provider": "openai", "model": "m", "x": 1}]}}, "unknown field `x`"),
        ({"models": {"smart": [{"provider": "openai", "model": "m", "key": "sk"}]}}, "name a variable, key_env"),
        ({"models": {"smart": [{"provider": "openai", "model": "m", "key_env": "NO"}]}}, "NO is not set"),
        ({"models": {"smart": [{"provider": "compatible", "model": "m"}]}}, "key_env is missing"),
        ({"models": {"smart": [{"provider": "acme", "model": "m", "key_env": "ACME_KEY"}]}}, "provider is 'acme'"),
        ({"models": {"smart": [{"provider": "compatible", "model": "m", "key_env": "ACME_KEY"}]}}, "base_url is ''"),
        ({"models": {"smart": [{"provider": "openai", "model": "m", "weight": 0}]}}, "weight is 0"),
        (
            {"models": {"smart": [{"provider": "openai", "model": "m", "limits": {"burst_s": 61}}]}},
            r"smart\[0\].*limits.burst_s is 61",
        ),
        (
            {"models": {"smart": [{"provider": "openai", "model": "m", "timeouts": {"total": 0}}]}},
            "timeouts.total is 0",
        ),
        (
            {"models": {"smart": [{"provider": "openai", "model": "m", "breaker": {"failures": 0}}]}},
            "failures of 1 or more",
        ),
        (
            {
                "models": {
                    "a": [{"provider": "openai", "model": "m", "limits": {"concurrency": 1}}],
                    "b": [{"provider": "openai", "model": "m", "limits": {"concurrency": 2}}],
                }
            },
            "two deployments are named 'openai/m' and differ",
        ),
    ],
)
def test_a_mistake_is_one_sentence(change: dict[str, Any], says: str) -> None:
    with pytest.raises(RouterConfigInvalid, match=says) as caught:
        RouterConfig.from_table({**tomllib.loads(TABLE), **change}, ENV)
    assert "\n" not in str(caught.value)


def test_the_environment_makes_deployments_of_the_providers_whose_keys_it_holds() -> None:
    env = {"GEMINI_API_KEY": "g", "GREENROOM_GEMINI_RPM": "15", "GREENROOM_SHARE": "0.5"}
    config = RouterConfig.from_env(env)
    assert [one.provider for one in config.models["smart"]] == ["gemini"]
    assert config.models["fast"][0].limits == Limits(
        requests_per_min=15, tokens_per_min=200_000, concurrency=64, share=0.5
    )
    assert RouterConfig.from_env({}).models == {}


def test_embeddings_of_two_models_are_not_mixed() -> None:
    assert [one.provider for one in RouterConfig.from_env(ENV).models["embed"]] == ["openai"]


@pytest.mark.parametrize("value", ["many", "-3", "nan"])
def test_a_limit_in_the_environment_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(RouterConfigInvalid, match=r"GREENROOM_OPENAI_RPM|requests_per_min"):
        RouterConfig.from_env({"OPENAI_API_KEY": "k", "GREENROOM_OPENAI_RPM": value})


def test_models_that_share_a_deployment_share_its_limits() -> None:
    shared = {"smart": (deployment("openai", weight=2.0),), "fast": (deployment("openai", tier=1),)}
    router = Router(RouterConfig(models=shared))
    assert router.models == ("fast", "m", "smart")


async def test_a_shared_deployment_is_one_lane() -> None:
    shared = {"smart": (deployment("openai", weight=2.0),), "fast": (deployment("openai", tier=1),)}
    async with Router(RouterConfig(models=shared)) as router:
        assert [lane.deployment for lane in router.snapshot()] == ["openai/m"]
