"""Gateways as processes: what two of them on one store ask of the providers is what one may ask."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from benchmarks.routing.bursts import Control
from benchmarks.routing.providers import providers

CALLS = 400
SETTINGS = """
store = "sqlite:///limits.db"

[router.tenants.open]
budget = {{ tokens = {budget} }}

[[router.models.smart]]
provider = "openai"
model = "m"
base_url = "{0}"
limits = {{ requests_per_min = 3600, burst_s = 1 }}

[[router.models.smart]]
provider = "gemini"
model = "m"
base_url = "{1}"
limits = {{ requests_per_min = 3600, burst_s = 1 }}
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.contextmanager
def gateways(folder: Path, settings: str) -> Iterator[list[str]]:
    """Two gateways in a folder with settings; gives their base URLs."""
    (folder / "greenroom.toml").write_text(settings, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    env |= {"OPENAI_API_KEY": "simulator", "GEMINI_API_KEY": "simulator"}
    command = [sys.executable, "-m", "greenroom", "gateway", "--port", "0"]
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(2):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=env)
            stack.enter_context(process)
            stack.callback(process.send_signal, signal.SIGTERM)
            started.append(process)
        urls = []
        for process in started:
            assert process.stdout is not None
            urls.append(process.stdout.readline().removeprefix("export OPENAI_BASE_URL=").strip())
        yield urls
    assert [process.returncode for process in started] == [0, 0]


async def ask(http: httpx2.AsyncClient, url: str) -> httpx2.Response:
    body = {"model": "smart", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 16}
    return await http.post(f"{url}/chat/completions", json=body)


def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=100, limits=httpx2.Limits(max_connections=None))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_two_gateways_on_one_store_get_no_429(tmp_path: Path, anyio_backend: str) -> None:
    """400 calls at once, where 120 may go at once and 120 a second after."""
    with providers(60.0, 1) as (urls, control), gateways(tmp_path, SETTINGS.format(*urls, budget=1e9)) as both:
        watch = Control(control)
        await anyio.to_thread.run_sync(watch.begin, [])
        statuses: list[int] = []

        async def one(url: str) -> None:
            statuses.append((await ask(http, url)).status_code)

        async with client() as http, anyio.create_task_group() as group:
            for number in range(CALLS):
                group.start_soon(one, both[number % 2])
        outcome = await anyio.to_thread.run_sync(watch.outcome, 0.0, 0, 0.0)
        assert statuses == [200] * CALLS
        assert (outcome.refused, outcome.requests, outcome.over_limit_windows) == (0, CALLS, 0)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_two_gateways_on_one_store_count_one_budget(tmp_path: Path, anyio_backend: str) -> None:
    """What is spent through one is soon known to the other, which refuses though it has sent nothing."""
    with providers(60.0, 1) as (urls, _), gateways(tmp_path, SETTINGS.format(*urls, budget=20)) as (first, second):
        async with client() as http:
            found: Any = await ask(http, first)
            while found.status_code == 200:
                found = await ask(http, first)
            with anyio.fail_after(50):
                while (found := await ask(http, second)).status_code == 200:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.1)
            assert (found.status_code, found.json()["error"]["code"]) == (402, "budget_spent")
