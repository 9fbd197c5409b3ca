"""When runs start by themselves. Pure: a schedule says when it fires; `upkeep` starts the runs.

Law kept here: 1. A firing has a name (workflow, place in the list, time), and its run has that name as idempotency key:
however many workers see it come, it is one run.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cronsim import CronSim, CronSimError

from .errors import DefinitionInvalid

CATCH_UP_S = 60.0
"""How late a firing may be made up for when no worker was there, seconds."""


class Schedule(Protocol):
    """When something fires. Times are seconds since the epoch."""

    @property
    def input(self) -> Mapping[str, Any]:
        """The arguments of the runs."""
        ...

    @property
    def catch_up_s(self) -> float:
        """How late the last firing is still made up for."""
        ...

    def after(self, now: float) -> float:
        """Return the first firing later than `now`."""
        ...

    def until(self, now: float) -> float:
        """Return the last firing not later than `now`."""
        ...


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields, in a time zone, with Debian cron's rules for daylight saving.

    Args:
        expression: such as `0 9 * * MON-FRI`.
        zone: of the IANA database.
        input: the arguments of the runs.
        catch_up_s: how late the last firing is still made up for, when no worker was there.
    """

    expression: str
    zone: str = "UTC"
    input: Mapping[str, Any] = field(default_factory=dict)
    catch_up_s: float = CATCH_UP_S

    def __post_init__(self) -> None:
        try:
            CronSim(self.expression, datetime.datetime(2026, 1, 1))
        except CronSimError as error:
            raise DefinitionInvalid(
                f"cron expression {self.expression!r}: {error}: give minute, hour, day, month, weekday"
            ) from None
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise DefinitionInvalid(f"time zone {self.zone!r} is unknown: give one like Europe/Berlin") from None
        if len(self.expression.split()) != 5:
            raise DefinitionInvalid(f"cron expression {self.expression!r} has not five fields: leave seconds out")

    def after(self, now: float) -> float:
        """Return the first firing later than `now`."""
        return next(CronSim(self.expression, self._local(now))).timestamp()

    def until(self, now: float) -> float:
        """Return the last firing not later than `now`."""
        next_minute = self._local((now // 60 + 1) * 60)
        return next(CronSim(self.expression, next_minute, reverse=True)).timestamp()

    def _local(self, now: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(self.zone))


@dataclass(frozen=True)
class Every:
    """A fixed interval, counted from the epoch, so that all workers agree on it.

    Args:
        seconds: 1 or more.
        input: the arguments of the runs.
        catch_up_s: how late the last firing is still made up for, when no worker was there.
    """

    seconds: float
    input: Mapping[str, Any] = field(default_factory=dict)
    catch_up_s: float = CATCH_UP_S

    def __post_init__(self) -> None:
        if not self.seconds >= 1:
            raise DefinitionInvalid(f"interval is {self.seconds}: give 1 second or more")

    def after(self, now: float) -> float:
        """Return the first firing later than `now`."""
        return self.until(now) + self.seconds

    def until(self, now: float) -> float:
        """Return the last firing not later than `now`."""
        return now // self.seconds * self.seconds
