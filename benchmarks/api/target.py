"""The workflows that the benchmarked API serves: one that somebody else writes the log of, and one that keeps busy."""

from __future__ import annotations

import anyio

from greenroom import Runtime, component, workflow


@workflow
async def told(topic: str) -> str:
    """Never executed here: the benchmark appends to its log."""
    return topic


@component
async def step(n: int, pause_s: float) -> int:
    """Do nothing but wait, if anything, durably."""
    if pause_s:
        await anyio.sleep(pause_s)
    return n


@workflow
async def busy(steps: int, pause_s: float) -> int:
    """Many steps."""
    return sum([await step(n, pause_s) for n in range(steps)])


runtime = Runtime(told, busy)
