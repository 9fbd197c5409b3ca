"""Accepting and reading runs: what the API layer does, without any worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import InputInvalid, UnknownWorkflow, WaitTimedOut, workflow
from greenroom.runtime import records as r
from greenroom.runtime.errors import CursorAhead, RunCanceled
from greenroom.runtime.records import decode, encode
from greenroom.runtime.runs import valid_id
from greenroom.transports import (
    Finish,
    KeyConflict,
    Lease,
    RunEnded,
    RunFilter,
    RunNotFound,
    RunState,
    Stored,
    Terms,
)

House = Callable[..., Any]


@workflow(timeout=90)
async def greet(name: str, times: int = 1) -> str:
    return name * times


async def lease_on(home: Any) -> Lease:
    (claim,) = await home.store.claim("w", dict.fromkeys(["greet"], Terms()), limit=1, lease_s=10)
    lease: Lease = claim.lease
    return lease


async def test_an_accepted_run_is_written_with_its_first_record(house: House) -> None:
    home = house(greet)
    run, new = await home.runs.start("greet", b'{"name": "Ada"}', tags=("a",), metadata={"who": "me"})
    assert new
    assert (run.state, run.seq, run.tags) == (RunState.QUEUED, 1, ("a",))
    view = await home.runs.view(run.run_id)
    assert bytes(view.input) == b'{"name":"Ada","times":1}'
    assert (view.metadata, view.timeout_s) == ({"who": "me"}, 90)
    assert len(view.trace_id) == 32


@pytest.mark.parametrize(
    ("data", "options", "path"),
    [
        (b'{"name": 1}', {}, "$.name"),
        (b"{}", {}, "$"),
        (b'{"name": "Ada"}', {"timeout_s": 0}, "$.timeout_s"),
        (b'{"name": "Ada"}', {"timeout_s": float("nan")}, "$.timeout_s"),
        (b'{"name": "Ada"}', {"run_id": "../etc"}, "$.run_id"),
    ],
)
async def test_bad_input_is_refused_and_nothing_is_written(
    house: House, data: bytes, options: dict[str, Any], path: str
) -> None:
    home = house(greet)
    with pytest.raises(InputInvalid) as caught:
        await home.runs.start("greet", data, **options)
    assert caught.value.path == path
    assert (await home.runs.list(RunFilter())).runs == ()


async def test_an_unknown_workflow_is_refused_with_the_known_ones(house: House) -> None:
    with pytest.raises(UnknownWorkflow, match="this runtime has greet"):
        await house(greet).runs.start("greed", b"{}")


async def test_one_key_is_one_run_and_another_payload_is_refused(house: House) -> None:
    home = house(greet)
    first, new = await home.runs.start("greet", b'{"name": "Ada"}', key="k")
    again, anew = await home.runs.start("greet", b'{ "times": 1, "name": "Ada" }', key="k")
    assert (new, anew) == (True, False)
    assert again.run_id == first.run_id
    with pytest.raises(KeyConflict):
        await home.runs.start("greet", b'{"name": "Bob"}', key="k")


async def test_history_and_live_come_through_one_cursor_and_end_with_the_run(house: House) -> None:
    home = house(greet)
    run, _ = await home.runs.start("greet", b'{"name": "Ada"}')
    lease = await lease_on(home)
    await home.store.append(lease, [encode(r.RunStarted())])
    seen: list[int] = []
    async with anyio.create_task_group() as group:

        async def follow() -> None:
            async for event in home.runs.events(run.run_id, 1):
                seen.append(event.seq)

        group.start_soon(follow)
        await anyio.sleep(1)
        assert seen == [2]
        await home.store.append(lease, [encode(r.Status(step="", message="x"))])
        await anyio.sleep(0.001)
        assert seen == [2, 3]
        done = r.RunCompleted(result=msgspec.Raw(b'"Ada"'))
        await home.store.append(lease, [encode(done)], Finish(RunState.COMPLETED))
    assert seen == [2, 3, 4]
    assert [event.seq async for event in home.runs.events(run.run_id, 4)] == []


async def test_a_cursor_beyond_the_end_is_refused_and_not_waited_on(house: House) -> None:
    home = house(greet)
    run, _ = await home.runs.start("greet", b'{"name": "Ada"}')
    with pytest.raises(CursorAhead, match="ends at 1"):
        await anext(home.runs.events(run.run_id, 2))


async def test_waiting_has_an_end_and_the_run_goes_on(house: House) -> None:
    home = house(greet)
    run, _ = await home.runs.start("greet", b'{"name": "Ada"}')
    with pytest.raises(WaitTimedOut):
        await home.runs.wait(run.run_id, 5)
    assert anyio.current_time() == 5
    assert (await home.store.run(run.run_id)).state is RunState.QUEUED


async def test_a_run_that_has_ended_cannot_be_canceled(house: House) -> None:
    home = house(greet)
    run, _ = await home.runs.start("greet", b'{"name": "Ada"}')
    failed = r.RunFailed(error=r.Failure(type="ValueError", message="no"))
    await home.store.append(await lease_on(home), [encode(failed)], Finish(RunState.FAILED))
    with pytest.raises(RunEnded):
        await home.runs.cancel(run.run_id)
    assert (await home.runs.view(run.run_id)).error == failed.error


@pytest.mark.parametrize(("reason", "told"), [("", "was canceled"), ("too late", "was canceled: too late")])
async def test_a_run_that_was_canceled_says_why_if_there_is_a_reason(house: House, reason: str, told: str) -> None:
    home = house(greet)
    run, _ = await home.runs.start("greet", b'{"name": "Ada"}')
    canceled = r.RunCanceled(reason=reason)
    await home.store.append(await lease_on(home), [encode(canceled)], Finish(RunState.CANCELED))
    with pytest.raises(RunCanceled) as stopped:
        await home.runs.result(run.run_id)
    assert str(stopped.value) == f"run {run.run_id} {told}"


async def test_what_is_not_there_is_said(house: House) -> None:
    home = house(greet)
    for ask in (home.runs.view, home.runs.cancel, home.runs.wait):
        with pytest.raises(RunNotFound, match="'nope'"):
            await ask("nope")


@given(st.text(max_size=120))
def test_run_ids_that_callers_choose_fit_urls_and_keys(name: str) -> None:
    assert not valid_id(name) or (name.isascii() and "/" not in name and 0 < len(name) <= 100)


RECORDS = [
    r.RunQueued(workflow="w", input=msgspec.Raw(b"{}"), run_id="x"),
    r.LeaseTaken(worker="w", build="b", fence=2, takeover=True, recorded=3),
    r.RunCompleted(result=msgspec.Raw(b"[1,2]"), replayed=2, unasked=("old",)),
    r.StepStarted(step="s", name="s", attempt=1, scope="o", digest="d", nth=2),
    r.LLMCall(
        step="s",
        attempt=1,
        status="ok",
        deployment="d",
        provider="openai",
        model="m",
        asked_model="smart",
        attempts=(r.LLMAttempt(deployment="d", outcome="ok", seconds=1.0),),
    ),
    r.Status(step="", message="m", data=msgspec.Raw(b'{"a":1}')),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_survives_its_encoding(record: r.Record) -> None:
    entry = encode(record)
    event = decode(Stored(seq=1, ts=0.0, kind=entry.kind, body=entry.body))
    assert encode(event.record) == entry


def test_a_record_of_a_newer_version_is_kept_as_it_is() -> None:
    event = decode(Stored(seq=1, ts=0.0, kind="run.teleported", body=b'{"to":"mars"}'))
    assert event.kind == "run.teleported"
    assert isinstance(event.record, r.Unknown)
    assert bytes(event.record.body) == b'{"to":"mars"}'


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    event = decode(Stored(seq=1, ts=0.0, kind="run.started", body=b'{"mood":"good"}'))
    assert event.record == r.RunStarted()
