"""Faults as data: what is done to the processes of a simulation, and when. Drawn from a seed, or written by hand.

Why: a failure that was found once has to be found again, from a number that fits into a bug report.
"""

from __future__ import annotations

import enum
import random

import msgspec


class FaultKind(enum.StrEnum):
    """What is done; `target` is a worker's number, or a run's for the last two; `for_s` how long, seconds."""

    KILL = "kill"
    """The worker is gone, without a last word; another one takes its place after `for_s`."""
    STALL = "stall"
    """The worker is stopped for `for_s`, and goes on as if nothing had been."""
    PARTITION = "partition"
    """The worker's calls fail for `for_s`; those under way may have happened."""
    HANG = "hang"
    """The worker's calls take until `for_s` is over."""
    LOST_REPLY = "lost reply"
    """The worker's next call happens, and it does not hear so."""
    CLOCK_JUMP = "clock jump"
    """The store's clock jumps by `for_s`, which may be less than 0."""
    CANCEL = "cancel"
    """A client cancels the run."""
    SIGNAL = "signal"
    """A client sends the run a signal."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, `at_s` seconds after the beginning."""

    kind: FaultKind
    at_s: float
    target: int = 0
    for_s: float = 0.0

    @property
    def over_s(self) -> float:
        """When it is over, seconds after the beginning."""
        lasting = self.kind not in (FaultKind.CLOCK_JUMP, FaultKind.CANCEL, FaultKind.SIGNAL)
        return self.at_s + (self.for_s if lasting else 0.0)


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to `workers` workers; `seed` decides everything else that is left to chance."""

    seed: int
    workers: int = 3
    faults: tuple[Fault, ...] = ()

    @property
    def over_s(self) -> float:
        """When the last fault is over, seconds after the beginning."""
        return max((fault.over_s for fault in self.faults), default=0.0)


def draw_faults(
    seed: int, *, workers: int = 3, runs: int = 3, count: int = 8, within_s: float = 20.0, longest_s: float = 10.0
) -> FaultPlan:
    """Draw a plan.

    Args:
        seed: the same seed gives the same plan.
        workers: how many there are, 1 or more.
        runs: how many there are to cancel or signal.
        count: of faults.
        within_s: when the last one begins at the latest, seconds.
        longest_s: how long one lasts, and how far a clock jumps, at most, seconds.
    """
    rng = random.Random(seed)  # noqa: S311 - faults are no secret
    faults = []
    for at_s in sorted(rng.uniform(0.0, within_s) for _ in range(count)):
        kind = rng.choice(list(FaultKind))
        of_a_run = kind in (FaultKind.CANCEL, FaultKind.SIGNAL)
        for_s = rng.uniform(0.1, longest_s) * (rng.choice((-1, 1)) if kind is FaultKind.CLOCK_JUMP else 1)
        target = rng.randrange(runs if of_a_run else workers)
        faults.append(Fault(kind=kind, at_s=round(at_s, 3), target=target, for_s=round(for_s, 3)))
    return FaultPlan(seed=seed, workers=workers, faults=tuple(faults))
