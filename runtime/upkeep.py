"""What a worker does beside executing runs: it starts scheduled ones, removes those that are too old, shows itself.

Every worker of a store does it all, and none has to know of the others: a firing's run has one idempotency key, and
pruning a run that another one has pruned changes nothing.

Laws kept here: 1 (one firing is one run), 11 (the store does not grow for ever, where retention says so).
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import structlog

from ..actors import ChildSpec, Mailbox, Restart, SupervisorSpec
from ..transports import KeyConflict, RunPruned, StoreUnavailable, Transport
from .definitions import Workflow
from .errors import ConfigInvalid, InputInvalid
from .runs import Runs
from .schedules import Schedule

log = structlog.get_logger("greenroom.upkeep")

LOOK_S = 60.0
"""The longest sleep between two looks at the clock, which may jump, seconds."""

PRUNE_S = 30.0
"""How often old runs are looked for, seconds."""

PRUNE_AT_ONCE = 200
"""Runs removed in one act, so that nobody waits long for the store."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which runs that have ended are removed, whole.

    Attributes:
        age_s: those that ended longer ago than this, seconds; None: however long.
        count: all but so many that ended last; None: however many.
    """

    age_s: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.age_s is not None and not self.age_s > 0:
            raise ConfigInvalid(f"Retention.age_s is {self.age_s}: give more than 0 seconds, or None")
        if self.count is not None and self.count < 0:
            raise ConfigInvalid(f"Retention.count is {self.count}: give 0 or more runs, or None")


def upkept(
    transport: Transport,
    workflows: Mapping[str, Workflow[..., Any]],
    retention: Retention | None,
    portrait: Callable[[Mailbox[Any]], Awaitable[None]],
) -> SupervisorSpec:
    """Return the tree of all that; one_for_one, 10 in 60 s, because its parts have nothing to do with each other.

    Args:
        transport: the store.
        workflows: those that are scheduled are among them.
        retention: which runs are removed; None: none.
        portrait: shows the worker.
    """

    async def schedules(mailbox: Mailbox[Any]) -> None:
        await Timetable(transport, workflows).keep()

    async def removal(mailbox: Mailbox[Any]) -> None:
        await keep_pruned(transport, retention)

    parts = {"schedules": schedules, "retention": removal, "portrait": portrait}
    return SupervisorSpec(
        name="upkeep",
        intensity=10,
        period=60.0,
        children=tuple(
            ChildSpec(name=name, start=start, restart=Restart.TRANSIENT, shutdown=0) for name, start in parts.items()
        ),
    )


class Timetable:
    """Starts the scheduled runs of some workflows."""

    def __init__(self, transport: Transport, workflows: Mapping[str, Workflow[..., Any]]) -> None:
        self._runs = Runs(transport, workflows)
        self._made: dict[str, float] = {}

    async def keep(self) -> None:
        """Start runs as their times come, for ever; returns at once when nothing is scheduled."""
        while any(workflow.schedules for workflow in self._runs.workflows.values()):
            try:
                await anyio.sleep(await self.fire())
            except StoreUnavailable as error:
                log.error("store unavailable", error=str(error))
                await anyio.sleep(1.0)

    async def fire(self) -> float:
        """Start what is due; return the seconds until the next look."""
        now = await self._runs.transport.now()
        wait = LOOK_S
        for workflow in self._runs.workflows.values():
            for number, schedule in enumerate(workflow.schedules):
                last = schedule.until(now)
                if now - last <= schedule.catch_up_s and self._made.get(f"{workflow.name}/{number}") != last:
                    await self._start(workflow, number, schedule, last)
                    self._made[f"{workflow.name}/{number}"] = last
                wait = min(wait, schedule.after(now) - now)
        return max(wait, 0.001)

    async def _start(self, workflow: Workflow[..., Any], number: int, schedule: Schedule, when: float) -> None:
        at = datetime.datetime.fromtimestamp(when, datetime.UTC).isoformat(timespec="seconds")
        try:
            data = workflow.encode(dict(schedule.input))
            run, new = await self._runs.start(
                workflow.name,
                data,
                key=f"schedule/{workflow.name}/{number}/{at}",
                tags=("scheduled",),
                metadata={"scheduled_for": at},
            )
        except (KeyConflict, RunPruned):
            return  # it was started before, by code that gave it other input, or long ago
        except InputInvalid as error:
            log.error("schedule has no valid input", workflow=workflow.name, error=str(error))
            return
        if new:
            log.info("scheduled run started", workflow=workflow.name, run_id=run.run_id, scheduled_for=at)


async def keep_pruned(transport: Transport, retention: Retention | None) -> None:
    """Remove runs as they get too old, for ever; returns at once when all are kept."""
    while retention is not None and (retention.age_s is not None or retention.count is not None):
        try:
            before = 0.0 if retention.age_s is None else await transport.now() - retention.age_s
            while await transport.prune(before, keep=retention.count, limit=PRUNE_AT_ONCE) == PRUNE_AT_ONCE:
                pass
        except StoreUnavailable as error:
            log.error("store unavailable", error=str(error))
        await anyio.sleep(PRUNE_S)
