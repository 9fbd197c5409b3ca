"""What a gateway adds to a call, at a steady rate.

The provider behind it is `bare`. A gateway is kept to one core, where the system lets us say so. Calls start on the
second's grid whether or not the ones before have been answered, so a gateway that cannot keep up shows it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx2

from greenroom.runtime.cli.process import live
from greenroom.runtime.gateway import serve_gateway
from greenroom.runtime.router import Deployment, Limits, Router, RouterConfig, Secret
from greenroom.runtime.router.connections import Connections

from .bursts import QUESTION
from .peers import ROOT, Absent, litellm, portkey

PER_S = 500.0
SECONDS = 5.0
WARM = 300
"""Calls before those that count."""

GRACE_S = 5.0
"""How long answers may take after the last call, seconds."""

START_S = 60.0


class Added(NamedTuple):
    """What a gateway added to a call at 500 calls a second.

    Args:
        p50_ms, p99_ms: milliseconds more than the same calls without it; infinite where too few were answered.
        answered_per_s: calls answered with 200, a second.
    """

    p50_ms: float
    p99_ms: float
    answered_per_s: float


def added(system: str, bare_url: str) -> Added:
    """Measure one gateway: calls without it, with it, without it again.

    Raises:
        Absent: it cannot be installed or does not start.
    """
    with gateway(system, bare_url) as (url, headers):
        before = asyncio.run(load(bare_url, {}))
        through = asyncio.run(load(url, headers))
        after = asyncio.run(load(bare_url, {}))
    alone = sorted(before + after)
    if len(through) < 0.9 * PER_S * SECONDS:
        return Added(math.inf, math.inf, len(through) / (SECONDS + GRACE_S))
    p50, p99 = (1e3 * (_at(through, share) - _at(alone, share)) for share in (0.5, 0.99))
    return Added(p50, p99, len(through) / SECONDS)


async def load(url: str, headers: dict[str, str]) -> list[float]:
    """Call at a steady rate; return the seconds that answers took, in order of size."""
    body = json.dumps({"model": "smart", "messages": QUESTION}).encode()
    took: list[float] = []
    target = httpx2.URL(url + "/chat/completions")
    sent = {"authorization": "Bearer sk-bench", "content-type": "application/json", **headers}

    async with Connections() as connections:

        async def one() -> None:
            began = time.perf_counter()
            try:
                request = httpx2.Request("POST", target, content=body, headers=sent)
                response = await connections.handle_async_request(request)
                await response.aread()
            except httpx2.TransportError:
                return
            if response.status_code == 200:
                took.append(time.perf_counter() - began)

        for _ in range(WARM):
            await one()
        took.clear()
        try:
            async with asyncio.timeout(SECONDS + GRACE_S), asyncio.TaskGroup() as group:
                began = time.perf_counter()
                for number in range(int(PER_S * SECONDS)):
                    if (early_s := began + number / PER_S - time.perf_counter()) > 0:
                        await asyncio.sleep(early_s)
                    group.create_task(one())
        except TimeoutError:
            pass
    return sorted(took)


@contextmanager
def gateway(system: str, bare_url: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a gateway before the bare provider; gives its base URL, and headers that its calls need."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        headers: dict[str, str] = {}
        env, where = {**os.environ, "NODE_ENV": "production"}, Path(folder)
        if system == "greenroom":
            command, where = [sys.executable, "-m", __spec__.name, bare_url, str(port)], ROOT
        elif system == "litellm proxy":
            settings = Path(folder) / "litellm.yaml"
            model = {"model": "openai/m", "api_base": bare_url, "api_key": "k"}
            settings.write_text(json.dumps({"model_list": [{"model_name": "smart", "litellm_params": model}]}))
            run = str(Path(litellm()).with_name("litellm"))
            command = [run, "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
            key = f"sk-{secrets.token_hex(32)}"
            env |= {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_MASTER_KEY": key}
            headers = {"authorization": f"Bearer {key}"}
        else:
            command = [*portkey(), f"--port={port}", "--headless"]
            headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": bare_url}
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env, cwd=where
        ) as process:
            try:
                _alone(process.pid)
                url = f"http://127.0.0.1:{port}/v1"
                _started(system, process, url, headers)
                yield url, headers
            finally:
                process.kill()


def _started(system: str, process: subprocess.Popen[bytes], url: str, headers: dict[str, str]) -> None:
    """Wait until it answers a call."""
    body = json.dumps({"model": "smart", "messages": QUESTION}).encode()
    sent = {"authorization": "Bearer sk-bench", "content-type": "application/json", **headers}
    until, last = time.monotonic() + START_S, "it did not listen"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Absent(f"{system} ended with {process.returncode} at its start")
        try:
            asked = urllib.request.Request(url + "/chat/completions", body, sent)
            with urllib.request.urlopen(asked, timeout=5):
                return
        except urllib.error.HTTPError as error:
            last = f"it answered {error.code}: {error.read()[:200]!r}"
        except OSError:
            pass
        time.sleep(0.2)
    raise Absent(f"{system} did not start within {START_S:.0f} s: {last}")


def _alone(pid: int) -> None:
    """Keep a process to the last core; where that cannot be said, nothing happens."""
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(pid, cores[-1:])


def _at(ordered: list[float], share: float) -> float:
    return statistics.quantiles(ordered, n=100)[round(share * 100) - 1]


async def _serve(bare_url: str, port: int) -> None:
    limits = Limits(requests_per_min=120 * PER_S, burst_s=60)  # without any it would feel its way, from ten a second on
    deployment = Deployment(
        name="bare", provider="openai", model="m", base_url=bare_url, key=Secret("k"), limits=limits
    )
    async with Router(RouterConfig(models={"smart": (deployment,)})) as router, serve_gateway(router, port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    live(partial(_serve, sys.argv[1], int(sys.argv[2])))
