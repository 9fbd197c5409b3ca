"""The kernel against the actors of others, and against a task with an asyncio.Queue, which one would write by hand.

Every peer is a process of its own (`peer`), with the same cases (`cases`), each in the peer's own idiom: one module
for each. All that have work for one processor only are kept on the same one, and take turns, case by case and round by
round, so that a busy or a slow machine slows all of them. Figures and ratios are medians of ROUNDS; the figure of a
round is the median of TURNS samples, between which all others have theirs. How many operations a sample has is found
in a round that does not count: as many as take about SAMPLE seconds. A peer that is not installed is left out, with a
note.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from statistics import median

from ..report import Row, Suite
from .peer import ERLANG, Absent, Failed, Peer, Process

ROUNDS = 5
TURNS = 3
SAMPLE = 0.08
"""Seconds that a sample is to take."""

STEP = {"spawn": 100}
"""Operations that a case does at least, where that is not 1,000: counts are multiples of it."""
MOST = 200_000
"""Operations that a sample has at most."""

OURS = "greenroom"
OURS_ON_UVLOOP = f"{OURS}, uvloop"
QUEUE = "asyncio.Queue"
PEERS = (
    Peer(OURS, "kernel"),
    Peer(QUEUE, "asyncio_queue"),
    Peer(OURS_ON_UVLOOP, "kernel", loop="uvloop"),
    Peer(f"{QUEUE}, uvloop", "asyncio_queue", loop="uvloop"),
    Peer("anyio streams", "anyio_streams", package="anyio"),
    Peer("pykka", "pykka_threads", package="pykka"),
    Peer("thespian", "thespian_simple", package="thespian"),
    Peer("xoscar", "xoscar_pool", package="xoscar", alone=False),
    Peer("erlang", ERLANG),
)
CASES = {
    "tell": "tell",
    "send": "send",
    "ask": "ask",
    "ask, async": "ask_async",
    "ask of 100": "ask100",
    "ask with deadline": "ask_deadline",
    "spawn": "spawn",
    "ring": "ring",
    "fan": "fan",
    "restart": "restart",
    "idle": "idle",
    "idle after mail": "idle_used",
}
"""What a case is called in the name of a ratio."""


def run(seed: int) -> Suite:
    """Measure. The seed is only noted: nothing here is random."""
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        processes = [process for peer in PEERS if (process := _start(peer, stack)) is not None]
        for case in CASES:
            able = [process for process in processes if case in process.cases]
            step = STEP.get(case, 1_000)
            counts = {process.system: _count(case, process.measure(case, step), step) for process in able}
            for _ in range(ROUNDS):
                turns = [[process.measure(case, counts[process.system]) for process in able] for _ in range(TURNS)]
                for process, figures in zip(able, zip(*turns, strict=True), strict=True):
                    samples.setdefault((case, process.system), []).append(median(figures))
    rows = tuple(
        Row(case=case, system=system, value=median(figures), unit=_unit(case), samples=tuple(figures))
        for (case, system), figures in samples.items()
    )
    packages = tuple(sorted({name for peer in PEERS for name in (peer.package, peer.loop)} - {"asyncio"}))
    return Suite(name="actors", seed=seed, rows=rows, ratios=ratios(rows), packages=packages)


def ratios(rows: tuple[Row, ...]) -> dict[str, float]:
    """Compare greenroom with every peer on the same loop: above 1 it is better, also where less is better.

    A ratio is the median of the rounds' ratios: what was measured at about the same time is compared.
    """
    rounds = {(row.case, row.system): row.samples for row in rows}
    found: dict[str, float] = {}
    for case, name in CASES.items():
        for peer in PEERS:
            ours = OURS_ON_UVLOOP if peer.loop == "uvloop" else OURS
            mine, theirs = rounds.get((case, ours), ()), rounds.get((case, peer.system), ())
            if mine and theirs and peer.system != ours:
                better = [our / their for our, their in zip(mine, theirs, strict=True)]
                found[f"{name}/{peer.system}"] = 1 / median(better) if _unit(case) == "bytes" else median(better)
    value = {(row.case, row.system): row.value for row in rows}
    found["restart_per_s"] = value["restart", OURS]
    found["bytes_per_idle_actor"] = value["idle", OURS]
    return found


def _start(peer: Peer, stack: ExitStack) -> Process | None:
    try:
        return stack.enter_context(Process(peer))
    except (Absent, Failed) as error:
        print(f"{peer.system} is left out: {error}", file=sys.stderr)
        return None


def _count(case: str, rate: float, step: int) -> int:
    if _unit(case) == "bytes":
        return step
    return min(max(round(rate * SAMPLE / step) * step, step), MOST)


def _unit(case: str) -> str:
    return "bytes" if case.startswith("idle") else "op/s"
