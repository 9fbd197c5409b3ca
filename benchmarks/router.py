"""The router against the plain SDK and against thirty careful lines: bursts, outages, and what a call costs.

Providers are simulated in a process of their own, over real sockets; each allows 60 requests a second and holds 60.
2,000 calls come within a second. `benchmarks/routing/__init__.py` has the formula of the optimum. LiteLLM's Router
takes part where it is installed (see `routing/litellm_peer.py`). Takes about four minutes.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
from pathlib import Path
from typing import Any

import anyio

from .report import Row, Suite
from .routing.burst import BOTH, NONE, ONE, PER_S, Outage, Outcome, burst, careful, over, plain, routed
from .routing.cost import IN_FLIGHT, added_us, costs
from .routing.providers import Providers, providers

OURS = "greenroom"
LITELLM = Path(__file__).parents[1] / ".venv-litellm/bin/python"


async def bursts(at: Providers) -> dict[tuple[str, str], tuple[Outage, Outcome]]:
    """Send every burst through every client that it is meant for."""
    found: dict[tuple[str, str], tuple[Outage, Outcome]] = {}
    plan: list[tuple[str, str, Outage, Any]] = [
        ("burst", OURS, NONE, lambda: routed(at)),
        ("unknown_limits", OURS, NONE, lambda: routed(at, known=False)),
        ("one_down", OURS, ONE, lambda: routed(at)),
        ("both_down", OURS, BOTH, lambda: routed(at)),
        ("burst", "aiolimiter", NONE, lambda: careful(at)),
        ("one_down", "aiolimiter", ONE, lambda: careful(at)),
        ("both_down", "aiolimiter", BOTH, lambda: careful(at)),
        ("burst", "openai, 2 retries", NONE, lambda: plain(at, 2)),
        ("burst", "openai, 10 retries", NONE, lambda: plain(at, 10)),
    ]
    for case, system, outage, client in plan:
        async with client() as ask:
            found[case, system] = outage, await burst(at, outage, ask)
        await anyio.sleep(1.5)  # the buckets fill up
    return found


def litellm(at: Providers) -> tuple[float, str] | None:
    """Return LiteLLM's calls a second and its version; None where it is not installed."""
    if not LITELLM.exists():
        return None
    script = Path(__file__).parent / "routing/litellm_peer.py"
    command = [str(LITELLM), str(script), at.urls()[0], "300", str(IN_FLIGHT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return None
    told = json.loads(done.stdout.splitlines()[-1])
    return told["calls_per_s"], told["version"]


def run(seed: int) -> Suite:
    """Run the suite."""
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    with providers(PER_S, seed) as at:
        found = anyio.run(bursts, at)
    for (case, system), (outage, outcome) in found.items():
        rows += [
            Row(f"{case}: makespan", system, outcome.makespan_s, "s"),
            Row(f"{case}: failed", system, outcome.failed, "calls"),
            Row(f"{case}: 429s", system, outcome.refused, "answers"),
            Row(f"{case}: requests", system, outcome.requests, "requests"),
        ]
        ratio = over(outcome, outage)
        if system == OURS:
            ratios[f"{case}_makespan/optimum"] = ratio if ratio < math.inf else -1.0
            ratios[f"{case}_failed"] = float(outcome.failed)
            ratios[f"{case}_429"] = float(outcome.refused)
        elif ratio < math.inf:
            ratios[f"{case}_makespan/optimum, {system}"] = ratio
    with providers(None, seed) as at:
        cost = anyio.run(costs, at)
        peer = litellm(at)
    for what, unit in (("call", "us"), ("chunk", "us"), ("rate", "calls/s")):
        for system, samples in cost[what].items():
            rows.append(Row(f"cost: {what}", system, statistics.median(samples), unit, tuple(samples)))
    ratios["added_us_per_call"] = added_us(cost["call"])
    ratios["added_us_per_chunk"] = added_us(cost["chunk"])
    rates = {system: statistics.median(samples) for system, samples in cost["rate"].items()}
    ratios["calls_per_s/openai"] = rates["router"] / rates["openai"]
    if peer is not None:
        rows.append(Row("cost: rate", f"litellm Router {peer[1]}", peer[0], "calls/s"))
        ratios["calls_per_s/litellm_router"] = rates["router"] / peer[0]
        ratios["request_calls_per_s/litellm_router"] = rates["Router.request"] / peer[0]
    return Suite("router", seed, tuple(rows), ratios, packages=("aiolimiter", "openai", "httpx2"))
