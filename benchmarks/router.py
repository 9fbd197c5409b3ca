"""The router against the plain SDK, careful lines with aiolimiter, LiteLLM and Portkey: bursts, outages, cost, gateway.

Providers are simulated in a process of their own, over real sockets; each allows 60 requests a second and holds 60.
2,000 calls come within a second. `benchmarks/routing/__init__.py` has the formula of the optimum. Every figure is taken
by a process that may take so long and no longer; one that cannot be taken is left out, with a note that says why. What
greenroom is compared with is installed once (`routing/peers.py`). Takes about five minutes.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable

from .report import RESULTS, Row, Suite
from .routing.bare import bare
from .routing.bursts import CASES, LONGEST, PER_S, Outcome
from .routing.cost import IN_FLIGHT, added_us
from .routing.gateways import added
from .routing.peers import Absent, litellm, measured, note, set_up
from .routing.plots import draw
from .routing.providers import providers
from .routing.workers import four_workers

OURS = "greenroom"
LITELLM = "litellm Router"
MOST_S = 345.0
"""How long the suite may take once peers are installed, seconds; what does not fit is left out."""

OURS_BURSTS = tuple((case, OURS) for case in CASES)
PEERS_BURSTS = (("burst", "aiolimiter"), ("burst", "openai SDK"), ("burst", LITELLM), ("one_down", "aiolimiter"))
GATEWAYS = (OURS, "portkey gateway", "litellm proxy")
LITELLM_CALLS = 300
START_S = 20.0
"""Added to the time that a client may take: it has to start."""


class _Suite:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rows: list[Row] = []
        self.ratios: dict[str, float] = {}
        self.bursts: dict[tuple[str, str], Outcome] = {}
        self._until = time.monotonic() + MOST_S

    def burst(self, case: str, system: str) -> None:
        """Send a burst through a client in a process of its own."""
        wanted = CASES[case]
        timeout_s = LONGEST * wanted.optimum_s + START_S
        if system != OURS and time.monotonic() + wanted.optimum_s + START_S > self._until:
            raise Absent("the suite's time is over")
        python = litellm() if system == LITELLM else sys.executable
        client = ("litellm_peer", "burst") if system == LITELLM else ("clients", system)
        with providers(PER_S, self.seed) as (urls, control):
            module = [python, "-m", f"benchmarks.routing.{client[0]}", client[1]]
            found = measured(f"{case}, {system}", [*module, case, json.dumps(urls), control], timeout_s)
        outcome = Outcome(**found)
        self.bursts[case, system] = outcome
        self.rows += [
            Row(f"{case}: makespan", system, outcome.makespan_s, "s"),
            Row(f"{case}: failed", system, outcome.failed, "calls"),
            Row(f"{case}: 429s", system, outcome.refused, "answers"),
            Row(f"{case}: requests", system, outcome.requests, "requests"),
            Row(f"{case}: client's processor time", system, outcome.cpu_s, "s"),
        ]
        name = case if system == OURS else f"{case}, {system}"
        if outcome.failed == 0:
            self.ratios[f"{name}: makespan/optimum" if system != OURS else f"{case}_makespan/optimum"] = (
                outcome.makespan_s / wanted.optimum_s
            )
        if system == OURS:
            self.ratios[f"{case}_failed"] = float(outcome.failed)
            self.ratios[f"{case}_429"] = float(outcome.refused)
            self.ratios[f"{case}_over_limit_windows"] = float(outcome.over_limit_windows)

    def cost(self) -> None:
        """Measure processor time and calls a second, and LiteLLM's in the same minute."""
        with bare() as url:
            found = measured("cost", [sys.executable, "-m", "benchmarks.routing.cost", url], 90)
            for what, unit in (("call", "us"), ("chunk", "us"), ("rate", "calls/s")):
                for system, samples in found[what].items():
                    self.rows.append(Row(f"cost: {what}", system, statistics.median(samples), unit, tuple(samples)))
            self.ratios["added_us_per_call"] = added_us(found["call"])
            self.ratios["added_us_per_chunk"] = added_us(found["chunk"])
            rates = {system: statistics.median(samples) for system, samples in found["rate"].items()}
            self.ratios["calls_per_s/openai"] = rates["router"] / rates["openai"]
            peer = [litellm(), "-m", "benchmarks.routing.litellm_peer", "rate"]
            theirs = measured(f"cost, {LITELLM}", [*peer, url, str(LITELLM_CALLS), str(IN_FLIGHT)], 60)
        self.rows.append(Row("cost: rate", LITELLM, theirs, "calls/s"))
        self.ratios["calls_per_s/litellm_router"] = rates["router"] / theirs
        self.ratios["request_calls_per_s/litellm_router"] = rates["Router.request"] / theirs

    def gateway(self, system: str) -> None:
        """Measure what a gateway adds at 500 calls a second."""
        note(f"gateway, {system}")
        if system != OURS and time.monotonic() + 40 > self._until:
            raise Absent("the suite's time is over")
        with bare() as url:
            found = added(system, url)
        self.rows.append(Row("gateway at 500 calls/s: answered", system, found.answered_per_s, "calls/s"))
        if found.p50_ms < math.inf:
            self.rows += [
                Row("gateway at 500 calls/s: added, p50", system, found.p50_ms, "ms"),
                Row("gateway at 500 calls/s: added, p99", system, found.p99_ms, "ms"),
            ]
            name = "gateway_added_p50_ms" if system == OURS else f"gateway_added_p50_ms, {system}"
            self.ratios[name] = found.p50_ms

    def workers(self) -> None:
        """Send a burst through worker processes that share the limits."""
        rows, ratios = four_workers(self.seed)
        self.rows += rows
        self.ratios |= ratios


def run(seed: int) -> Suite:
    """Run the suite."""
    set_up()
    suite = _Suite(seed)
    note(f"load average at the start: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    plan: list[tuple[Callable[..., None], tuple[str, ...]]] = [
        *((suite.burst, args) for args in OURS_BURSTS),
        (suite.cost, ()),
        *((suite.gateway, (system,)) for system in GATEWAYS),
        (suite.workers, ()),
        *((suite.burst, args) for args in PEERS_BURSTS),
    ]
    for take, args in plan:
        try:
            take(*args)
        except Absent as error:
            note(f"left out: {' '.join((take.__name__, *args))}: {error}")
    if suite.bursts:
        note(f"drawn in {draw(suite.bursts, RESULTS / 'router.svg').relative_to(RESULTS.parents[1])}")
    return Suite("router", seed, tuple(suite.rows), suite.ratios, packages=("aiolimiter", "openai", "httpx2"))
