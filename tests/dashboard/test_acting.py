"""What somebody does in a real browser: decide, cancel, retry, fork, and watch a real run to its end."""

from __future__ import annotations

import re

import anyio
import pytest

from greenroom import Runtime, component, emit, workflow
from greenroom.runtime.http import serve
from greenroom.transports import RunFilter

from . import scenes
from .conftest import House, Visitor, expecting, publish, raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@component
async def draft(topic: str) -> None:
    await emit(f"about {topic}")


@workflow(approvals=[publish])
async def printing(topic: str) -> str:
    await draft(topic)
    return (await publish.request(f"Print what there is about {topic}?")).comment


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
