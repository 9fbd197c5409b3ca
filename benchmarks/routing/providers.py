"""Both providers in a process of their own: a client under load must not slow them down."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from greenroom.runtime.simulator import Latency, Limits, ProviderPlan, Simulator, serve_simulator

from .bursts import LATENCY_S


@contextmanager
def providers(per_s: float, seed: int) -> Iterator[tuple[list[str], str]]:
    """Run them while the block runs; gives the base URLs of both, and the address of their control API.

    Args:
        per_s: requests a second that each allows, and holds in its bucket; infinity: no limits.
        seed: of their answers.
    """
    command = [sys.executable, "-m", "benchmarks.routing.providers", str(per_s), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            urls, control = json.loads(process.stdout.readline())
            yield urls, control
        finally:
            process.terminate()


async def _serve(per_s: float, seed: int) -> None:
    limits = Limits(requests_per_min=per_s * 60, burst_s=1.0) if per_s < math.inf else Limits()
    latency = Latency(first_token_s=LATENCY_S, tokens_per_s=0, jitter=0)
    plans = [ProviderPlan(name=name, models=("*",), limits=limits, latency=latency) for name in ("openai", "gemini")]
    async with serve_simulator(Simulator(plans, seed=seed)) as at:
        print(json.dumps([[at.openai_url, at.gemini_url], at.control_url]), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve, float(sys.argv[1]), int(sys.argv[2]))
