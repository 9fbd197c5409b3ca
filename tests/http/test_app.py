"""The app in other apps: under a prefix, before its runtime is open, and beside itself."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from greenroom.runtime.errors import NotStarted
from greenroom.runtime.http import ApiOptions, Streams, api
from greenroom.runtime.runs import Runs
from greenroom.transports import WorkerInfo, open_transport

from .conftest import newsroom, served


async def test_a_mounted_app_links_under_its_prefix(anyio_backend: Any) -> None:
    """In another Starlette app, and once more behind a proxy's prefix."""
    async with open_transport("memory://") as store:
        inner = api(Runs(store, {"newsroom": newsroom}), options=ApiOptions(token="x" * 16))
        outer = Starlette(routes=[Mount("/deep", Starlette(routes=[Mount("/greenroom", inner)]))])
        outer.state.options, outer.state.streams = inner.state.options, inner.state.streams
        headers = {"authorization": "Bearer " + "x" * 16}
        async with served(outer) as url, httpx2.AsyncClient(base_url=url, headers=headers) as client:
            root = "/deep/greenroom"
            body = {"input": {"topic": "tea"}}
            started = await client.post(f"{root}/v1/workflows/newsroom/runs", json=body)
            run = started.json()
            assert started.headers["location"] == f"{root}/v1/runs/{run['id']}"
            for name, link in run["links"].items():
                assert link.startswith(f"{root}/v1/runs/{run['id']}")
                assert name in ("events", "output", "cancel") or (await client.get(link)).status_code in (200, 202)
            await client.post(f"{root}/v1/workflows/newsroom/runs", json=body)
            page = await client.get(f"{root}/v1/runs?limit=1")
            following = page.headers["link"].partition("<")[2].partition(">")[0]
            assert (await client.get(following)).json()["data"][0]["id"] == run["id"]
            assert (await client.get(f"{root}/openapi.json")).json()["servers"] == [{"url": root}]
            assert (await client.get(f"{root}/livez", headers={"authorization": ""})).status_code == 200
            assert (await client.get(f"{root}/v1/runs", headers={"authorization": ""})).status_code == 401


async def test_before_the_runtime_is_open_every_request_is_told_the_fix(anyio_backend: Any) -> None:
    def closed() -> Runs:
        raise NotStarted("the runtime is not open: pass lifespan=runtime.lifespan")

    async with served(api(closed)) as url, httpx2.AsyncClient(base_url=url) as client:
        for path in ("/v1/runs", "/v1/runs/x/events", "/v1/workflows", "/readyz", "/openapi.json"):
            response = await client.get(path)
            assert (response.status_code, response.json()["type"]) == (503, "urn:greenroom:problem:not-started")
            assert "lifespan=runtime.lifespan" in response.json()["detail"]
        assert (await client.post("/v1/workflows/newsroom/runs")).status_code == 503
        assert (await client.get("/livez")).status_code == 200


async def test_two_apps_over_one_store_answer_for_the_same_runs(house: Any) -> None:
    """Whatever is durable is in the store: the second one knows what the first accepted."""
    run_id = (await house.client.post("/v1/workflows/idle/runs")).json()["id"]
    async with served(api(house.runs, streams=Streams(1))) as url, httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get(f"/v1/runs/{run_id}")).json()["id"] == run_id


async def test_workers_are_shown_by_their_heartbeats(house: Any) -> None:
    assert (await house.client.get("/v1/system/workers")).json() == {"data": []}
    await house.store.beat(WorkerInfo(name="w", build="b", started=0.0, beat=0.0, running=2, draining=False))
    (worker,) = (await house.client.get("/v1/system/workers")).json()["data"]
    assert (worker["name"], worker["running"], worker["started"]) == ("w", 2, "1970-01-01T00:00:00Z")
    assert worker["beat"] > "2020"


def test_the_streams_that_an_embedder_gives_are_the_ones_that_are_used() -> None:
    given = Streams(3)
    app = api(lambda: pytest.fail("no request was made"), streams=given)
    assert app.state.streams is given
