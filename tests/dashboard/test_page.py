"""The dashboard in a real browser: what somebody sees, types and presses, and what a hostile model cannot do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import msgspec
import pytest

from greenroom import Runtime, component, emit, workflow
from greenroom.runtime.http import ApiOptions, Token, serve
from greenroom.runtime.portraits import Portrait
from greenroom.runtime.records import (
    Failure,
    OutputReset,
    RunCompleted,
    RunFailed,
    Status,
    StepFailed,
)
from greenroom.transports import Finish, RunFilter, RunState, WorkerInfo

from . import scenes
from .conftest import House, Visitor, open_house, publish, raw, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@component
async def draft(topic: str) -> None:
    await emit(f"about {topic}")


@workflow(approvals=[publish])
async def printing(topic: str) -> str:
    await draft(topic)
    return (await publish.request(f"Print what there is about {topic}?")).comment


TOKEN = "a-token-of-sixteen-or-more"


def expecting(target: Any) -> Any:
    from playwright.async_api import expect

    expect.set_options(timeout=30_000)
    return expect(target)


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


# --- runs


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


# --- a run


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
    run = await house.start()
    await house.claim(run)
    await house.append(run, scenes.begin("write"))
    await house.say(run, "one ")
    page = await visitor.page(house.at(f"?run={run}&view=output"))
    text = page.get_by_role("region", name="Text")
    await expecting(text).to_have_text("one")
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


async def test_a_paused_page_stays_as_it_is_and_catches_up(house: House, visitor: Visitor) -> None:
    run = await house.start()
    await house.claim(run)
    await house.append(run, scenes.begin("write"))
    await house.say(run, "one ")
    page = await visitor.page(house.at(f"?run={run}&view=output"))
    text = page.get_by_role("region", name="Text")
    await expecting(text).to_have_text("one")
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


# --- acting


async def test_an_approval_is_decided_in_the_inbox(house: House, visitor: Visitor) -> None:
    run = await scenes.waiting(house)
    page = await visitor.page(house.at("?page=approvals"))
    await expecting(page.get_by_role("heading", name="Publish 'Tea is hot'?")).to_be_visible()
    await expecting(page.locator("article")).to_contain_text('"words": 412')
    await page.get_by_label("comment").fill("well done")
    await page.get_by_role("button", name="Approve").click()
    await expecting(page.get_by_text("Nobody waits for a decision.")).to_be_visible()
    [view] = await house.runs.inlets.approvals(run)
    assert view.decision == raw({"approved": True, "comment": "well done"})
    assert view.by == "dashboard"


async def test_a_run_is_canceled_only_after_a_question(house: House, visitor: Visitor) -> None:
    run = await scenes.in_progress(house)
    page = await visitor.page(house.at(f"?run={run}"))
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_role("button", name="Back").click()
    await expecting(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_label("Reason").fill("the tea is out")
    await page.get_by_role("button", name="Cancel the run").click()
    await expecting(page.get_by_role("dialog")).to_have_count(0)
    kinds = [stored.kind for stored in await house.store.read(run, 0, 1000)]
    assert kinds.count("cancel.requested") == 1


async def test_a_failed_run_is_retried_and_any_run_is_forked_from_a_step(house: House, visitor: Visitor) -> None:
    bad = await scenes.failed(house)
    page = await visitor.page(house.at(f"?run={bad}"))
    await page.get_by_role("button", name="Retry…").click()
    await page.get_by_role("button", name="Retry", exact=True).click()
    await page.wait_for_url(re.compile(rf"run=(?!{bad})"))
    await expecting(page.locator(".run-name .state")).to_have_text("queued")

    live = await scenes.in_progress(house)
    await page.goto(house.at(f"?run={live}&step=report"))
    await page.get_by_role("button", name="Fork from here…").click()
    await page.get_by_role("button", name="Fork", exact=True).click()
    await page.wait_for_url(re.compile(rf"run=(?!{live})"))
    await page.get_by_role("link", name="forked from", exact=True).click()
    await page.wait_for_url(re.compile(rf"run={live}"))
    newest = (await house.runs.list(RunFilter())).runs[0].run_id
    [queued] = await house.store.read(newest, 0, 1)
    assert b'"forked_at":"report"' in queued.body


async def test_workers_are_listed_by_build(house: House, visitor: Visitor) -> None:
    page = await visitor.page(house.at("?page=workers"))
    await expecting(page.get_by_text("No worker was heard of lately")).to_be_visible()
    now = await house.store.now()
    await house.store.beat(WorkerInfo(name="w-1", build="b42", started=now, beat=now, running=3, draining=True))
    await expecting(page.get_by_role("row", name="w-1")).to_contain_text("draining")
    await expecting(page.get_by_role("heading", name="Build b42")).to_be_visible()


# --- what workers show


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


# --- many runs at once


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


async def test_a_run_is_forked_from_a_step_with_another_input(house: House, visitor: Visitor) -> None:
    live = await scenes.in_progress(house)
    page = await visitor.page(house.at(f"?run={live}&step=report"))
    await page.get_by_role("button", name="Fork from here…").click()
    dialog = page.get_by_role("dialog")
    await expecting(dialog.get_by_label("Input")).to_have_value('{\n  "topic": "tea"\n}')
    for typed, said in (("{", "The input is not JSON"), ('{"topic": 3}', "Expected `str`")):
        await dialog.get_by_label("Input").fill(typed)
        await dialog.get_by_role("button", name="Fork", exact=True).click()
        await expecting(dialog.get_by_role("alert")).to_contain_text(said)
    await dialog.get_by_label("Input").fill('{"topic": "coffee"}')
    await dialog.get_by_role("button", name="Fork", exact=True).click()
    await page.wait_for_url(re.compile(rf"run=(?!{live})"))
    newest = (await house.runs.list(RunFilter())).runs[0].run_id
    [queued] = await house.store.read(newest, 0, 1)
    assert b'"topic":"coffee"' in queued.body
    assert b'"forked_at":"report"' in queued.body


async def test_a_real_run_is_watched_and_approved_to_its_end(visitor: Visitor) -> None:
    runtime = Runtime(printing, store="memory://")
    started = anyio.Event()
    urls: list[str] = []

    def ready(url: str) -> None:
        urls.append(url)
        started.set()

    async with runtime, runtime.worker(), anyio.create_task_group() as group:
        group.start_soon(lambda: serve(runtime.asgi(), port=0, grace_s=1, ready=ready))
        await started.wait()
        run = await runtime.start(printing, "tea")
        page = await visitor.page(f"{urls[0]}/dashboard?run={run.run_id}&view=approvals")
        await page.get_by_label("comment").fill("go")
        await page.get_by_role("button", name="Approve").click()
        await expecting(page.locator(".run-name .state")).to_have_text("completed")
        await page.get_by_role("link", name="Timeline").click()
        for step in ("draft", "publish"):
            await expecting(page.locator(".label", has_text=step)).to_be_visible()
        await page.get_by_role("link", name="Output").click()
        await expecting(page.get_by_role("region", name="Text")).to_have_text("about tea")
        await page.get_by_role("link", name="Workers").click()
        await expecting(page.get_by_role("row")).to_have_count(2)
        await page.get_by_role("row").nth(1).get_by_role("link").click()
        for part in ("router", "components", "heartbeat", "claimer"):
            await expecting(page.get_by_role("treegrid").get_by_text(part)).to_be_visible()
        assert await run.result() == "go"
        await page.close()
        group.cancel_scope.cancel()


# --- safety


async def test_a_token_is_asked_for_and_kept_by_the_tab_alone(browser: Browser) -> None:
    async with open_house() as house, house.served(options=ApiOptions(token=TOKEN)), visiting(browser) as visitor:
        run = await house.start()
        page = await visitor.page(house.at(f"?run={run}"))
        await page.get_by_label("Token").fill("not the token")
        await page.get_by_role("button", name="Go on").click()
        await expecting(page.get_by_text("did not take this token")).to_be_visible()
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Go on").click()
        await expecting(page.get_by_role("heading", level=1)).to_have_text("newsroom")
        await expecting(page.locator(".run-name .line")).to_have_text("live")
        assert await visitor.context.cookies() == []
        assert TOKEN not in page.url
        assert await page.evaluate("localStorage.length") == 0
        await page.get_by_role("button", name="Forget token").click()
        await expecting(page.get_by_label("Token")).to_be_visible()


async def test_what_a_token_may_not_do_is_not_offered(browser: Browser) -> None:
    """Who may only read sees runs and no buttons. What is asked for all the same gets the sentence of the API."""
    scopes = {"read": ["read"], "both": ["read", "run"], "root": ["admin"], "blind": ["run"]}
    tokens = tuple(Token(name=name, scopes=held, token=f"{name}-{TOKEN}") for name, held in scopes.items())
    async with open_house() as house, house.served(options=ApiOptions(tokens=tokens)):
        run = await house.start()
        for name, offered, workers in (("read", 0, 0), ("both", 1, 0), ("root", 1, 1), ("blind", 0, 0)):
            async with visiting(browser) as visitor:
                page = await visitor.page(house.at(f"?run={run}"))
                await page.get_by_label("Token").fill(f"{name}-{TOKEN}")
                await page.get_by_role("button", name="Go on").click()
                seen = page.get_by_text("this needs the scope 'read'") if name == "blind" else page.locator(".is-live")
                await expecting(seen).to_be_visible()
                await expecting(page.get_by_role("button", name="Cancel…")).to_have_count(offered)
                await expecting(page.get_by_role("link", name="Workers")).to_have_count(workers)
                if name == "read":
                    await page.goto(house.at("?page=workers"))
                    await expecting(page.get_by_text("this needs the scope 'admin'")).to_be_visible()


async def hostile_worker(house: House) -> None:
    """A worker all of whose names and errors are what a model might have written."""
    now = await house.store.now()
    await house.store.beat(WorkerInfo(name="w", build=HOSTILE, started=now, beat=now, running=0, draining=False))
    ill = msgspec.structs.replace(scenes.lanes_of(ill=True)[1], deployment=HOSTILE, why=HOSTILE)
    shown = Portrait(at=now, tree=scenes.over_all("worker", scenes.actor(HOSTILE)), deployments=(ill,))
    await house.store.cache_put("portraits/w", msgspec.json.encode(shown), ttl_s=600)


HOSTILE = (
    "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script><svg onload='window.hit=1'>"
    "<a href='javascript:window.hit=1'>x</a><iframe srcdoc='<script>parent.hit=1</script>'></iframe>"
    "![](https://evil.example/leak?q=1)${window.hit=1}<style>*{display:none}</style>"
)


async def test_nothing_that_a_model_or_a_user_writes_is_ever_markup(house: House, visitor: Visitor) -> None:
    """In output, status, error, step, question, tag, data: it is shown, letter by letter, and does nothing."""
    run = await house.start(tags=(HOSTILE[:90],), metadata={"note": HOSTILE})
    await house.claim(run)
    bad = Failure(type=HOSTILE, message=HOSTILE)
    await house.append(
        run, scenes.begin("write", name=HOSTILE), Status(step="write", message=HOSTILE, data=raw([HOSTILE]))
    )
    await house.say(run, HOSTILE)
    await house.append(run, scenes.call("write", model=HOSTILE))
    await house.append(run, StepFailed(step="write", attempt=1, error=bad))
    await house.append(run, RunFailed(error=bad), to=Finish(RunState.FAILED))
    asking = await scenes.waiting(house, question=HOSTILE)
    await hostile_worker(house)
    places = (f"?run={run}&view=output", f"?run={run}&step=write", f"?run={run}&view=events", "", "?page=approvals",
              f"?run={asking}&view=approvals", f"?workflow={HOSTILE}", f"?run={HOSTILE}", "?page=tree",
              "?page=providers")  # fmt: skip
    for place in places:
        page = await visitor.page(house.at(place))
        await expecting(page.locator("#app")).to_contain_text("<img src=x")
        assert await page.evaluate("window.hit") is None
        assert await page.locator("main img, main iframe, main script, main style").count() == 0
        assert await page.locator("a[href^='javascript:' i]").count() == 0
        await page.close()


async def test_the_browser_itself_refuses_markup_and_foreign_requests(house: House, browser: Browser) -> None:
    """Were a view to be careless, the policy would still stop it."""
    async with visiting(browser) as visitor:
        page = await visitor.page(house.at())
        refused = """() => {
            try { document.body.innerHTML = "<b>x</b>"; } catch (error) { return error.name; }
        }"""
        assert await page.evaluate(refused) == "TypeError"
        blocked = """() => new Promise((go) => {
            document.addEventListener("securitypolicyviolation", (event) => go(event.effectiveDirective));
            const image = document.createElement("img");
            image.src = "http://127.0.0.2:9/leak";
            document.body.append(image);
        })"""
        assert await page.evaluate(blocked) == "img-src"


# --- everybody


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
