"""The benchmark of runs: its load is what it says, and its ratios compare what they name."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.report import Row
from benchmarks.runs import DBOS, MEMORY, SQLITE, ratios
from benchmarks.runs.load import FLOWS, STEP_MS, STEPS, STEPS_PER_S, began, loaded


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def test_every_round_runs_all_workflows_and_times_the_same_steps() -> None:
    flows: Counter[str] = Counter()
    counts: list[int] = []

    async def flow(name: str) -> None:
        began[name] = 0.0
        flows[name.partition("-")[0]] += 1
        await asyncio.sleep(0)

    async def steps(count: int) -> list[float]:
        counts.append(count)
        return [0.001] * count

    figures = {case: samples for case, _, samples in await loaded(flow, steps, 2)}
    assert (flows["0"], flows["1"]) == (FLOWS, FLOWS)
    assert len(figures[STEPS_PER_S]) == 2
    assert figures[STEP_MS] == [1.0, 1.0]
    assert len(set(counts[1:])) == 1
    assert STEPS == 10


def test_a_ratio_is_of_figures_that_are_there() -> None:
    rows = (
        Row(STEPS_PER_S, SQLITE, 4000.0, "step/s", (4000.0,)),
        Row(STEPS_PER_S, DBOS, 100.0, "step/s", (100.0,)),
        Row(STEP_MS, MEMORY, 0.05, "ms", (0.05,)),
        Row("claim among 1,000 runs", SQLITE, 0.5, "ms", (0.5,)),
        Row("claim among 100,000 runs", SQLITE, 0.6, "ms", (0.6,)),
    )
    assert ratios(rows) == {"sqlite_full/dbos_sqlite": 40.0, "memory_step_p50_ms": 0.05, "claim_100k/claim_1k": 1.2}
