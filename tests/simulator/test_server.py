"""The simulator on a socket, and its control API."""

from __future__ import annotations

import httpx2
import pytest

from greenroom.runtime.listener import AddressUnavailable
from greenroom.runtime.simulator import NOTICE, Simulator, default_plans, serve_simulator


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_control_api_shows_and_changes_what_it_does() -> None:
    sim = Simulator(default_plans(openai_rpm=10))
    async with serve_simulator(sim) as at, httpx2.AsyncClient(trust_env=False) as http:
        body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        headers = {"authorization": "Bearer k"}

        async def call() -> int:
            response = await http.post(f"{at.openai_url}/chat/completions", json=body, headers=headers)
            return response.status_code

        assert await call() == 200
        added = await http.post(f"{at.control_url}/faults", json=["openai:503"])
        assert [fault["kind"] for fault in added.json()["faults"]] == ["error"]
        assert await call() == 503
        assert (await http.delete(f"{at.control_url}/faults")).json()["faults"] == []
        state = (await http.get(f"{at.control_url}/state")).json()
        assert state["providers"]["openai"]["by_status"] == {"200": 1, "503": 1}
        assert (state["notice"], state["http_429"]) == (NOTICE, 0)
        assert (await http.post(f"{at.control_url}/reset")).json()["providers"]["openai"]["requests"] == 0


@pytest.mark.parametrize("body", [b"", b"{}", b'["openai:boom"]', b"[1]"])
async def test_a_rule_that_is_none_is_refused_and_none_is_added(body: bytes) -> None:
    sim = Simulator()
    async with serve_simulator(sim) as at, httpx2.AsyncClient(trust_env=False) as http:
        refused = await http.post(f"{at.control_url}/faults", content=body)
        assert refused.status_code == 400
        assert "give a JSON list of rules" in refused.json()["error"]
        assert not sim.faults


async def test_the_port_of_another_is_refused_with_its_address() -> None:
    async with serve_simulator(Simulator()) as at:
        with pytest.raises(AddressUnavailable, match=f"127.0.0.1:{at.port}"):
            async with serve_simulator(Simulator(), port=at.port):
                pass


async def test_both_prefixes_of_a_provider_lead_to_it() -> None:
    async with serve_simulator(Simulator()) as at, httpx2.AsyncClient(trust_env=False) as http:
        root = f"http://{at.host}:{at.port}"
        for path in ("/v1/models", "/openai/v1/models", "/v1beta/openai/models", "/gemini/v1beta/openai/models"):
            assert (await http.get(root + path)).json()["object"] == "list"
