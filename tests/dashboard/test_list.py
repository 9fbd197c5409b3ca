"""The list of runs in a real browser: filtered, paged, walked, acted on as a whole; however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from greenroom.runtime.records import (
    RunQueued,
    encode,
)
from greenroom.transports import Lane, NewRun, RunFilter, RunState

from . import scenes
from .conftest import House, Visitor, expecting, open_house, raw, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_runs_are_filtered_and_the_filters_are_the_address(house: House, visitor: Visitor) -> None:
    ids = await scenes.furnish(house)
    page = await visitor.page(house.at())
    rows = page.locator("tbody tr")
    await expecting(rows).to_have_count(14)
    await expecting(rows.first).to_contain_text(ids["queued"])
    await page.get_by_label("Status").select_option("failed")
    await expecting(rows).to_have_count(1)
    await expecting(rows.first).to_contain_text(ids["failed"])
    await page.get_by_label("Status").select_option("")
    await page.get_by_label("Workflow").select_option("digest")
    await page.get_by_label("Tag").fill("nightly")
    await page.keyboard.press("Enter")
    await expecting(rows).to_have_count(4)
    assert "workflow=digest" in page.url
    assert "tag=nightly" in page.url
    await page.reload()
    await expecting(rows).to_have_count(4)
    await rows.first.click()
    await expecting(page.get_by_role("heading", level=1)).to_have_text("digest")
    await page.go_back()
    await expecting(rows).to_have_count(4)
    assert "tag=nightly" in page.url


async def test_a_new_run_appears_by_itself_and_pages_go_back(house: House, visitor: Visitor) -> None:
    for _ in range(60):
        await house.start("digest")
    page = await visitor.page(house.at())
    rows = page.locator("tbody tr")
    await expecting(rows).to_have_count(50)
    new = await house.start()
    await expecting(rows.first).to_contain_text(new)
    await page.get_by_role("link", name="Older").click()
    await expecting(rows).to_have_count(11)
    assert "cursor=" in page.url
    await page.get_by_role("link", name="Newest").click()
    await expecting(rows.first).to_contain_text(new)


async def test_the_table_is_walked_with_the_keyboard(house: House, visitor: Visitor) -> None:
    first, second = await house.start("digest"), await house.start()
    page = await visitor.page(house.at())
    await page.locator("tbody tr", has_text=second).focus()
    await page.keyboard.press("ArrowDown")
    await expecting(page.locator("tbody tr:focus")).to_contain_text(first)
    await page.keyboard.press("Enter")
    await expecting(page.get_by_role("heading", level=1)).to_have_text("digest")
    assert f"run={first}" in page.url


async def test_all_runs_that_fit_are_canceled_after_they_were_counted(house: House, visitor: Visitor) -> None:
    wanted = [await house.start("digest", tags=("nightly",)) for _ in range(230)]
    other = await house.start("digest")
    page = await visitor.page(house.at("?tag=nightly"))
    await page.get_by_role("button", name="Cancel all…").click()
    dialog = page.get_by_role("dialog")
    await expecting(dialog).to_contain_text("230 runs are queued, or waiting, or running, with tag nightly.")
    await dialog.get_by_role("button", name="Back").click()
    assert "cancel.requested" not in [stored.kind for stored in await house.store.read(wanted[0])]
    await page.get_by_role("button", name="Cancel all…").click()
    await dialog.get_by_label("Reason").fill("the budget is spent")
    await dialog.get_by_role("button", name="Cancel 230 runs").click()
    await expecting(page.get_by_text("230 runs were asked to stop.")).to_be_visible()
    for run in wanted:
        [_, asked] = await house.store.read(run)
        assert asked.kind == "cancel.requested"
        assert b"the budget is spent" in asked.body
    assert len(await house.store.read(other)) == 1


async def test_failed_runs_are_retried_together_and_each_once(house: House, visitor: Visitor) -> None:
    for _ in range(3):
        await scenes.failed(house)
    page = await visitor.page(house.at("?status=failed"))
    await expecting(page.get_by_role("button", name="Cancel all…")).to_have_count(0)
    for said in ("3 runs were started again.", "0 runs were started again."):
        await page.get_by_role("button", name="Retry all…").click()
        await page.get_by_role("button", name="Retry 3 runs").click()
        await expecting(page.get_by_text(said)).to_be_visible()
    assert len((await house.runs.list(RunFilter(state=RunState.QUEUED))).runs) == 3


RUNS = 100_000
BATCH = 2_000


async def very_many(house: House) -> list[str]:
    """Fill the store: all runs are queued; the oldest five have a tag."""
    ids = [f"run-{number:06}" for number in range(RUNS)]
    for start in range(0, RUNS, BATCH):
        async with anyio.create_task_group() as group:
            for number in range(start, start + BATCH):
                queued = RunQueued(workflow="digest", input=raw({}), run_id=ids[number], trace_id=f"{number:032x}")
                lane = Lane(workflow="digest" if number % 3 else "newsroom")
                tags = ("oldest",) if number < 5 else ()
                new = NewRun(run_id=ids[number], lane=lane, entries=(encode(queued),), tags=tags)
                group.start_soon(house.store.create, new)
    return ids


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_runs_are_a_page_at_a_time(browser: Browser, tmp_path: Path) -> None:
    """What is asked for and drawn does not grow with the store: a page of 50, and nothing else."""
    async with open_house(f"sqlite:///{tmp_path / 'runs.db'}") as house, house.served(), visiting(browser) as visitor:
        ids = await very_many(house)
        newest_first = ids[::-1]
        page = await visitor.page(house.at())
        rows = page.locator("tbody tr")
        for number in range(12):
            await expecting(rows.first).to_contain_text(newest_first[50 * number])
            await expecting(rows).to_have_count(50)
            await page.get_by_role("link", name="Older").click()
        await page.get_by_role("link", name="Newest").click()
        await expecting(rows.first).to_contain_text(ids[-1])

        await page.get_by_label("Tag").fill("oldest")
        await page.keyboard.press("Enter")
        await expecting(rows).to_have_count(5)
        await expecting(rows.last).to_contain_text(ids[0])
        await page.get_by_label("Workflow").select_option("newsroom")
        await expecting(rows).to_have_count(2)
        await page.get_by_role("button", name="Clear").click()
        await expecting(rows.first).to_contain_text(ids[-1])
        await rows.first.focus()
        await page.keyboard.press("End")
        await expecting(page.locator("tbody tr:focus")).to_contain_text(newest_first[49])
        assert await page.locator("*").count() < 1500

        await page.get_by_role("button", name="Cancel all…").click()
        await expecting(page.get_by_role("button", name="Cancel 10,000 or more runs")).to_be_enabled()

        listed = [parse_qs(urlsplit(url).query) for url in visitor.asked if urlsplit(url).path == "/v1/runs"]
        assert {asked["limit"][0] for asked in listed} == {"50"}
        counted = [url for url in visitor.asked if "/v1/runs/cancel" in url]
        assert len(counted) == 10
        assert visitor.unexpected() == []
