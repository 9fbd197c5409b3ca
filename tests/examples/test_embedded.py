"""The embedding examples, as their users have them: a real server, real sockets, a simulated provider."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest

from greenroom.runtime.simulator import Latency, ProviderPlan, Simulator, serve_simulator

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = Latency(first_token_s=0.01, tokens_per_s=0, jitter=0)


@asynccontextmanager
async def served(
    folder: Path, latency: Latency, example: str = "embedded"
) -> AsyncIterator[tuple[anyio.abc.Process, httpx2.AsyncClient]]:
    """Have uvicorn serve an example from a folder, and a client of it."""
    plan = ProviderPlan(name="openai", models=("*",), latency=latency)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", f"{example}:app"]
    async with serve_simulator(Simulator([plan])) as at:
        env = {name: value for name, value in (os.environ | at.env).items() if not name.startswith("GEMINI")}
        server = await anyio.open_process(command, cwd=folder, env=env, stderr=subprocess.STDOUT)
        assert server.stdout is not None
        try:
            said = b""
            while (found := re.search(rb"running on (http://\S+)", said)) is None:
                said += await server.stdout.receive()
            async with httpx2.AsyncClient(base_url=found[1].decode(), timeout=30) as client:
                yield server, client
        finally:
            if server.returncode is None:
                server.kill()
            with anyio.CancelScope(shield=True):
                await server.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("example", ["embedded", "embedded_fastapi", "embedded_litestar"])
async def test_a_run_is_started_by_the_apps_own_route_and_followed_by_the_mounted_api(
    tmp_path: Path, example: str
) -> None:
    async with served(tmp_path, QUICK, example) as (_, client):
        refused = await client.post("/articles", json={"topc": "tea"})
        assert refused.status_code == (400 if example == "embedded_litestar" else 422)
        assert "topic" in refused.text

        started = await client.post("/articles", json={"topic": "night trains"})
        assert started.status_code == 202
        followed = await client.get(started.json()["events"], headers={"accept": "text/event-stream"})
        kinds = re.findall(r"^event: (.+)$", followed.text, re.MULTILINE)
        assert kinds[0] == "run.queued"
        assert kinds[-1] == "run.completed"
        assert kinds.count("step.completed") == 1 + 6 + 3

        run = (await client.get(started.headers["location"])).json()
        assert run["status"] == "completed"
        assert len(run["result"]["sources"]) == 6
        for link in ("self", "result", "trace"):
            assert (await client.get(run["links"][link])).status_code == 200
        described = (await client.get("/greenroom/openapi.json")).json()
        assert described["servers"] == [{"url": "/greenroom"}]
        if example != "embedded":
            assert (await client.get(f"/articles/{run['id']}")).json() == run["result"]
        if example == "embedded_fastapi":
            missing = await client.get("/articles/nothing")
            assert (missing.status_code, missing.json()["detail"][:12]) == (404, "good morning")


@pytest.mark.slow
@pytest.mark.parametrize("example", ["embedded", "embedded_fastapi", "embedded_litestar"])
async def test_a_server_that_is_stopped_does_not_wait_for_those_who_follow_a_run(tmp_path: Path, example: str) -> None:
    async with served(tmp_path, Latency(first_token_s=1.0, tokens_per_s=100, jitter=0), example) as (server, client):
        started = await client.post("/articles", json={"topic": "tea"})
        kinds = []
        stream = client.stream("GET", started.json()["events"], headers={"accept": "text/event-stream"})
        async with stream as response:
            async for line in response.aiter_lines():
                if line.startswith("event:"):
                    kinds.append(line.removeprefix("event: "))
                if kinds[-1:] == ["step.started"] and server.returncode is None:
                    server.send_signal(signal.SIGTERM)
        assert "run.started" in kinds
        assert "run.completed" not in kinds
        assert "run.handed_over" not in kinds
        await server.wait()
