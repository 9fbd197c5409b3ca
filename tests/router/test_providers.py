"""Providers: what each says and how it is understood, and that another one is a value from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import APIError

from greenroom.runtime.router import Router, RouterConfig, RouterConfigInvalid, providers
from greenroom.runtime.router.providers import Provider, named, register
from greenroom.runtime.simulator import Simulator, SimulatorTransport

from .conftest import KEY, NONE, QUESTION, STEADY, RigMaker, deployment, plans

ROUTER = Path(sys.modules[Router.__module__].__file__ or "").parent

LIMITED: Any = {"error": {"message": "slow", "code": "rate_limit_exceeded"}}
A_DAY: Any = [{"error": {"details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]}}]
TOO_LONG: Any = [{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens"}}]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered here is forgotten afterwards."""
    monkeypatch.setattr(providers, "_known", dict(providers._known))
    yield
    providers._installed.cache_clear()


@pytest.mark.parametrize(
    ("name", "status", "body", "kind", "after_s"),
    [
        ("openai", 429, LIMITED, "limited", 2.5),
        ("openai", 429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "quota", None),
        ("openai", 429, {"error": {"message": "Request too large for gpt-5.2"}}, "unfit", None),
        ("gemini", 429, [{"error": {"details": [{"retryDelay": "34s"}]}}], "limited", 2.5),
        ("gemini", 429, A_DAY, "quota", None),
        ("gemini", 400, TOO_LONG, "unfit", None),
        ("openai", 400, {"error": {"code": "context_length_exceeded"}}, "unfit", None),
        ("openai", 413, {}, "unfit", None),
        ("openai", 400, {"error": {"message": "bad"}}, "caller", None),
        ("openai", 401, {}, "refused", None),
        ("openai", 404, b"<html>", "refused", None),
        ("openai", 409, {}, "unavailable", 2.5),
        ("gemini", 503, [{"error": {"status": "UNAVAILABLE"}}], "unavailable", 2.5),
        ("compatible", 529, {"error": "overloaded"}, "unavailable", 2.5),
    ],
)
def test_a_refusal_is_classified(name: str, status: int, body: object, kind: str, after_s: float | None) -> None:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    found = named(name).refusal(status, {"retry-after": "3", "retry-after-ms": "2500"}, raw)
    assert (found.kind, found.retry_after_s, found.status) == (kind, after_s, status)


@pytest.mark.parametrize("told", ["soon", "-1", "nan", "", "Wed, 21 Oct 2026 07:28:00 GMT"])
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_retry_after_that_is_no_number_is_none(name: str, told: str) -> None:
    assert named(name).refusal(429, {"retry-after": told}, b"").retry_after_s is None


def test_geminis_wish_to_wait_is_read() -> None:
    body = b'[{"error": {"details": [{"@type": "x"}, {"retryDelay": "34s"}]}}]'
    assert named("gemini").refusal(429, {}, body).retry_after_s == 34


@pytest.mark.parametrize(
    ("name", "error", "kind", "after_s"),
    [
        ("openai", {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}, "limited", None),
        ("openai", {"error": {"message": "pay", "type": "insufficient_quota"}}, "quota", None),
        ("openai", {"error": {"message": "down", "type": "server_error"}}, "unavailable", None),
        ("gemini", [{"error": {"code": 429, "details": [{"retryDelay": "7s"}]}}], "limited", 7),
        ("gemini", [{"error": {"code": 429, **A_DAY[0]["error"]}}], "quota", None),
        ("gemini", [{"error": {"code": 400, "message": "bad"}}], "unavailable", None),
    ],
)
def test_an_error_inside_an_answer_with_status_200_is_classified(
    name: str, error: object, kind: str, after_s: float | None
) -> None:
    spoken = named(name)
    found = spoken.hidden(spoken.error_in(error), "stream")
    assert (found.kind, found.retry_after_s) == (kind, after_s)
    assert found.message.startswith("error inside the stream: ")


def test_only_geminis_endpoint_is_spared_parameters_that_it_refuses() -> None:
    body = {"model": "smart", "seed": 1, "user": "u", "messages": []}
    assert named("gemini").prepare("/chat/completions", body, "m", stream=False) == {"model": "m", "messages": []}
    assert named("openai").prepare("/chat/completions", body, "m", stream=False) == {**body, "model": "m"}


def test_no_other_file_of_the_router_knows_a_provider_by_name() -> None:
    names = [f'"{one.name}"' for one in providers.known()]
    files = [file for file in ROUTER.rglob("*.py") if file.parent == ROUTER and file.name != "deployment.py"]
    assert len(files) > 20
    assert [file.name for file in files if any(name in file.read_text("utf-8") for name in names)] == []


ACME = Provider(
    name="acme-ai",
    base_url="http://simulator.invalid/openai/v1",
    key_env="ACME_API_KEY",
    models={"smart": "acme-1", "fast": "acme-0"},
    refused=frozenset({"seed"}),
    paths=("/chat/completions",),
)


async def test_a_provider_from_outside_is_configured_and_asked_like_any_other(registry: None) -> None:
    register(ACME)
    config = RouterConfig.from_env({"ACME_API_KEY": KEY, "GREENROOM_ACME_AI_RPM": "90"})
    assert {name: one[0].name for name, one in config.models.items()} == {
        "smart": "acme-ai/acme-1",
        "fast": "acme-ai/acme-0",
    }
    assert config.models["smart"][0].limits.requests_per_min == 90
    sim = Simulator(plans(NONE, STEADY))
    async with Router(config, transport=SimulatorTransport(sim)) as router:
        body = {"model": "smart", "messages": QUESTION, "seed": 3}
        assert (await router.request("/chat/completions", body)).status_code == 200
        refused = await router.request("/embeddings", {"model": "smart", "input": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_served")
    assert [one.model for one in sim.seen] == ["acme-1"]


def test_a_name_is_one_provider(registry: None) -> None:
    assert register(ACME) is register(ACME)
    with pytest.raises(RouterConfigInvalid, match="a provider is named 'acme-ai' already"):
        register(msgspec.structs.replace(ACME, key_env="OTHER"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("ACME = Provider(name='acme', key_env='ACME_KEY', base_url='http://acme.example/v1')", None),
        ("ACME = Provider(name='other')", r"smart\[0\]: acme_greenroom:ACME is no Provider with the name 'acme'"),
        ("raise RuntimeError('out of order')", "'acme' of acme_greenroom:ACME cannot be loaded: out of order"),
    ],
    ids=["good", "another", "broken"],
)
def test_an_installed_package_brings_its_provider(
    registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str | None
) -> None:
    line = "from greenroom.runtime.router.providers import Provider\n"
    (tmp_path / "acme_greenroom.py").write_text(line + source, "utf-8")
    info = tmp_path / "acme_greenroom-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-greenroom\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text("[greenroom.providers]\nacme = acme_greenroom:ACME\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_greenroom", raising=False)
    providers._installed.cache_clear()
    table = {"models": {"smart": [{"provider": "acme", "model": "acme-1"}]}}
    if says is None:
        [found] = RouterConfig.from_table(table, {"ACME_KEY": "k"}).models["smart"]
        assert (found.name, found.base_url) == ("acme/acme-1", "http://acme.example/v1")
    else:
        with pytest.raises(RouterConfigInvalid, match=says):
            RouterConfig.from_table(table, {"ACME_KEY": "k"})


def test_an_unknown_provider_is_an_error_that_names_the_known_ones() -> None:
    says = "provider is 'opnai', which is not known: give one of compatible, gemini, openai"
    with pytest.raises(RouterConfigInvalid, match=says) as caught:
        RouterConfig.from_table({"models": {"smart": [{"provider": "opnai", "model": "m"}]}}, {})
    assert str(caught.value).startswith("router.models.smart[0]: ")
    with pytest.raises(RouterConfigInvalid, match=says):
        msgspec.structs.replace(deployment("openai"), provider="opnai")


@pytest.mark.parametrize("after", [0, 3])
async def test_a_rate_limit_inside_a_stream_pauses_its_deployment_and_is_no_outage(rig: RigMaker, after: int) -> None:
    async with rig(*(f"{name}:error_event:after={after}:times=1:status=429" for name in ("openai", "gemini"))) as one:
        for _ in range(2):
            with suppress(APIError):
                await one.read()
        lanes = one.router.snapshot()
        assert [lane.outcomes.get("limited") for lane in lanes] == [1, 1]
        assert [lane.outcomes.get("unavailable") for lane in lanes] == [None, None]
        assert all(lane.paused_s > 0 for lane in lanes) == bool(after)
