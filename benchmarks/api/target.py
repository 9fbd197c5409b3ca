"""The workflows that the benchmarked API serves: one that somebody else writes the log of, and one that keeps busy."""

from __future__ import annotations

from greenroom import Runtime, component, workflow


@workflow
async def told(topic: str) -> str:
    """Never executed here: the benchmark appends to its log."""
    return topic


@component
async def step(n: int) -> int:
    """Do next to nothing, durably."""
    return n


@workflow
async def busy(steps: int) -> int:
    """Many steps."""
    return sum([await step(n) for n in range(steps)])


runtime = Runtime(told, busy)
