"""Streams of the client over connections that are cut and servers that are replaced: no gap, no duplicate, an end."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import httpx2
import pytest

from greenroom.client import Client, RemoteRun, Unreachable
from greenroom.runtime.client.following import frames
from greenroom.runtime.http import api
from greenroom.runtime.log import fold_output
from greenroom.runtime.records import OutputDelta, decode

from ..http.conftest import House, served
from .conftest import cutting


async def log_of(house: House, run_id: str) -> list[Any]:
    return [decode(stored) for stored in await house.store.read(run_id)]


async def events_of(run: RemoteRun, into: list[Any], after: int = 0) -> None:
    async for event in run.events(after):
        into.append(event)


@pytest.mark.slow
async def test_wherever_connections_are_cut_every_event_comes_once(house: Any) -> None:
    """A proxy cuts each connection after a few more bytes than the last, within frames and between them."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    for attempt in (1, 2):
        await house.hand.say(run_id, *(f"{attempt}.{n} " for n in range(12)), attempt=attempt)
        if attempt == 1:
            await house.hand.reset(run_id)
    await house.hand.complete(run_id, "done")
    sizes = itertools.chain(range(700, 2500, 171), itertools.repeat(None))
    async with cutting(house.url, lambda: next(sizes)) as (url, cutter), Client(url) as client:
        seen: list[Any] = []
        await events_of(client.run(run_id), seen)
        assert cutter.cuts > 5
    log = await log_of(house, run_id)
    assert seen == log
    assert [event.seq for event in seen] == list(range(1, len(log) + 1))


@pytest.mark.slow
async def test_output_over_cut_connections_is_exactly_what_counts(house: Any) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "dead ", "end ")
    sizes = itertools.chain(range(500, 3000, 197), itertools.repeat(None))
    shown: list[Any] = []
    async with cutting(house.url, lambda: next(sizes)) as (url, cutter), Client(url) as client:

        async def read() -> None:
            async for piece in client.run(run_id).text_stream():
                shown.append(piece)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            while not (shown and shown[-1].text == "dead end "):
                await anyio.lowlevel.checkpoint()
            await house.hand.reset(run_id)
            await house.hand.say(run_id, *(f"{n} " for n in range(9)), attempt=2)
            await house.hand.complete(run_id)
        assert cutter.cuts
        assert await client.run(run_id).output() == shown[-1].text == fold_output(await log_of(house, run_id))
    assert [piece.taken_back for piece in shown].count(True) == 1
    for before, piece in itertools.pairwise(shown):
        assert piece.taken_back or piece.text == before.text + piece.delta


@pytest.mark.slow
async def test_a_server_that_is_replaced_in_the_middle_is_found_again(house: Any) -> None:
    """It says that it shuts down; another one on the same port and over the same store goes on."""
    run_id = await house.start()
    await house.hand.claim(run_id)
    seen: list[Any] = []
    result: list[Any] = []

    async def wait(run: RemoteRun) -> None:
        result.append(await run.result(timeout=60))

    async with served(api(house.runs)) as url:
        port = int(url.rpartition(":")[2])
    async with Client(url) as client, anyio.create_task_group() as group:
        group.start_soon(events_of, client.run(run_id), seen)
        group.start_soon(wait, client.run(run_id))
        for round_ in range(3):
            async with served(api(house.runs), port=port):
                await house.hand.say(run_id, f"round {round_} ")
                last = (await house.runs.transport.run(run_id)).seq
                while not (seen and seen[-1].seq == last):
                    await anyio.lowlevel.checkpoint()
                if round_ == 2:
                    await house.hand.complete(run_id, "done")
                    while not result or seen[-1].seq != last + 1:
                        await anyio.lowlevel.checkpoint()
            if round_ < 2:
                await house.hand.say(run_id, "while nobody serves ")
    assert seen == await log_of(house, run_id)
    assert result == ["done"]


async def test_following_begins_behind_a_cursor_and_ends_with_the_run(house: Any, client: Client) -> None:
    run_id = await house.start()
    await house.hand.claim(run_id)
    await house.hand.say(run_id, "a", "b")
    await house.hand.complete(run_id)
    seen: list[Any] = []
    await events_of(client.run(run_id), seen, after=4)
    assert [event.seq for event in seen] == [5, 6]
    assert isinstance(seen[0].record, OutputDelta)
    await events_of(client.run(run_id), seen, after=6)
    assert len(seen) == 2


async def test_leaving_a_stream_closes_its_connection(house: Any, client: Client) -> None:
    run = client.run(await house.start())
    stream = run.events()
    assert (await anext(stream)).kind == "run.queued"
    assert len(house.app.state.streams) == 1
    await stream.aclose()
    while len(house.app.state.streams):
        await anyio.lowlevel.checkpoint()


async def test_a_server_that_only_fails_is_given_up() -> None:
    down = httpx2.MockTransport(lambda request: httpx2.Response(503))
    async with Client("http://x", transport=down, patience_s=0.2) as client:
        with pytest.raises(Unreachable, match=r"answered with 503; gave up after 0\.2 s"):
            await client.run("r").output()


async def test_frames_are_read_by_the_rules_of_the_standard() -> None:
    text = ": ping\n\nid: 1\nevent: a\ndata: x\ndata:y\n\nevent: b\n\ndata: z\r\n\r\ndata: cut off"
    response = httpx2.Response(200, content=text.encode())
    assert [(frame.event, frame.data) async for frame in frames(response)] == [("a", "x\ny"), ("message", "z")]
