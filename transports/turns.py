"""Whose turn it is: which due runs a claim takes. Pure: transports bring the candidates and write the outcome.

The rule: a higher priority first; within one, the tenant with the fewest runs at work; within a lane, the longest due;
and nobody through a gate that has no room. Every transport decides by this one function.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .values import Lane, Run, RunState, Terms

Gate = tuple[str, str]
"""A workflow and what its limits are counted by."""


def gate_of(lane: Lane) -> Gate:
    """Return the gate that a lane's runs pass."""
    return lane.workflow, lane.gate


@dataclass
class Bucket:
    """Starts that a gate still allows: a token bucket. `at` in seconds; a new one is full."""

    level: float
    at: float

    def refilled(self, terms: Terms, now: float) -> Bucket:
        """Return it as it is now."""
        assert terms.starts is not None
        level = self.level + max(0.0, now - self.at) * terms.starts / terms.per_s
        return Bucket(min(max(1.0, terms.starts), level), max(now, self.at))

    def wait(self, terms: Terms) -> float:
        """Return the seconds until it allows one more."""
        assert terms.starts is not None
        return max(0.0, 1.0 - self.level) * terms.per_s / terms.starts


def full_bucket(terms: Terms, now: float) -> Bucket:
    """Return the bucket of a gate that was not used yet."""
    assert terms.starts is not None
    return Bucket(max(1.0, terms.starts), now)


@dataclass
class Turns:
    """The state that turns are decided by; `take` changes it as it decides.

    Attributes:
        terms: by workflow.
        at_work: running runs by tenant.
        through: running runs by gate.
        buckets: starts by gate, refilled to now.
    """

    terms: Mapping[str, Terms]
    at_work: dict[str, int] = field(default_factory=dict)
    through: dict[Gate, int] = field(default_factory=dict)
    buckets: dict[Gate, Bucket] = field(default_factory=dict)

    def wait(self, run: Run) -> float:
        """Return the seconds until this due run may be claimed; infinity: when another run ends."""
        terms, gate = self.terms[run.workflow], gate_of(run.lane)
        taken_over = run.state is RunState.RUNNING
        if terms.concurrency is not None and not taken_over and self.through.get(gate, 0) >= terms.concurrency:
            return math.inf
        if terms.starts is not None and run.fence == 0 and self.buckets[gate].level < 1.0 - 1e-9:
            return self.buckets[gate].wait(terms)
        return 0.0

    def when(self, run: Run, now: float) -> float:
        """Return the time at which this run may be claimed; infinity: when another run ends."""
        wait = self.wait(run)
        return _due(run) if wait == 0 else max(_due(run), now + wait)

    def take(self, due: Mapping[Lane, Sequence[Run]], limit: int) -> list[Run]:
        """Return the runs to claim, in the order of their turns.

        Args:
            due: per lane its due runs, the longest due first; `limit` of them are enough.
            limit: how many at most.
        """
        taken: list[Run] = []
        for priority in sorted({lane.priority for lane in due}, reverse=True):
            lines = {lane: list(reversed(runs)) for lane, runs in due.items() if lane.priority == priority and runs}
            lanes = list(lines)
            turns = [(self.at_work.get(lane.tenant, 0), _due(lines[lane][-1]), n) for n, lane in enumerate(lanes)]
            heapq.heapify(turns)
            while turns and len(taken) < limit:
                at_work, when, n = heapq.heappop(turns)
                lane = lanes[n]
                if at_work != (now := self.at_work.get(lane.tenant, 0)):
                    heapq.heappush(turns, (now, when, n))
                    continue
                run = lines[lane][-1]
                if self.wait(run) > 0:
                    lines[lane] = [other for other in lines[lane] if self.wait(other) == 0]
                else:
                    taken.append(lines[lane].pop())
                    self._count(run)
                if lines[lane]:
                    heapq.heappush(turns, (self.at_work.get(lane.tenant, 0), _due(lines[lane][-1]), n))
        return taken

    def _count(self, run: Run) -> None:
        gate = gate_of(run.lane)
        if run.state is not RunState.RUNNING:
            self.at_work[run.lane.tenant] = self.at_work.get(run.lane.tenant, 0) + 1
            self.through[gate] = self.through.get(gate, 0) + 1
        if run.fence == 0 and gate in self.buckets:
            self.buckets[gate].level -= 1.0


def _due(run: Run) -> float:
    return math.inf if run.due is None else run.due
