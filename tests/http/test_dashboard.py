"""The dashboard's files: given to anybody by their exact names, under a strict policy, wherever the app is mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from greenroom.runtime.http import ApiOptions, api
from greenroom.runtime.http.dashboard import FILES
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

from .conftest import House, idle, newsroom

TOKEN = "a-token-of-sixteen-or-more"


@asynccontextmanager
async def client(prefix: str = "", token: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app, mounted or not."""
    async with open_transport("memory://") as store:
        app: Starlette = api(Runs(store, {w.name: w for w in (newsroom, idle)}), options=ApiOptions(token=token))
        if prefix:
            app = Starlette(routes=[Mount(prefix, app)])
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as asking:
            yield asking


@pytest.mark.parametrize("prefix", ["", "/greenroom"])
async def test_the_page_is_where_the_app_is(prefix: str) -> None:
    async with client(prefix) as asking:
        for path in ("/", "/dashboard/"):
            home = await asking.get(prefix + path)
            assert (home.status_code, home.headers["location"]) == (307, f"{prefix}/dashboard")
        page = await asking.get(f"{prefix}/dashboard")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for name in FILES:
            file = await asking.get(f"{prefix}/dashboard/{name}")
            assert (file.status_code, file.headers["x-content-type-options"]) == (200, "nosniff")
            assert file.content


async def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    async with client() as asking:
        for path in ("/dashboard", "/dashboard/app.js"):
            policy = (await asking.get(path)).headers["content-security-policy"]
            rules = dict(rule.partition(" ")[::2] for rule in policy.split("; "))
            assert rules["default-src"] == "'none'"
            sources = {rules[name] for name in ("script-src", "style-src", "img-src", "connect-src")}
            assert sources == {"'self'"}
            assert rules["require-trusted-types-for"] == "'script'"
            assert "unsafe" not in policy
            assert "*" not in policy
        text = (await asking.get("/dashboard")).text
        assert "<style" not in text
        assert "style=" not in text
        assert text.count("<script") == text.count('<script type="module" src="dashboard/')


async def test_the_files_want_no_token_and_the_data_does() -> None:
    async with client(token=TOKEN) as asking:
        assert (await asking.get("/")).status_code == 307
        assert (await asking.get("/dashboard")).status_code == 200
        assert (await asking.get("/dashboard/vendor/preact.js")).status_code == 200
        assert (await asking.get("/v1/runs")).status_code == 401
        assert (await asking.get("/dashboard/nothing.js")).status_code == 401


OTHERS = (
    "index.html",
    "vendor/vendor.json",
    "..%2fapp.py",
    "vendor%2f..%2fapp.js",
    "vendor",
    "app.js/",
    "%00",
    "App.js",
)


@pytest.mark.parametrize("name", OTHERS)
async def test_no_other_file_is_given(name: str) -> None:
    async with client() as asking:
        assert (await asking.get(f"/dashboard/{name}")).status_code == 404


async def test_a_file_that_is_known_is_not_sent_again() -> None:
    async with client() as asking:
        first = await asking.get("/dashboard/app.js")
        again = await asking.get("/dashboard/app.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await asking.get("/dashboard/app.css")).headers["etag"] != first.headers["etag"]


async def test_a_list_of_runs_that_has_not_changed_is_not_sent_again(house: House) -> None:
    run = await house.start()
    first = await house.client.get("/v1/runs")
    known = {"if-none-match": first.headers["etag"]}
    again = await house.client.get("/v1/runs", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    await house.hand.claim(run)
    changed = await house.client.get("/v1/runs", headers=known)
    assert (changed.status_code, changed.json()["data"][0]["status"]) == (200, "running")


async def test_a_workflow_tells_what_its_approvals_are_decided_with(house: House) -> None:
    listed = (await house.client.get("/v1/workflows")).json()["data"]
    approvals = {workflow["name"]: workflow["approvals"] for workflow in listed}
    assert approvals["idle"] == {}
    schema = approvals["newsroom"]["publish"]
    assert schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]["approved"] == {"type": "boolean"}
