"""The dashboard for everybody: contrast, names for those who hear it, a phone's width, no motion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import scenes
from .conftest import House, Visitor, expecting, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(house: House, browser: Browser, scheme: Any) -> None:
    """WCAG AA: 4.5 to 1, for every piece of text in sight."""
    run = await scenes.in_progress(house)
    asking = await scenes.waiting(house)
    await scenes.failed(house)
    async with visiting(browser, color_scheme=scheme) as visitor:
        await scenes.fleet(house, run)
        about_runs = ("", f"?run={run}&step=write", f"?run={run}&view=events", f"?run={asking}&view=approvals")
        for place in (*about_runs, "?page=tree", "?page=providers"):
            page = await visitor.page(house.at(place))
            await page.locator("main .state, main article, main [role=row]").first.wait_for()
            weak = await page.evaluate(CONTRAST)
            assert weak == [], place


CONTRAST = """() => {
    const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const colour = (text) => text.match(/[\\d.]+/g).map(Number);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const found = colour(getComputedStyle(at).backgroundColor);
            if (found.length < 4 || found[3] > 0.9) return found;
        }
        return [255, 255, 255];
    };
    const weak = [];
    for (const element of document.querySelectorAll("#app *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.closest(".unseen, :disabled, option")) continue;
        const [a, b] = [light(colour(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) weak.push(`${element.textContent.slice(0, 40)} (${element.className}): ${ratio.toFixed(2)}`);
    }
    return weak;
}"""


async def test_whoever_hears_the_page_knows_what_everything_is(house: House, visitor: Visitor) -> None:
    """Names for all that can be used, one heading over all, tables and trees whose parts are where they belong."""
    run = await scenes.in_progress(house)
    asking = await scenes.waiting(house)
    await scenes.failed(house)
    await scenes.fleet(house, run)
    about_runs = ("", f"?run={run}&step=write", f"?run={run}&view=output", f"?run={run}&view=events")
    pages = ("?page=approvals", "?page=workers", "?page=tree", "?page=providers")
    for place in (*about_runs, f"?run={asking}&view=approvals", *pages):
        page = await visitor.page(house.at(place))
        await page.locator("main .state, main article, main [role=row]").first.wait_for()
        assert await page.evaluate(NAMELESS) == [], place
    await page.goto(house.at("?status=failed"))
    await page.get_by_role("button", name="Retry all…").click()
    await page.get_by_role("button", name="Retry 1 run").wait_for()
    assert await page.evaluate(NAMELESS) == []
    await page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert await page.evaluate(NAMELESS) == ["no name: <button></button>"]


NAMELESS = """() => {
    const found = [];
    const bad = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
    const all = (wanted) => [...document.querySelectorAll(wanted)];
    const text = (element) => [...element.querySelectorAll("[aria-hidden=true]")]
        .reduce((left, hidden) => left.replace(hidden.textContent, ""), element.textContent).trim();
    const name = (element) => element.getAttribute("aria-label") || text(element) || element.title
        || [...(element.labels ?? [])].map(text).join("");
    const named = "button, a[href], input, select, textarea, nav, [role=img], [role=treegrid], [role=grid]";
    for (const element of all(named))
        if (!name(element)) bad("no name", element);
    const ids = all("[id]").map((element) => element.id);
    if (new Set(ids).size < ids.length) found.push(`an id twice: ${ids}`);
    if (all("h1").length !== 1) found.push(`${all("h1").length} headings of the first level`);
    for (const element of all("svg"))
        if (element.ariaHidden !== "true" && element.role !== "img") bad("a sign that is read", element);
    for (const element of all("th")) if (!element.scope) bad("no scope", element);
    for (const element of all("[aria-labelledby], [aria-activedescendant]"))
        for (const kind of ["aria-labelledby", "aria-activedescendant"])
            if (element.hasAttribute(kind) && !document.getElementById(element.getAttribute(kind))) bad(kind, element);
    for (const row of all("[role=row]")) {
        if (!row.closest("[role=treegrid], [role=grid]")) bad("a row of nothing", row);
        if (!row.querySelector("[role=rowheader], [role=gridcell]")) bad("a row without cells", row);
    }
    for (const element of all("[aria-hidden=true] :is(button, a, input, [tabindex='0'])"))
        bad("hidden, but in the way", element);
    if (!document.documentElement.lang || !document.title) found.push("no language or title");
    return found;
}"""


async def test_a_phone_shows_it_without_scrolling_sideways(house: House, browser: Browser) -> None:
    run = await scenes.in_progress(house)
    asking = await scenes.waiting(house)
    async with visiting(browser, viewport={"width": 360, "height": 720}, has_touch=True) as visitor:
        views = ("", "&view=output", "&view=events")
        places = ["", *(f"?run={run}{view}" for view in views), f"?run={asking}&view=approvals"]
        await scenes.fleet(house, run)
        for place in (*places, "?page=approvals", "?page=workers", "?page=tree", "?page=providers"):
            page = await visitor.page(house.at(place))
            await page.locator("main .state, main .empty, main article, main [role=row]").first.wait_for()
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, place


async def test_nothing_moves_for_those_who_want_no_motion(house: House, browser: Browser) -> None:
    async with visiting(browser, reduced_motion="reduce") as visitor:
        page = await visitor.page(house.at(f"?run={await scenes.in_progress(house)}"))
        await expecting(page.get_by_role("treegrid")).to_be_visible()
        assert await page.evaluate("document.getAnimations().length") == 0
