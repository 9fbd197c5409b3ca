"""One run in a real browser: followed live, read, drawn and walked, however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from greenroom.runtime.records import (
    OutputReset,
    RunCompleted,
)
from greenroom.transports import Finish, RunState

from . import scenes
from .conftest import House, Visitor, expecting, open_house, raw, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def writing(house: House, visitor: Visitor) -> tuple[str, Page, Locator]:
    """A run that has written a word, the page that shows it, and where."""
    run = await house.start()
    await house.claim(run)
    await house.append(run, scenes.begin("write"))
    await house.say(run, "one ")
    page = await visitor.page(house.at(f"?run={run}&view=output"))
    text = page.get_by_role("region", name="Text")
    await expecting(text).to_have_text("one")
    return run, page, text


async def fold_of(page: Page, run: str) -> dict[str, Any]:
    """What the page's own code makes of a run's log."""
    folded: dict[str, Any] = await page.evaluate(
        """async (run) => {
            const { RunFold } = await import(new URL("dashboard/fold.js", document.baseURI));
            const fold = new RunFold();
            for (let after = 0, complete = false; !complete;) {
                const page = await (await fetch(`v1/runs/${run}/events?after=${after}&limit=1000`,
                    { headers: { accept: "application/json" } })).json();
                page.data.forEach((event) => fold.apply(event));
                complete = page.complete || !page.data.length;
                after = page.next_after;
            }
            return {
                status: fold.status, takeovers: fold.takeovers, text: fold.text,
                started: fold.started, ended: fold.ended,
                tokens: Object.fromEntries([...fold.tokens].map(([m, t]) => [m, [t.calls, t.input, t.output]])),
                spans: [...fold.spans.values()].map((s) => [s.step, s.name, s.scope, s.status, s.started, s.ended,
                    s.calls.length, s.attempts.map((a) => [a.number, a.worker, a.started, a.ended, a.outcome])]),
            };
        }""",
        run,
    )
    return folded


async def test_a_run_is_followed_live_and_resets_are_applied(house: House, visitor: Visitor) -> None:
    run = await house.start()
    page = await visitor.page(house.at(f"?run={run}&view=output"))
    await expecting(page.locator(".run-name .state")).to_have_text("queued")
    await house.claim(run)
    await house.append(run, scenes.begin("write"))
    await house.say(run, "Tea is cold")
    text = page.get_by_role("region", name="Text")
    await expecting(text).to_have_text("Tea is cold")
    await house.append(run, OutputReset(step="write", attempt=1), scenes.begin("write", attempt=2))
    await house.say(run, "Tea ", "is ", "hot", attempt=2)
    await expecting(text).to_have_text("Tea is hot")
    await expecting(page.get_by_text("taken back once")).to_be_visible()
    await house.append(run, scenes.end("write", attempt=2))
    await house.append(run, RunCompleted(result=raw("Tea is hot")), to=Finish(RunState.COMPLETED))
    await expecting(page.locator(".run-name .state")).to_have_text("completed")
    await expecting(page.locator(".run-name .line")).to_have_text("complete")
    assert sum(url.endswith("/events") for url in visitor.asked) == 1, "one connection a tab"


async def test_a_page_that_is_loaded_again_in_mid_stream_keeps_the_text_and_goes_on(
    house: House, visitor: Visitor
) -> None:
    run, page, text = await writing(house, visitor)
    await page.reload()
    await expecting(text).to_have_text("one")
    await house.say(run, "two ", "three")
    await expecting(text).to_have_text("one two three")


async def test_two_tabs_show_the_same(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    tabs = [await visitor.page(house.at(f"?run={run}&view=output")) for _ in range(2)]
    for tab in tabs:
        await expecting(tab.get_by_role("region", name="Text")).to_contain_text("rather have coffee")
    await house.say(run, "And that is that.", attempt=2)
    for tab in tabs:
        await expecting(tab.get_by_role("region", name="Text")).to_contain_text("And that is that.")


async def test_a_server_that_comes_back_is_connected_to_again(browser: Browser) -> None:
    async with open_house() as house:
        run = await house.start()
        await house.claim(run)
        await house.append(run, scenes.begin("write"))
        async with visiting(browser) as visitor:
            async with house.served() as url:
                await house.say(run, "before ")
                page = await visitor.page(house.at(f"?run={run}&view=output"))
                text = page.get_by_role("region", name="Text")
                await expecting(text).to_have_text("before")
            await expecting(page.locator(".run-name .line")).to_have_text("reconnecting")
            await house.say(run, "while ")
            async with house.served(port=int(url.rpartition(":")[2])):
                await expecting(page.locator(".run-name .line")).to_have_text("live")
                await house.say(run, "after")
                await expecting(text).to_have_text("before while after")
            assert visitor.unexpected("Failed to load resource", "net::ERR") == []


async def test_the_page_s_reading_of_a_log_is_the_api_s_trace(house: House, visitor: Visitor) -> None:
    page = await visitor.page(house.at())
    for scene in (scenes.in_progress, scenes.failed, scenes.waiting):
        run = await scene(house)
        async with httpx2.AsyncClient(base_url=house.url) as client:
            trace = (await client.get(f"/v1/runs/{run}/trace")).json()
            output = (await client.get(f"/v1/runs/{run}/output", headers={"accept": "text/plain"})).text
        folded = await fold_of(page, run)
        assert folded["text"] == output
        assert folded["takeovers"] == trace["takeovers"]
        assert (folded["started"], folded["ended"]) == (trace["started"], trace["ended"])
        assert folded["tokens"] == {m: [t["calls"], t["input"], t["output"]] for m, t in trace["tokens"].items()}
        assert folded["spans"] == [
            [
                *(span[name] for name in ("step", "name", "scope", "status", "started", "ended")),
                len(span["calls"]),
                [[a[name] for name in ("number", "worker", "started", "ended", "outcome")] for a in span["attempts"]],
            ]
            for span in trace["spans"]
        ]


async def test_a_step_s_details_say_where_its_llm_calls_went_and_why(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    page = await visitor.page(house.at(f"?run={run}"))
    await page.get_by_role("row", name="analyse").nth(2).click()
    details = page.get_by_label("Details of the selection")
    for words in (
        "2 attempts", "RateLimited", "gpt-5-mini", "openai-east", "812 in (640 cached), 143 out (64 for reasoning)",
        "stop", "chatcmpl-B9xQ2", "$0.00049", "First token",
        "most tokens to spare of 3 deployments", "429: quota exceeded", "reading post 2", "after 1", "worker-1",
    ):  # fmt: skip
        await expecting(details).to_contain_text(words)
    assert "step=analyse%3A2" in page.url


async def test_the_timeline_is_a_treegrid_for_the_keyboard(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    page = await visitor.page(house.at(f"?run={run}"))
    grid = page.get_by_role("treegrid")
    await expecting(grid).to_have_attribute("aria-rowcount", "16")
    await grid.focus()
    here = page.locator("[role=row][aria-selected=true]")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await expecting(here).to_contain_text("analyse")
    await expecting(here).to_have_attribute("aria-expanded", "true")
    assert await grid.get_attribute("aria-activedescendant") == await here.get_attribute("id")
    await page.keyboard.press("ArrowLeft")
    await expecting(here).to_have_attribute("aria-expanded", "false")
    await expecting(grid).to_have_attribute("aria-rowcount", "15")
    await page.keyboard.press("ArrowRight")
    await expecting(here).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("ArrowRight")
    await expecting(here).to_contain_text("skim")
    await page.keyboard.press("ArrowLeft")
    await expecting(here).to_contain_text("analyse")
    await page.keyboard.press("End")
    await expecting(here).to_contain_text("write")
    await expecting(page.get_by_label("Details of the selection")).to_contain_text("StreamCut")
    await page.keyboard.press("ArrowUp")
    await expecting(here).to_contain_text("report")
    await page.keyboard.press("Enter")
    await expecting(page.get_by_role("button", name="Fit")).to_be_enabled()


async def test_five_thousand_steps_are_drawn_a_screenful_at_a_time(house: House, visitor: Visitor) -> None:
    run = await scenes.of_many_steps(house)
    page = await visitor.page(house.at(f"?run={run}"))
    grid = page.get_by_role("treegrid")
    await expecting(grid).to_have_attribute("aria-rowcount", "5001")
    assert await page.locator("*").count() < 1500
    await grid.focus()
    await page.keyboard.press("End")
    await expecting(page.locator("[role=row][aria-selected=true]")).to_contain_text("item")
    await expecting(page.locator("[role=row][aria-rowindex='5001']")).to_be_visible()
    assert await page.locator("*").count() < 1500


async def test_five_thousand_steps_that_come_while_it_is_watched_are_drawn_a_screenful_at_a_time(
    house: House, visitor: Visitor
) -> None:
    """The page holds one connection and keeps its selection; what it draws does not grow with the run."""
    run = await house.start("digest")
    await house.claim(run)
    page = await visitor.page(house.at(f"?run={run}"))
    grid, here = page.get_by_role("treegrid"), page.locator("[role=row][aria-selected=true]")
    await house.append(run, scenes.begin("batch:0", name="first"))
    await expecting(grid).to_have_attribute("aria-rowcount", "2")
    await grid.focus()
    await page.keyboard.press("End")
    await expecting(here).to_contain_text("first")
    for batch in range(1, 100):
        scope, items = f"batch:{batch}", [f"item:{batch}.{n}" for n in range(50)]
        await house.append(run, scenes.begin(scope), *(scenes.begin(item, scope=scope) for item in items))
        await house.append(run, *(scenes.end(item) for item in items), scenes.end(scope))
        if batch % 20 == 0:
            await expecting(grid).to_have_attribute("aria-rowcount", str(2 + 51 * batch))
            assert await page.locator("*").count() < 1500
            await expecting(here).to_contain_text("first")
    await expecting(grid).to_have_attribute("aria-rowcount", "5051")
    await page.keyboard.press("ArrowDown")
    await expecting(here).to_contain_text("batch")
    await page.keyboard.press("End")
    await expecting(page.locator("[role=row][aria-rowindex='5051']")).to_be_visible()
    await house.append(run, RunCompleted(result=raw("done")), to=Finish(RunState.COMPLETED))
    await expecting(page.locator(".run-name .state")).to_have_text("completed")
    assert await page.locator("*").count() < 1500
    asked = [url for url in visitor.asked if f"/v1/runs/{run}" in url]
    assert sum(url.endswith("/events") for url in asked) == 1, "one connection for all of it"
    assert len(asked) < 10


async def test_a_paused_page_stays_as_it_is_and_catches_up(house: House, visitor: Visitor) -> None:
    run, page, text = await writing(house, visitor)
    await page.get_by_role("button", name="Pause").click()
    await expecting(page.get_by_text("Paused:")).to_be_visible()
    await house.say(run, "two")
    await page.wait_for_function("run => fetch(`v1/runs/${run}`).then(r => r.json()).then(r => r.seq >= 6)", arg=run)
    await page.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    assert (await text.inner_text()).strip() == "one"
    await page.get_by_role("button", name="Resume").click()
    await expecting(text).to_have_text("one two")


async def test_events_stand_by_step_and_are_found(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    page = await visitor.page(house.at(f"?run={run}&view=events"))
    grid = page.get_by_role("treegrid")
    await expecting(grid).to_contain_text("lease.taken")
    await expecting(grid.get_by_role("row", name="write")).to_contain_text("5 of text, 2 attempts")
    await page.get_by_label("Find").fill("streamcut")
    await grid.get_by_text("step.retrying").click()
    await expecting(page.get_by_label("The selected record")).to_contain_text('"delay_s": 0.5')
    await expecting(grid).not_to_contain_text("lease.taken")
