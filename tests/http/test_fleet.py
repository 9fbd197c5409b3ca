"""Trees and providers: what workers put into the store, told by an API that never talks to them."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from greenroom import WorkerSettings
from greenroom.runtime.http import fleet
from greenroom.runtime.portraits import WANTED, Decision, Line, Part, Portrait
from greenroom.runtime.router import Deployment, LaneSnapshot, Limits, RouterConfig, Secret
from greenroom.runtime.worker import open_worker
from greenroom.transports import WorkerInfo

from .conftest import Faulty


async def show(house: Any, name: str, portrait: Portrait | None) -> None:
    """Be a worker that beats and, with a portrait, shows it."""
    info = WorkerInfo(name=name, build="b", started=0.0, beat=0.0, running=1, draining=False)
    await house.store.beat(info)
    if portrait is not None:
        await house.store.cache_put(f"portraits/{name}", msgspec.json.encode(portrait), ttl_s=60)


def portrait(at: float = 100.0, **more: Any) -> Portrait:
    claimer = Part(name="claimer", kind="actor", state="running", mailbox=3, capacity=1000)
    tree = Part(name="worker", kind="one_for_one", state="running", children=(claimer,), omitted=2)
    return Portrait(at=at, tree=tree, **more)


def lane(**more: Any) -> LaneSnapshot:
    about = {"deployment": "east", "provider": "openai", "model": "m", "breaker": "closed", "why": "", "in_flight": 1}
    return LaneSnapshot(**{**about, "tokens_used": 10.0, "outcomes": {"ok": 3}, **more})


async def test_trees_are_told_worker_by_worker_and_a_worker_that_shows_none_is_named(house: Any) -> None:
    await show(house, "w-1", portrait())
    await show(house, "w-2", None)
    first, second = (await house.client.get("/v1/system/tree")).json()["data"]
    assert (first["worker"], first["build"], first["running"], first["at"]) == ("w-1", "b", 1, 100.0)
    assert first["tree"] == {
        "name": "worker",
        "kind": "one_for_one",
        "state": "running",
        "children": [{"name": "claimer", "kind": "actor", "state": "running", "mailbox": 3, "capacity": 1000}],
        "omitted": 2,
    }
    assert (second["worker"], second["tree"], second["at"]) == ("w-2", None, None)
    one = (await house.client.get("/v1/system/tree?worker=w-1")).json()["data"]
    assert [worker["worker"] for worker in one] == ["w-1"]
    assert (await house.client.get("/v1/system/tree?worker=w-9")).json() == {"data": []}


async def test_a_look_leaves_one_mark_for_the_workers(house: Any) -> None:
    puts = []
    put = house.store.cache_put

    async def counted(key: str, value: bytes, *, ttl_s: float) -> None:
        puts.append(key)
        await put(key, value, ttl_s=ttl_s)

    house.store.cache_put = counted
    assert await house.store.cache_get(WANTED) is None
    for path in ("tree", "providers", "tree"):
        await house.client.get(f"/v1/system/{path}")
    assert await house.store.cache_get(WANTED) is not None
    assert puts == [WANTED]


@pytest.mark.parametrize("path", ["/v1/system/tree", "/v1/system/providers"])
async def test_what_has_not_changed_is_not_sent_again(house: Any, path: str) -> None:
    await show(house, "w-1", portrait(deployments=(lane(),)))
    house.store.beat = None  # a beat later the answer would be another
    etag = (await house.client.get(path)).headers["etag"]
    assert (await house.client.get(path, headers={"if-none-match": etag})).status_code == 304
    await house.store.cache_put("portraits/w-1", msgspec.json.encode(portrait(at=101.0)), ttl_s=60)
    assert (await house.client.get(path, headers={"if-none-match": etag})).status_code == 200


async def test_a_deployment_is_told_over_all_workers_and_for_each(house: Any) -> None:
    well = lane(outcomes={"ok": 7, "limited": 1}, latencies=(1.0, 2.0, 3.0), requests_per_min=500.0)
    ill = lane(
        breaker="open", why="503: overloaded", down_s=12.0, outcomes={"unavailable": 5, "closed": 1}, latencies=(9.0,)
    )
    await show(house, "w-1", portrait(deployments=(well, lane(deployment="west"))))
    await show(house, "w-2", portrait(deployments=(ill,)))
    east, west = (await house.client.get("/v1/system/providers")).json()["data"]
    assert (east["deployment"], east["breaker"], east["in_flight"], east["tokens_used"]) == ("east", "open", 2, 20.0)
    assert (east["calls"], east["limited"], east["failed"]) == (14, 1, 5)
    assert (east["p50_s"], east["p95_s"]) == (3.0, 9.0)
    assert [(one["worker"], one["breaker"], one["down_s"]) for one in east["workers"]] == [
        ("w-1", "closed", None),
        ("w-2", "open", 12.0),
    ]
    assert (west["deployment"], west["p50_s"], len(west["workers"])) == ("west", None, 1)


async def test_lines_and_the_newest_decisions_are_told_with_their_workers(house: Any) -> None:
    def decided(at: float) -> Decision:
        return Decision(
            at=at, run_id=f"r{at:g}", step="s", asked_model="smart", deployment="east", status="ok", reason="room",
            seconds=1.0,
        )  # fmt: skip

    line = Line(model="smart", waiting=4)
    await show(house, "w-1", portrait(lines=(line,), decisions=tuple(decided(n) for n in range(80, 40, -1))))
    await show(house, "w-2", portrait(decisions=tuple(decided(n + 0.5) for n in range(80, 40, -1))))
    found = (await house.client.get("/v1/system/providers")).json()
    assert found["lines"] == [{"worker": "w-1", "model": "smart", "waiting": 4}]
    times = [one["at"] for one in found["decisions"]]
    assert times == sorted(times, reverse=True)
    assert (len(times), times[0], found["decisions"][0]["worker"]) == (50, 80.5, "w-2")


async def test_so_many_trees_are_told_at_once_and_the_others_by_name(house: Any) -> None:
    for n in range(fleet.TREES + 2):
        await show(house, f"w-{n:03}", portrait())
    all_of_them = (await house.client.get("/v1/system/tree")).json()["data"]
    assert [one["tree"] is None for one in all_of_them] == [False] * fleet.TREES + [True] * 2
    (last,) = (await house.client.get(f"/v1/system/tree?worker=w-{fleet.TREES + 1:03}")).json()["data"]
    assert last["tree"] is not None


async def test_a_store_that_cannot_be_reached_is_a_problem(house: Any) -> None:
    house.runs.transport = Faulty(house.store)
    house.runs.transport.gone = True
    with anyio.fail_after(20):
        answer = await house.client.get("/v1/system/tree")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


async def test_a_worker_is_seen_through_the_store_without_its_keys(house: Any) -> None:
    key = "sk-seen-by-nobody"
    east = Deployment(
        name="east",
        provider="openai",
        model="m",
        base_url="http://127.0.0.1:9",
        key=Secret(key),
        limits=Limits(requests_per_min=500, tokens_per_min=10_000, concurrency=4),
    )
    settings = WorkerSettings(name="w-1", lease_s=0.5, drain_s=0.1)
    config = RouterConfig(models={"smart": (east,)})
    shown, put = anyio.Event(), house.store.cache_put

    async def noticed(key: str, value: bytes, *, ttl_s: float) -> None:
        await put(key, value, ttl_s=ttl_s)
        if key == "portraits/w-1":
            shown.set()

    house.store.cache_put = noticed
    async with open_worker(house.store, house.runs.workflows, settings, config):
        before = (await house.client.get("/v1/system/tree")).json()["data"]
        assert [one for one in before if one["tree"] is not None] == [], "it was not asked to show itself"
        with anyio.fail_after(30):
            await shown.wait()
        tree = (await house.client.get("/v1/system/tree")).json()["data"]
        assert {"router", "components", "claimer"} <= {part["name"] for part in tree[0]["tree"]["children"]}
        answer = await house.client.get("/v1/system/providers")
        (deployment,) = answer.json()["data"]
        (on,) = deployment["workers"]
        assert (on["worker"], on["requests_per_min"], on["tokens_per_min"], on["concurrency"]) == (
            "w-1",
            500,
            10_000,
            4,
        )
        assert answer.json()["lines"] == [{"worker": "w-1", "model": "smart", "waiting": 0, "expected_s": 0.0}]
        assert key not in answer.text
    assert (await house.client.get("/v1/system/tree")).json() == {"data": []}
