"""Signals and approvals over HTTP."""

from __future__ import annotations

import msgspec

from greenroom.runtime.records import ApprovalRequested

from .conftest import House


async def test_a_signal_is_checked_and_kept(house: House) -> None:
    runs, client, one = house.runs, house.client, await house.start()
    sent = await client.post(f"/v1/runs/{one}/signals/words", json={"data": "tea"}, headers={"idempotency-key": "k"})
    assert sent.status_code == 202
    assert sent.json()["seq"] == 2
    [record] = await runs.transport.read(one, 1)
    assert (record.kind, msgspec.json.decode(record.body)) == (
        "signal.received",
        {"name": "words", "data": "tea", "id": "k"},
    )
    wrong = await client.post(f"/v1/runs/{one}/signals/words", json={"data": 1})
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:greenroom:problem:invalid-input")
    unknown = await client.post(f"/v1/runs/{one}/signals/wrods", json={"data": "tea"})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:greenroom:problem:unknown-inlet")
    assert (await client.post("/v1/runs/two/signals/words", json={"data": "tea"})).status_code == 404
    assert (await runs.transport.run(one)).seq == 2


async def test_the_first_decision_counts(house: House) -> None:
    client, one = house.client, await house.start()
    await house.hand.claim(one)
    await house.hand.append(one, ApprovalRequested(approval="publish-1", name="publish", question="Publish it?"))
    [asked] = (await client.get(f"/v1/runs/{one}/approvals")).json()["data"]
    assert asked == {
        "approval": "publish-1",
        "name": "publish",
        "question": "Publish it?",
        "data": None,
        "decision": None,
        "by": "",
    }
    path = f"/v1/runs/{one}/approvals/publish-1"
    bad = await client.post(path, json={"decision": {"approved": "yes"}})
    assert (bad.status_code, bad.json()["errors"][0]["path"]) == (422, "$.input.approved")
    yes = await client.post(path, json={"decision": {"approved": True}, "by": "ann"})
    assert (yes.status_code, yes.json()["by"]) == (202, "ann")
    assert (await client.post(path, json={"decision": {"approved": True, "comment": ""}})).status_code == 200
    no = await client.post(path, json={"decision": {"approved": False}})
    assert (no.status_code, no.json()["type"]) == (409, "urn:greenroom:problem:decided")
    assert (await client.post(f"/v1/runs/{one}/approvals/other", json={"decision": {}})).status_code == 404
