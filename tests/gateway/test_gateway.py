"""The gateway over real sockets: any OpenAI client, keys, limits, streams, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from greenroom.runtime.errors import ConfigInvalid
from greenroom.runtime.gateway import GatewayKey, Keys, KeysInvalid, serve_gateway
from greenroom.runtime.gateway.keys import new_key
from greenroom.runtime.router import Budget, Router, RouterConfig, Tenant
from greenroom.runtime.simulator import IN_PROCESS, Fault, Latency, ProviderPlan, Simulator, SimulatorTransport

QUESTION: Any = [{"role": "user", "content": "Where do lighthouse keepers sleep?"}]
KEY, DIGEST = new_key()
FAST = Latency(first_token_s=0.001, tokens_per_s=0, jitter=0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Served:
    def __init__(self, url: str, router: Router, sim: Simulator) -> None:
        self.url, self.router, self.sim = url, router, sim

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=20)


@asynccontextmanager
async def served(
    *faults: str, latency: Latency = FAST, tenants: dict[str, Tenant] | None = None, **key: Any
) -> AsyncIterator[Served]:
    plans = [ProviderPlan(name=name, models=("*",), latency=latency) for name in ("openai", "gemini")]
    sim = Simulator(plans, faults=map(Fault.parse, faults))
    config = RouterConfig(models=RouterConfig.from_env(IN_PROCESS).models, max_attempts=2, tenants=tenants or {})
    keys = Keys({"acme": GatewayKey(sha256=DIGEST, **key)})
    async with (
        Router(config, transport=SimulatorTransport(sim)) as router,
        serve_gateway(router, keys) as url,
    ):
        yield Served(url, router, sim)


async def idle(one: Served) -> None:
    """Wait until the router has no call under way."""
    while any(lane.in_flight for lane in one.router.snapshot()):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


async def metrics(one: Served) -> str:
    async with httpx2.AsyncClient() as http:
        found = await http.get(one.url.removesuffix("/v1") + "/metrics", headers={"authorization": f"Bearer {KEY}"})
        return found.text


async def test_the_sdk_works_unchanged_chat_streams_embeddings_models() -> None:
    async with served() as one, one.client() as client:
        answer = await client.chat.completions.create(model="smart", messages=QUESTION)
        assert answer.choices[0].message.content
        stream: Any = await client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        vectors = await client.embeddings.create(model="embed", input=["one"], dimensions=8)
        assert len(vectors.data[0].embedding) == 8
        assert "smart" in [model.id async for model in client.models.list()]
        text = await metrics(one)
        assert 'greenroom_gateway_requests_total{key="acme",status="200"} 3' in text
        assert 'status="ok"} ' in text
        assert "greenroom_llm_call_seconds_count 3" in text
        assert 'greenroom_provider_circuit_state{deployment="openai/gpt-5.2"} 0' in text
        assert KEY not in text


@pytest.mark.parametrize("key", ["wrong", KEY + "x", KEY[:-1], "é"], ids=["wrong", "longer", "shorter", "letters"])
async def test_a_key_that_is_none_is_refused_and_nothing_is_asked(key: str) -> None:
    async with served() as one, httpx2.AsyncClient() as http:
        headers = {b"authorization": b"Bearer " + key.encode()}
        for method, path in (("POST", "/chat/completions"), ("GET", "/models")):
            found = await http.request(method, one.url + path, headers=headers, content=b"{}")
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
            assert key not in found.text
        assert not one.sim.seen


async def test_the_last_refusal_comes_in_openais_shape_with_a_time_to_come_again() -> None:
    async with served("*:400:times=1") as one, one.client() as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="smart", messages=QUESTION)
        with pytest.raises(openai.NotFoundError, match="no model is named 'smarter'"):
            await client.chat.completions.create(model="smarter", messages=QUESTION)
        with pytest.raises(openai.NotFoundError, match="POST /v1/files is not served"):
            await client.files.create(file=b"x", purpose="batch")


async def test_a_keys_limits_are_kept_and_say_when_to_come_again() -> None:
    async with served(requests_per_min=10) as one, one.client() as client:
        await client.chat.completions.create(model="smart", messages=QUESTION)
        with pytest.raises(openai.RateLimitError, match="key acme asks more than it may") as caught:
            await client.chat.completions.create(model="smart", messages=QUESTION)
        assert float(caught.value.response.headers["retry-after"]) >= 1


async def test_calls_under_way_of_a_key_are_bounded_also_streams() -> None:
    slow = Latency(first_token_s=0.001, tokens_per_s=40, jitter=0)
    async with served(concurrency=1, latency=slow) as one, one.client() as client:
        stream: Any = await client.chat.completions.create(model="smart", messages=QUESTION, stream=True)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="smart", messages=QUESTION)
        await stream.close()
        with anyio.fail_after(20):
            await idle(one)
            while True:
                try:
                    await client.chat.completions.create(model="smart", messages=QUESTION, max_completion_tokens=2)
                    break
                except openai.RateLimitError:
                    await asyncio.sleep(0.01)


async def test_a_caller_that_goes_away_gives_its_call_up() -> None:
    async with served("*:stall") as one, one.client() as client:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.5).chat.completions.create(model="smart", messages=QUESTION)
        with anyio.fail_after(20):
            await idle(one)
        assert 'status="499"} 1' in await metrics(one)


async def test_a_key_has_its_tenants_budget() -> None:
    async with served(tenants={"acme": Tenant(budget=Budget(tokens=1))}) as one, one.client() as client:
        await client.chat.completions.create(model="smart", messages=QUESTION)
        with pytest.raises(openai.APIStatusError, match="tenant acme has spent"):
            await client.chat.completions.create(
                model="smart", messages=QUESTION, extra_headers={"x-greenroom-tenant": "other"}
            )


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[]", 400, "the body has no model"),
        (b'{"model": 1}', 400, "the body has no model"),
        (b"x" * (33 * 1024 * 1024), 413, "the body is longer than"),
    ],
)
async def test_a_bad_body_is_one_sentence(content: bytes, status: int, says: str) -> None:
    async with served() as one, httpx2.AsyncClient() as http:
        found = await http.post(
            one.url + "/chat/completions", headers={"authorization": f"Bearer {KEY}"}, content=content
        )
        assert found.status_code == status
        assert says in found.json()["error"]["message"]


async def test_without_keys_it_serves_this_machine_and_no_web_page() -> None:
    sim = Simulator()
    async with Router(RouterConfig.from_env(IN_PROCESS), transport=SimulatorTransport(sim)) as router:
        async with serve_gateway(router) as url, httpx2.AsyncClient() as http:
            assert (await http.get(url + "/models")).status_code == 200
            assert (await http.get(url + "/models", headers={"origin": "http://evil.example"})).status_code == 403
            assert (await http.get(url + "/models", headers={"host": "evil.example"})).status_code == 403
        with pytest.raises(ConfigInvalid, match="there are no keys: give --keys"):
            async with serve_gateway(router, host="0.0.0.0"):
                pass


def test_a_file_of_keys_is_read_and_mistakes_name_the_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[acme]\nsha256 = "{DIGEST}"\npriority = 2\n')
    holder = Keys.read(file).find(KEY)
    assert holder is not None
    assert (holder.name, holder.tenant, holder.key.priority) == ("acme", "acme", 2)
    assert Keys.read(file).find("") is None
    for text, says in (
        ("", "holds no key"),
        ("[acme]\nsha256 = 1", "acme: Expected `str`"),
        ("[acme]\nkey = 'x'", "acme: "),
        ("[acme]\nsha256 = 'abc'", "key acme: sha256 is no digest"),
        (f"[acme]\nsha256 = '{DIGEST}'\nconcurrency = 0", "key acme: concurrency: give 1"),
        ("[", "keys.toml: "),
    ):
        file.write_text(text)
        with pytest.raises(KeysInvalid, match=says):
            Keys.read(file)
    with pytest.raises(KeysInvalid, match="No such file"):
        Keys.read(tmp_path / "none.toml")
