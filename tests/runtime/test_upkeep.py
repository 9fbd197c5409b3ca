"""Schedules and retention: what workers do beside executing runs. On virtual time."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Cron, DefinitionInvalid, Every, Retention, workflow
from greenroom.runtime.errors import ConfigInvalid
from greenroom.runtime.upkeep import Timetable
from greenroom.transports import RunFilter, RunPruned

House = Callable[..., Any]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


# --- when


def test_cron_fires_in_its_zone_and_once_when_the_clock_goes_back() -> None:
    berlin = Cron("30 2 * * *", "Europe/Berlin")
    first = berlin.after(at("2026-10-24T12:00"))
    second = berlin.after(first)
    assert (first, second - first) == (at("2026-10-25T00:30"), 25 * 3600)
    assert berlin.until(first) == first
    assert berlin.until(first - 1) == first - 24 * 3600


@given(
    now=st.integers(1_700_000_000, 1_900_000_000), schedule=st.sampled_from([Cron("*/7 9-17 * * MON-FRI"), Every(90)])
)
def test_firings_follow_each_other(now: int, schedule: Cron | Every) -> None:
    last, coming = schedule.until(now), schedule.after(now)
    assert last <= now < coming
    assert schedule.until(coming) == coming
    assert schedule.after(last) == coming
    assert schedule.until(coming - 1) == last


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron("61 * * * *"), "Bad minute"),
        (lambda: Cron("* * * *"), "give minute, hour, day, month, weekday"),
        (lambda: Cron("0 0 * * * *"), "has not five fields"),
        (lambda: Cron("0 9 * * *", "Mars/Base"), "time zone 'Mars/Base' is unknown"),
        (lambda: Every(0.5), "1 second or more"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionInvalid, match=said):
        make()


# --- starting


@workflow(schedules=[Every(60, input={"topic": "tea"}), Every(600, input={"topic": "news"})])
async def column(topic: str) -> str:
    return topic


async def test_one_firing_is_one_run_however_many_workers(house: House) -> None:
    home = house(column)
    begun = anyio.current_time()
    async with home.worker("a"), home.worker("b"), home.worker("c"):
        await anyio.sleep(600.5)
    runs = [run async for run in home.runs.matching(RunFilter(tag="scheduled"))]
    minutes = int((begun + 600.5) // 60) - int(begun // 60)
    tens = int((begun + 600.5) // 600) - int(begun // 600)
    made_up_for = (begun % 60 <= 60) + (begun % 600 <= 60)
    assert len(runs) == minutes + tens + made_up_for
    views = [await home.runs.view(run.run_id) for run in runs]
    assert len({(view.metadata["scheduled_for"], bytes(view.input)) for view in views}) == len(runs)
    assert {bytes(view.result) for view in views} == {b'"tea"', b'"news"'}


async def test_a_firing_that_nobody_saw_is_made_up_for_when_it_is_not_long_ago(house: House) -> None:
    @workflow(schedules=[Every(3600, catch_up_s=120)])
    async def hourly() -> None:
        return

    home = house(hourly)
    timetable = Timetable(home.store, home.runs.workflows)
    await anyio.sleep(3600 - anyio.current_time() % 3600 + 200)
    await timetable.fire()
    assert [run async for run in home.runs.matching(RunFilter())] == []
    await anyio.sleep(3600 - 100)
    assert await timetable.fire() <= 60
    assert len([run async for run in home.runs.matching(RunFilter())]) == 1


async def test_a_schedule_whose_input_does_not_fit_starts_nothing_and_stops_nobody(house: House) -> None:
    @workflow(schedules=[Every(60, input={"wrong": 1})])
    async def strict(topic: str) -> None:
        return

    home = house(strict, column)
    async with home.worker():
        await anyio.sleep(61)
    assert {run.workflow async for run in home.runs.matching(RunFilter())} == {"column"}


# --- retention


async def test_runs_that_ended_long_ago_are_removed(house: House) -> None:
    @workflow
    async def brief() -> int:
        return 1

    home = house(brief)
    async with home.worker(retention=Retention(age_s=3600)):
        old, _ = await home.runs.start("brief", b"{}")
        await home.runs.wait(old.run_id)
        await anyio.sleep(3500)
        young, _ = await home.runs.start("brief", b"{}")
        await home.runs.wait(young.run_id)
        await anyio.sleep(200)
        with pytest.raises(RunPruned):
            await home.runs.view(old.run_id)
        assert await home.runs.result(young.run_id) == b"1"


async def test_only_a_number_of_ended_runs_is_kept(house: House) -> None:
    @workflow
    async def brief() -> int:
        return 1

    home = house(brief)
    async with home.worker(retention=Retention(count=3)):
        for _ in range(10):
            run, _ = await home.runs.start("brief", b"{}")
            await home.runs.wait(run.run_id)
        await anyio.sleep(60)
    assert len([run async for run in home.runs.matching(RunFilter())]) == 3


def test_a_retention_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match=r"Retention\.age_s"):
        Retention(age_s=0)
    with pytest.raises(ConfigInvalid, match=r"Retention\.count"):
        Retention(count=-1)
