"""The load that every system of this suite is put under, and how what it measured gets home.

Why: a ratio holds only where both sides did the same. A system brings two things: `flow`, which runs one workflow of
STEPS steps from start to result, and `steps`, which runs one workflow of many steps and says how long each took. Every
step returns PAYLOAD, and what it returned is durable before the next one begins. Every system's garbage collector is
set as `greenroom worker` sets its own: what was loaded is left alone, and the young are looked at less often.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

FLOWS = 200
"""Workflows under way at once."""
STEPS = 10
"""Steps of each."""
PAYLOAD = "x" * 100
"""What each step returns."""
SEQUENCE = 100
"""Steps that are timed one after the other."""
STARTS = 10
"""Starts that are timed."""

STEPS_PER_S = "durable steps"
FLOW_MS = "workflow p50 at full load"
STEP_MS = "sequential step p50"
START_MS = "start to first step p50"

Figure: TypeAlias = tuple[str, str, list[float]]
"""A case, the unit, and its samples."""

began: dict[str, float] = {}
"""When the first step of a workflow began, by the workflow's name; noted by the first step itself."""


async def loaded(
    flow: Callable[[str], Awaitable[object]], steps: Callable[[int], Awaitable[list[float]]], rounds: int
) -> list[Figure]:
    """Put a system under load and take its figures.

    Args:
        flow: runs the workflow of this name; its first step notes `began`.
        steps: runs one workflow of so many steps, and returns the seconds from each step's begin to the next one's.
        rounds: how often the full load is put on, after a tenth of it that does not count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    rates: list[float] = []
    flows: list[float] = []

    async def timed(name: str, took: list[float]) -> None:
        start = time.perf_counter()
        await flow(name)
        took.append(time.perf_counter() - start)

    await asyncio.gather(*(timed(f"warm-{n}", []) for n in range(FLOWS // 10)))
    for number in range(rounds):
        took: list[float] = []
        start = time.perf_counter()
        await asyncio.gather(*(timed(f"{number}-{n}", took) for n in range(FLOWS)))
        rates.append(FLOWS * STEPS / (time.perf_counter() - start))
        flows.append(statistics.median(took) * 1e3)
    await steps(10)
    sequence = [statistics.median(await steps(SEQUENCE)) * 1e3 for _ in range(rounds)]
    starts: list[float] = []
    for number in range(STARTS):
        start = time.perf_counter()
        await flow(f"first-{number}")
        starts.append((began[f"first-{number}"] - start) * 1e3)
    return [
        (STEPS_PER_S, "step/s", rates),
        (FLOW_MS, "ms", flows),
        (STEP_MS, "ms", sequence),
        (START_MS, "ms", [statistics.median(starts)]),
    ]


def gaps(times: list[float]) -> list[float]:
    """Return the time between each moment and the next."""
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def report(figures: list[Figure]) -> None:
    """Give the figures to the process that asked for them."""
    print(json.dumps(figures))
