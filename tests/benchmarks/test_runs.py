"""The benchmark of runs: its load is what it says, and its ratios compare what they name."""

from __future__ import annotations

import asyncio
import gc
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import Row, Suite, print_table
from benchmarks.runs import DBOS, MEMORY, RESTATE, SQLITE, ratios
from benchmarks.runs.load import FLOWS, STEP_MS, STEPS, STEPS_PER_S, began, loaded
from benchmarks.runs.peers import Absent, restate
from benchmarks.runs.sizes import COPIED, fill, timed
from greenroom.transports import RunFilter, RunState, open_transport


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
        Row("claim among 1,000,000 runs", SQLITE, 0.6, "ms", (0.6,)),
        Row(STEPS_PER_S, RESTATE, 1000.0, "step/s", (1000.0,)),
    )
    assert ratios(rows) == {
        "sqlite_full/dbos_sqlite": 40.0,
        "sqlite_full/restate": 4.0,
        "memory_step_p50_ms": 0.05,
        "claim_1m/claim_1k": 1.2,
    }


def test_a_peer_that_cannot_be_there_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Absent, match=r"^its server comes from npm, which is not installed$"):
        restate()
    suite = Suite("runs", 1, (), absent={"Restate": "its server comes from npm, which is not installed"})
    out = io.StringIO()
    print_table(suite, Console(file=out, width=200))
    assert "Restate is absent: its server comes from npm, which is not installed\n" in out.getvalue()


async def test_a_store_is_filled_with_runs_that_can_be_listed_claimed_and_verified(tmp_path: Path) -> None:
    file = tmp_path / "full.db"
    async with open_transport(f"sqlite:///{file}") as store:
        fill(file, 2 * COPIED)
        page = await store.runs(RunFilter(state=RunState.WAITING), limit=1000)
        assert len(page.runs) == 1000
        last = page.runs[0]
        assert [stored.seq for stored in await store.read(last.run_id)] == [1, 2, 3]
        (lane,) = await store.lanes()
        assert (lane.live, lane.running) == (COPIED, 0)
        assert (await timed(store)).keys() == {"claim", "append", "list"}
