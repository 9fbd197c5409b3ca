"""The pictures of the documentation, taken from the scenes: `python -m tests.dashboard.pictures`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from playwright.async_api import async_playwright

from . import scenes
from .conftest import FLAGS, found, open_house, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

IMAGES = Path(__file__).parents[2] / "docs/img"
WIDE = {"width": 1280, "height": 720}
LOW = {"width": 1280, "height": 360}
PHONE = {"width": 390, "height": 760}


async def shoot(browser: Browser, name: str, url: str, ready: str, *keys: str, **options: Any) -> None:
    """Take one picture, once `ready` is in sight and `keys` were pressed in the timeline."""
    async with visiting(browser, **{"viewport": WIDE, **options}) as visitor:
        page: Page = await visitor.page(url)
        await page.get_by_text(ready).first.wait_for()
        if keys:
            await page.get_by_role("treegrid").focus()
        for key in keys:
            await page.keyboard.press(key)
        await page.screenshot(path=IMAGES / f"{name}.png")
        assert visitor.unexpected() == []


async def shoot_bulk(browser: Browser, url: str) -> None:
    """Take the picture of a question about many runs."""
    async with visiting(browser, viewport={"width": 1000, "height": 420}) as visitor:
        page: Page = await visitor.page(url)
        await page.get_by_role("button", name="Cancel all…").click()
        await page.get_by_role("button", name="Cancel 311 runs").wait_for()
        await page.screenshot(path=IMAGES / "bulk.png")


async def main() -> None:
    """Take them all."""
    async with open_house() as house, house.served(), async_playwright() as driver:
        ids = await scenes.furnish(house)
        browser = await driver.chromium.launch(executable_path=found(), args=list(FLAGS))
        live = house.at(f"?run={ids['live']}&step=analyse:2")
        await shoot(browser, "run", live, "gpt-5-mini", "ArrowUp", "ArrowDown")
        await shoot(browser, "run-dark", live, "gpt-5-mini", "ArrowUp", "ArrowDown", color_scheme="dark")
        await shoot(browser, "output", house.at(f"?run={ids['live']}&view=output"), "rather have coffee", viewport=LOW)
        await shoot(
            browser, "events", house.at(f"?run={ids['live']}&view=events"), "lease.taken", "ArrowDown", "ArrowDown"
        )
        await shoot(browser, "runs", house.at(), ids["queued"])
        await shoot(browser, "approvals", house.at("?page=approvals"), "Approve", viewport=LOW)
        await shoot(browser, "phone", live, "gpt-5-mini", "ArrowUp", "ArrowDown", viewport=PHONE)
        await shoot(browser, "phone-output", house.at(f"?run={ids['live']}&view=output"), "coffee", viewport=PHONE)
        await shoot(browser, "phone-runs", house.at(), ids["queued"], viewport=PHONE)
        deep = house.at(f"?run={ids['big']}&step=batch:40")
        await shoot(browser, "five-thousand", deep, "5,000 steps", "Enter")
        await scenes.fleet(house, ids["live"])
        await shoot(browser, "workers", house.at("?page=workers"), "worker-3", viewport=LOW)
        await shoot(browser, "tree", house.at("?page=tree"), "analyse", *["ArrowDown"] * 4, "ArrowRight")
        await shoot(browser, "tree-phone", house.at("?page=tree"), "analyse", viewport=PHONE)
        await shoot(browser, "providers", house.at("?page=providers"), "down for", color_scheme="dark")
        for _ in range(311):
            await house.start("digest", tags=("nightly",))
        await shoot_bulk(browser, house.at("?tag=nightly&status=queued"))
        await browser.close()


if __name__ == "__main__":
    anyio.run(main)
