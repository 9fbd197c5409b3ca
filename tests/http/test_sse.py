"""Streams over a real socket: no gap, no duplicate, an end; and on virtual time: silence and stalled clients."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.runtime.http.envelope import Envelope, Framed
from greenroom.runtime.http.sse import CHUNK_BYTES, joined
from greenroom.runtime.log import Output, fold_output
from greenroom.runtime.records import OutputDelta, OutputReset, RunCompleted, decode, encode
from greenroom.transports import Stored


async def ended_run(house: Any, *words: str) -> str:
    """A run that has said some words and ended."""
    run_id: str = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, *words)
    await house.hand.complete(run_id)
    return run_id


async def test_a_stream_gives_history_and_then_what_happens(house: Any) -> None:
    """One cursor for both: the reader comes in the middle, and misses nothing."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "a")
    read: list[Any] = []

    async def follow() -> None:
        read.extend(await house.read(f"/v1/runs/{run_id}/events"))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await house.hand.say(run_id, "b")
        await house.hand.say(run_id, "c")
        await house.hand.complete(run_id)
    assert [frame.id for frame in read] == [1, 2, 3, 4, 5, 6, 7]
    assert [frame.event for frame in read[-2:]] == ["output.delta", "run.completed"]
    for frame in read:
        assert frame.data.keys() == {"v", "run_id", "trace_id", "seq", "ts", "type", "data"}
        assert (frame.data["seq"], frame.data["type"], frame.data["v"]) == (frame.id, frame.event, 1)


async def test_a_stream_has_the_headers_that_keep_proxies_from_holding_it(house: Any) -> None:
    run_id = await ended_run(house)
    async with house.client.stream("GET", f"/v1/runs/{run_id}/events") as response:
        body = (await response.aread()).decode()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert body.startswith("retry: 2000\n\nid: 1\nevent: run.queued\ndata: {")
    assert body.count("retry:") == 1


async def test_a_reader_that_has_all_of_an_ended_run_gets_204(house: Any) -> None:
    """Anything else would make EventSource come back for ever."""
    run_id = await ended_run(house, "a")
    for path in ("events", "output"):
        response = await house.client.get(f"/v1/runs/{run_id}/{path}", headers={"last-event-id": "5"})
        assert (response.status_code, response.content) == (204, b"")


async def test_last_event_id_wins_over_after(house: Any) -> None:
    run_id = await ended_run(house, "a")
    frames = await house.read(f"/v1/runs/{run_id}/events?after=1", last=3)
    assert [frame.id for frame in frames] == [4, 5]
    assert [frame.id for frame in await house.read(f"/v1/runs/{run_id}/events?after=2")] == [3, 4, 5]


async def test_a_cursor_that_is_none_is_refused(house: Any) -> None:
    """Never a silent replay of everything."""
    run_id = await house.start()
    for bad in ("x", "-1", "1.5", "\u0661".encode(), "9" * 30):
        response = await house.client.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": bad})
        assert (response.status_code, response.json()["type"]) == (400, "urn:greenroom:problem:invalid-parameter")


async def test_a_cursor_ahead_of_the_log_is_refused(house: Any) -> None:
    """Never a silent wait for records that another history would have had."""
    run_id = await house.start()
    for accept in ("text/event-stream", "application/json"):
        response = await house.client.get(f"/v1/runs/{run_id}/events?after=2", headers={"accept": accept})
        assert (response.status_code, response.json()["type"]) == (409, "urn:greenroom:problem:cursor-ahead")


async def test_the_output_stream_has_deltas_resets_and_the_end(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "half")
    await house.hand.reset(run_id)
    await house.hand.say(run_id, "whole", attempt=2)
    await house.hand.complete(run_id)
    frames = await house.read(f"/v1/runs/{run_id}/output")
    assert [(f.id, f.event) for f in frames] == [
        (4, "output.delta"),
        (5, "output.reset"),
        (6, "output.delta"),
        (7, "run.completed"),
    ]
    assert [f.id for f in await house.read(f"/v1/runs/{run_id}/output", last=5)] == [6, 7]


async def test_a_run_can_be_started_and_followed_in_one_request(house: Any) -> None:
    """The events come at once, and the response says where to resume."""
    headers = {"accept": "text/event-stream", "idempotency-key": "k"}
    body = {"input": {"topic": "tea"}, "run_id": "s"}
    async with house.client.stream("POST", "/v1/workflows/newsroom/runs", json=body, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-location"] == "/v1/runs/s/events"
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == ["retry: 2000", "", "id: 1", "event: run.queued"]
        await lines.aclose()
    async with house.client.stream(
        "POST", "/v1/workflows/newsroom/runs", json=body, headers=headers | {"last-event-id": "1"}
    ) as response:
        assert response.headers["idempotent-replayed"] == "true"
        await house.hand.claim("s")
        await house.hand.complete("s")
        assert "id: 1\n" not in (await response.aread()).decode()


async def test_leaving_a_stream_ends_its_reader_and_not_the_run(house: Any) -> None:
    run_id = await house.start()
    streams = house.app.state.streams
    async with house.client.stream("GET", f"/v1/runs/{run_id}/events") as response:
        await anext(response.aiter_lines())
        assert len(streams) == 1
    while len(streams):
        await anyio.lowlevel.checkpoint()
    assert (await house.client.get(f"/v1/runs/{run_id}")).json()["status"] == "queued"


async def test_a_head_request_does_not_follow(house: Any) -> None:
    run_id = await house.start()
    response = await house.client.head(f"/v1/runs/{run_id}/events")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")


async def test_two_readers_read_the_same(house: Any) -> None:
    """One leaves and resumes, one stays."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    stayed: list[Any] = []

    async def stay() -> None:
        stayed.extend(await house.read(f"/v1/runs/{run_id}/events"))

    async with anyio.create_task_group() as group:
        group.start_soon(stay)
        left = await house.read(f"/v1/runs/{run_id}/events", 2)
        await house.hand.say(run_id, "a", "b", "c")
        left += await house.read(f"/v1/runs/{run_id}/events", 3, last=2)
        await house.hand.complete(run_id)
        left += await house.read(f"/v1/runs/{run_id}/events", last=5)
    assert left == stayed
    assert [frame.id for frame in left] == [1, 2, 3, 4, 5, 6, 7]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 5)),
        st.tuples(st.just("retry"), st.just(1)),
        st.tuples(st.just("read"), st.integers(1, 6)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
async def test_wherever_a_reader_is_cut_it_resumes_without_gap_or_duplicate(house: Any, actions: Any) -> None:
    """Laws 2 and 5: seqs 1..n, and the output that the log folds to, over any disconnects."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    written, attempt = 3, 1
    seen: list[Any] = []
    shown: list[Any] = []
    for action, count in actions:
        if action == "say":
            await house.hand.say(run_id, *(f"{attempt}.{written + n} " for n in range(count)), attempt=attempt)
            written += count
        elif action == "retry":
            await house.hand.reset(run_id, attempt)
            attempt, written = attempt + 1, written + 1
        elif written > len(seen):
            some = min(count, written - len(seen))
            seen += await house.read(f"/v1/runs/{run_id}/events", some, last=len(seen))
            ready = (await house.store.read(run_id, shown[-1].id if shown else 0))[:3]
            if any(stored.kind.startswith("output") for stored in ready):
                shown += await house.read(f"/v1/runs/{run_id}/output", 1, last=shown[-1].id if shown else None)
    await house.hand.complete(run_id)
    seen += await house.read(f"/v1/runs/{run_id}/events", last=len(seen))
    shown += await house.read(f"/v1/runs/{run_id}/output", last=shown[-1].id if shown else None)
    assert [frame.id for frame in seen] == list(range(1, written + 2))
    output = Output()
    for frame in shown[:-1]:
        output.apply(decode(Stored(frame.id, 0.0, frame.event, msgspec.json.encode(frame.data["data"]))))
    log = [decode(stored) for stored in await house.store.read(run_id)]
    assert output.text == fold_output(log)


def test_a_frame_is_one_line_whatever_the_body_looks_like() -> None:
    """A line break in a body would end the event, and what follows it would be read as a field."""
    stored = Stored(7, 1.5, "status", b'{"step":"s",\r\n"message":\n"id: 9"}')
    frame = Framed(stored, Envelope("r", "t")).frame
    head, event, data, *rest = frame.split(b"\n")
    assert (head, event, rest) == (b"id: 7", b"event: status", [b"", b""])
    assert msgspec.json.decode(data.removeprefix(b"data: "))["data"] == {"step": "s", "message": "id: 9"}
    assert b"\n" not in Envelope("r", "t").wrap(Stored(1, 1.0, "evil\nid: 9", b"{}"))
    assert Framed(Stored(1, 1.0, "evil\nid: 9", b"{}"), Envelope("r", "t")).frame.count(b"\n") == 4


@given(st.lists(st.binary(max_size=50)), st.integers(1, 100))
def test_joined_frames_are_the_same_bytes_in_bounded_chunks(frames: list[bytes], size: int) -> None:
    chunks = list(joined(frames, size))
    assert b"".join(chunks) == b"".join(frames)
    assert all(len(chunk) < size + 50 for chunk in chunks)


def test_bodies_are_spliced_and_not_decoded() -> None:
    """The bytes on the wire are the stored ones, with their order and spelling."""
    body = b'{"z":1.0,"a":"\\u00e9"}'
    assert b'"data":' + body + b"}" in Envelope("r", "t").wrap(Stored(1, 1.0, "status", body))
    assert CHUNK_BYTES >= 1024


def test_records_of_the_tests_are_what_the_log_holds() -> None:
    """The kinds that the output stream is made of."""
    kinds = [encode(OutputDelta(step="s", attempt=1, text="x")).kind, encode(OutputReset(step="s", attempt=1)).kind]
    assert kinds == ["output.delta", "output.reset"]
    assert RunCompleted.kind == "run.completed"
