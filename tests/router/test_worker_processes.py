"""Workers in processes of their own, on one store: their providers see no more than their limits, whoever is killed."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from benchmarks.routing.bursts import Control
from benchmarks.routing.providers import providers
from benchmarks.routing.workers import burst
from greenroom.runtime.router import Router
from greenroom.transports import open_transport

from .holder import BODY, config

HOLDER = Path(__file__).with_name("holder.py")
PATIENCE_S = 50.0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_processes_share_the_limits_of_two_providers(tmp_path: Path) -> None:
    """400 calls within a second, where 120 may go at once and 120 a second after: none is refused."""
    with providers(60.0, 1) as (urls, control):
        outcome = burst(f"sqlite:///{tmp_path / 'limits.db'}", urls, Control(control), calls=400, workers=2)
    assert (outcome.failed, outcome.refused, outcome.requests) == (0, 0, 400)
    assert outcome.over_limit_windows == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_killed_workers_places_are_used_by_another(tmp_path: Path, anyio_backend: str) -> None:
    """All four are taken by calls that do not end; once it is gone and its lease is over, another one has them."""
    store = f"sqlite:///{tmp_path / 'limits.db'}"
    with providers(math.inf, 1) as ((base_url, _), control):
        await anyio.to_thread.run_sync(Control(control).begin, ["openai:stall:times=4:after=0"])
        command = [sys.executable, str(HOLDER), store, base_url, "4"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:  # noqa: ASYNC220
            try:
                assert holder.stdout is not None
                assert await anyio.to_thread.run_sync(holder.stdout.readline) == "held\n"
                async with (
                    open_transport(store) as shared,
                    Router(config(base_url)) as router,
                    router.share(shared, "other").running(),
                ):
                    statuses: list[int] = []

                    async def ask() -> None:
                        statuses.append((await router.request("/chat/completions", BODY)).status_code)

                    with anyio.fail_after(PATIENCE_S):
                        async with anyio.create_task_group() as calls:
                            for _ in range(4):
                                calls.start_soon(ask)
                            while router.waiting < 4:  # noqa: ASYNC110
                                await anyio.sleep(0.02)
                            await anyio.sleep(1.0)
                            assert statuses == []
                            holder.kill()
                    assert statuses == [200] * 4
            finally:
                holder.kill()
