"""Cancel and retry by filter: in batches, once each, never more than was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.runtime.records import Failure
from greenroom.transports import RunFilter, RunState

from .conftest import Faulty


async def cancel(house: Any, query: str = "status=queued", **body: Any) -> Any:
    return (await house.client.post(f"/v1/runs/cancel?{query}", json=body)).json()


async def kinds(house: Any, run: str) -> list[str]:
    return [stored.kind for stored in await house.store.read(run)]


async def test_a_dry_run_counts_and_changes_nothing(house: Any) -> None:
    runs = [await house.start() for _ in range(3)]
    assert await cancel(house, dry_run=True) == {"matched": 3, "done": 0, "next_cursor": None}
    assert [await kinds(house, run) for run in runs] == [["run.queued"]] * 3


async def test_all_that_fit_are_asked_to_stop_batch_by_batch_and_no_others(house: Any) -> None:
    wanted = [await house.start() for _ in range(6)]
    other, _ = await house.runs.start("idle", b"{}")
    await house.hand.claim(wanted[0])  # which claims the others too
    cursor, done = None, []
    while True:
        found = await cancel(house, "status=running&workflow=newsroom", limit=2, cursor=cursor, reason="enough")
        done.append(found["done"])
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert done == [2, 2, 2]
    for run in wanted:
        assert (await kinds(house, run)).count("cancel.requested") == 1
    assert "cancel.requested" not in await kinds(house, other.run_id)


async def test_failed_runs_are_started_again_once_however_often_it_is_asked_for(house: Any) -> None:
    bad = [await house.start() for _ in range(3)]
    await house.hand.claim(bad[-1])  # which claims the earlier ones too
    for run in bad:
        await house.hand.fail(run, Failure(type="Late", message="no answer"))
    first = (await house.client.post("/v1/runs/retry?status=failed", json={})).json()
    again = (await house.client.post("/v1/runs/retry?status=failed")).json()
    assert first == {"matched": 3, "done": 3, "next_cursor": None}
    assert again == {"matched": 3, "done": 0, "next_cursor": None}
    queued = await house.runs.list(RunFilter(state=RunState.QUEUED))
    assert len(queued.runs) == 3


@pytest.mark.parametrize(
    ("path", "query"),
    [("cancel", ""), ("cancel", "?status=failed"), ("retry", "?workflow=newsroom"), ("retry", "?status=running")],
)
async def test_the_status_has_to_be_named_and_to_make_sense(house: Any, path: str, query: str) -> None:
    run = await house.start()
    answer = await house.client.post(f"/v1/runs/{path}{query}", json={})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "query.status")
    assert await kinds(house, run) == ["run.queued"]


async def test_a_body_that_says_more_than_can_be_is_refused(house: Any) -> None:
    answer = await house.client.post("/v1/runs/cancel?status=queued", json={"limit": 5000})
    assert answer.status_code == 422
    answer = await house.client.post("/v1/runs/cancel?status=queued", json={"cursor": "nonsense"})
    assert answer.status_code == 400


async def test_runs_named_like_the_endpoints_are_found_all_the_same(house: Any) -> None:
    await house.runs.start("idle", b"{}", run_id="cancel")
    assert (await house.client.get("/v1/runs/cancel")).json()["id"] == "cancel"


async def test_a_store_that_goes_away_in_the_middle_is_a_problem_and_it_can_be_asked_again(house: Any) -> None:
    run = await house.start()
    faulty = Faulty(house.store)
    house.runs.transport = faulty

    async def listed(*args: Any, **options: Any) -> Any:
        page = await house.store.runs(*args, **options)
        faulty.gone = True
        return page

    faulty.runs = listed  # type: ignore[attr-defined]
    assert (await house.client.post("/v1/runs/cancel?status=queued", json={})).status_code == 503
    faulty.gone = False
    del faulty.runs
    assert (await cancel(house))["done"] == 1
    assert "cancel.requested" in await kinds(house, run)
