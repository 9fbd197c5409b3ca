"""The workers in a real browser: who is there, their supervision trees, and the providers they call."""

from __future__ import annotations

import re

import msgspec
import pytest

from greenroom.runtime.portraits import Portrait
from greenroom.transports import WorkerInfo

from . import scenes
from .conftest import House, Visitor, expecting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_workers_are_listed_by_build(house: House, visitor: Visitor) -> None:
    page = await visitor.page(house.at("?page=workers"))
    await expecting(page.get_by_text("No worker was heard of lately")).to_be_visible()
    now = await house.store.now()
    await house.store.beat(WorkerInfo(name="w-1", build="b42", started=now, beat=now, running=3, draining=True))
    await expecting(page.get_by_role("row", name="w-1")).to_contain_text("draining")
    await expecting(page.get_by_role("heading", name="Build b42")).to_be_visible()


async def test_the_supervision_tree_is_walked_with_the_keyboard(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    await scenes.fleet(house, run)
    page = await visitor.page(house.at("?page=tree"))
    grid = page.get_by_role("treegrid")
    here = page.locator("[role=row][aria-selected=true]")
    await expecting(here).to_contain_text("worker-1")
    await expecting(page.get_by_text("worker-3 has not shown itself yet")).to_be_visible()
    await grid.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown"):
        await page.keyboard.press(key)
    await expecting(here).to_contain_text("analyse")
    await expecting(here).to_have_attribute("aria-expanded", "false")
    await expecting(here).to_have_attribute("aria-level", "3")
    await expecting(here).to_contain_text("661")
    await page.keyboard.press("ArrowRight")
    await expecting(here).to_have_attribute("aria-expanded", "true")
    for _ in range(3):
        await page.keyboard.press("ArrowDown")
    await expecting(here).to_contain_text("actor, restarting")
    await expecting(here.get_by_role("gridcell").nth(3)).to_have_text("2")
    await page.keyboard.press("ArrowLeft")
    await expecting(here).to_contain_text("analyse")
    row = grid.get_by_role("row", name=run)
    await row.click()
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(rf"run={run}"))


async def test_a_tree_changes_by_itself_and_stays_as_it_was_opened(house: House, visitor: Visitor) -> None:
    await scenes.fleet(house)
    page = await visitor.page(house.at("?page=tree&worker=worker-2"))
    grid = page.get_by_role("treegrid")
    await grid.get_by_role("row", name="analyse").locator(".fold").click()
    await expecting(grid.get_by_role("row", name="analyse")).to_contain_text("41")
    await expecting(grid).not_to_contain_text("worker-1")
    rows = await grid.get_attribute("aria-rowcount")
    now = await house.store.now()
    fuller = Portrait(at=now, tree=scenes.tree_of(mailbox=5030))
    await house.store.cache_put("portraits/worker-2", msgspec.json.encode(fuller), ttl_s=600)
    await expecting(grid.get_by_role("row", name="analyse")).to_contain_text("10,041")
    assert await grid.get_attribute("aria-rowcount") == rows
    await page.get_by_role("link", name="All workers").click()
    await expecting(grid).to_contain_text("worker-1")


async def test_a_very_large_tree_is_drawn_a_screenful_at_a_time(house: House, visitor: Visitor) -> None:
    tree = scenes.over_all("worker", *(scenes.over_all(f"part-{n}", scenes.actor("a")) for n in range(5000)))
    now = await house.store.now()
    await house.store.beat(WorkerInfo(name="w", build="b", started=now, beat=now, running=0, draining=False))
    await house.store.cache_put("portraits/w", msgspec.json.encode(Portrait(at=now, tree=tree)), ttl_s=600)
    page = await visitor.page(house.at("?page=tree"))
    grid = page.get_by_role("treegrid")
    await expecting(grid).to_have_attribute("aria-rowcount", "10001")
    assert await page.locator("*").count() < 1500
    await grid.focus()
    await page.keyboard.press("End")
    await expecting(page.locator("[role=row][aria-rowindex='10001']")).to_be_visible()


async def test_providers_tell_breakers_limits_latencies_and_decisions(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    await scenes.fleet(house, run)
    page = await visitor.page(house.at("?page=providers"))
    ill = page.get_by_role("article").filter(has=page.get_by_role("heading", name="gemini/gemini-3-pro"))
    for words in (
        "open",
        "503: The model is overloaded",
        "down for 12.4 s",
        "1,182 attempts",
        "9 failed",
        "bears 4.5/s",
    ):
        await expecting(ill).to_contain_text(words)
    well = page.get_by_role("article").filter(has=page.get_by_role("heading", name="openai/gpt-5.2"))
    for words in ("closed", "6 refused with 429", "14 of 64", "500", "132,400 of 200,000", "half within"):
        await expecting(well).to_contain_text(words)
    await expecting(well.get_by_role("img").first).to_have_attribute("aria-label", re.compile("the last 40: "))
    await expecting(page.get_by_role("row", name="smart").first).to_contain_text("4.20 s")
    decisions = page.get_by_role("article").filter(has=page.get_by_role("heading", name="Last decisions"))
    await expecting(decisions).to_contain_text("gemini/gemini-3-pro: unavailable, openai/gpt-5.2: ok")
    await decisions.get_by_role("link").first.click()
    await page.wait_for_url(re.compile(rf"run={run}"))


async def test_a_page_that_shows_nothing_says_what_is_waited_for(house: House, visitor: Visitor) -> None:
    page = await visitor.page(house.at("?page=tree"))
    await expecting(page.get_by_text("No worker was heard of lately")).to_be_visible()
    await page.goto(house.at("?page=providers"))
    await expecting(page.get_by_text("No worker has shown a deployment yet")).to_be_visible()
