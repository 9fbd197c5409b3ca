"""A burst of calls within a second. Nothing here needs greenroom: peers have a Python of their own."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

CALLS = 2000
PER_S = 60.0
"""Calls a second that each provider allows; it holds as many."""

LATENCY_S = 0.02
LONGEST = 2.0
"""What is not answered after so many times the optimum counts as failed."""

BIN_S = 0.5
QUESTION: Any = [{"role": "user", "content": "Where do lighthouse keepers sleep?"}]
Ask = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A burst: whether the limits are known, and how long each provider is down from the fifth second on."""

    known: bool = True
    down_s: tuple[float, float] = (0.0, 0.0)

    @property
    def faults(self) -> list[str]:
        """The simulator's rules."""
        names = ("openai", "gemini")
        return [
            f"{name}:503:from=5:until={5 + down_s:g}" for name, down_s in zip(names, self.down_s, strict=True) if down_s
        ]

    @property
    def optimum_s(self) -> float:
        """The shortest time in which the burst can be answered."""
        lost = sum(max(0.0, PER_S * down_s - PER_S) for down_s in self.down_s)
        return (CALLS - 2 * PER_S + lost) / (2 * PER_S) + LATENCY_S


CASES = {
    "burst": Case(),
    "unknown_limits": Case(known=False),
    "one_down": Case(down_s=(10.0, 0.0)),
    "both_down": Case(down_s=(5.0, 5.0)),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a burst.

    Args:
        sent: for each provider the requests that it saw in each half second, and how many of them failed.
    """

    makespan_s: float
    failed: int
    refused: int
    requests: int
    over_limit_windows: int
    cpu_s: float
    sent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


class Control:
    """The providers' control API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def begin(self, faults: list[str]) -> None:
        """Forget what was seen; the faults' clock starts now."""
        self._ask("DELETE", "/faults")
        self._ask("POST", "/reset")
        if faults:
            self._ask("POST", "/faults", faults)

    def outcome(self, makespan_s: float, failed: int, cpu_s: float) -> Outcome:
        """Add what the providers saw."""
        state, seen = self._ask("GET", "/state"), self._ask("GET", "/seen")
        bins = int(max((one["at"] for one in seen), default=0.0) / BIN_S) + 1
        sent = {name: [(0, 0)] * bins for name in state["providers"]}
        for one in seen:
            at, row = int(one["at"] / BIN_S), sent[one["provider"]]
            row[at] = (row[at][0] + 1, row[at][1] + (one["status"] != 200))
        return Outcome(
            makespan_s,
            failed,
            state["http_429"],
            sum(provider["requests"] for provider in state["providers"].values()),
            state["over_limit_windows"],
            cpu_s,
            sent,
        )

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self._url + path, data, method=method)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)


async def burst(control: Control, case: Case, ask: Ask, failure: type[Exception]) -> Outcome:
    """Make all calls within a second and wait for the last; a call that raises `failure` is lost."""
    answered = 0

    async def one(number: int) -> None:
        nonlocal answered
        try:
            await ask(number)
            answered += 1
        except failure:
            pass

    await asyncio.to_thread(control.begin, case.faults)
    began, cpu = time.perf_counter(), time.process_time()
    try:
        async with asyncio.timeout(LONGEST * case.optimum_s), asyncio.TaskGroup() as group:
            for number in range(CALLS):
                if (early_s := began + number / CALLS - time.perf_counter()) > 0:
                    await asyncio.sleep(early_s)
                group.create_task(one(number))
    except TimeoutError:
        pass
    makespan_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return await asyncio.to_thread(control.outcome, makespan_s, CALLS - answered, cpu_s)


def measure(client: Callable[[list[str], Case], AbstractAsyncContextManager[Ask]], failure: type[Exception]) -> None:
    """Send the burst that the process's arguments name (CASE URLS CONTROL), and print what came of it as JSON."""
    case, urls, control = CASES[sys.argv[-3]], json.loads(sys.argv[-2]), Control(sys.argv[-1])

    async def main() -> Outcome:
        async with client(urls, case) as ask:
            return await burst(control, case, ask, failure)

    print(json.dumps(asdict(asyncio.run(main()))), flush=True)
