"""Readers of a log whose end a failover loses, and that has grown beyond what they had read before they look again.

Two real servers: the second one follows the first until it is cut off, and then takes its place. Over HTTP, as readers
see it: with the ids of events, with plain numbers, by `EventSource`'s rules and by the client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
import pytest

from greenroom.client import Client, Refused
from greenroom.runtime.cursor import Cursor
from greenroom.runtime.errors import LogCutBack
from greenroom.runtime.runs import Runs
from greenroom.transports import Entry, open_transport

from ..http.conftest import House, open_house
from ..transports.valkey import Node, Proxy, caught_up, fail_over, follow, node, proxy, until

pytestmark = pytest.mark.slow

DEADLINE_S = 50.0
NOTE = Entry("status", b'{"message":"other"}')
CUT_BACK = "urn:greenroom:problem:log-cut-back"


@dataclass
class Scene:
    """An API whose server will be failed over."""

    house: House
    run_id: str
    between: Proxy
    first: Node
    second: Node

    @property
    def events(self) -> str:
        """Where the log is."""
        return f"/v1/runs/{self.run_id}/events"

    async def lose_and_grow(self, to: int) -> None:
        """The second server, which has three records, goes on to so many; then the first one dies."""
        async with open_transport(self.second.url) as other:
            assert (await other.run(self.run_id)).seq == 3
            await other.post(self.run_id, [NOTE] * (to - 3))
        await fail_over(self.between, self.first, self.second)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A run with six records, of which three have reached the second server."""
    async with scene_in(tmp_path) as scene:
        yield scene


@asynccontextmanager
async def scene_in(folder: Path) -> AsyncIterator[Scene]:
    with node(folder / "a") as first, node(folder / "b") as second:
        follow(second, first)
        async with proxy(first.port) as between, open_house(url=f"redis://127.0.0.1:{between.port}") as house:
            run_id = await house.start()
            await house.hand.claim(run_id)
            until(lambda: caught_up(second, first))
            second.ask("REPLICAOF", "NO", "ONE")
            await house.hand.say(run_id, "these", "are", "lost")
            yield Scene(house, run_id, between, first, second)


async def ids(scene: Scene, count: int) -> list[str]:
    """The ids of the first events of the log."""
    found: list[str] = []
    async with scene.house.client.stream("GET", scene.events) as response:
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                found.append(line.removeprefix("id: "))
            if len(found) == count:
                break
    return found


async def came_back(scene: Scene, cursor: str) -> httpx2.Response:
    """What a reader with this cursor is answered with, when the store is there again; of a stream only its head."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            async with scene.house.client.stream("GET", scene.events, headers={"last-event-id": cursor}) as response:
                if response.status_code != 200:
                    await response.aread()
                if response.status_code != 503:
                    return response


async def test_a_reader_that_was_away_is_told_and_one_whose_records_are_there_is_not(scene: Scene) -> None:
    read = await ids(scene, 6)
    assert [one.partition("-")[0] for one in read] == ["1", "2", "3", "4", "5", "6"]
    await scene.lose_and_grow(to=9)
    told = await came_back(scene, read[5])
    assert (told.status_code, told.json()["type"]) == (410, CUT_BACK)
    assert told.json()["detail"].startswith(f"record 6 of run {scene.run_id} is not the one that was read")
    assert (await came_back(scene, read[3])).status_code == 410
    assert (await came_back(scene, read[2])).status_code == 200
    assert (await came_back(scene, "6")).status_code == 200, "a plain number works on"
    page = await scene.house.client.get(scene.events, params={"after": read[5]}, headers={"accept": "application/json"})
    assert (page.status_code, page.json()["type"]) == (410, CUT_BACK)


async def test_pages_have_a_cursor_that_knows_too(scene: Scene) -> None:
    json = {"accept": "application/json"}
    page = (await scene.house.client.get(scene.events, params={"limit": 5}, headers=json)).json()
    assert page["next_after"] == 5
    assert page["cursor"] == (await ids(scene, 5))[4]
    await scene.lose_and_grow(to=9)
    told = await scene.house.client.get(scene.events, params={"after": page["cursor"]}, headers=json)
    assert (told.status_code, told.json()["type"]) == (410, CUT_BACK)


async def test_a_stream_that_is_open_ends_with_the_problem(scene: Scene) -> None:
    """Though the log is longer when it is looked at again."""
    lines: list[str] = []
    async with scene.house.client.stream("GET", scene.events) as response:
        with anyio.fail_after(DEADLINE_S):
            async for line in response.aiter_lines():
                lines.append(line)
                if line.startswith("id: 6-"):
                    await scene.lose_and_grow(to=9)
    assert [line for line in lines if line.startswith("event: ")][-2:] == ["event: output.delta", "event: problem"]
    assert lines[-2].startswith(f'data: {{"type":"{CUT_BACK}"')
    assert len([line for line in lines if line.startswith("id: ")]) == 6, "nothing of the other history was told"


async def test_a_client_that_follows_is_told_over_whatever_connection(scene: Scene) -> None:
    seen: list[int] = []

    async def read(client: Client) -> None:
        async for event in client.run(scene.run_id).events():
            seen.append(event.seq)
            if event.seq == 6:
                await scene.lose_and_grow(to=9)

    async with Client(scene.house.url) as client:
        with anyio.fail_after(DEADLINE_S), pytest.raises(Refused) as refused:
            await read(client)
    assert (refused.value.type, refused.value.status) == ("log-cut-back", 410)
    assert "follow it again from 0" in str(refused.value)
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_code_that_reads_with_a_cursor_is_told(scene: Scene) -> None:
    runs = Runs(scene.house.store, {})
    seq, _, mark = (await ids(scene, 6))[5].partition("-")
    await scene.lose_and_grow(to=6)
    with anyio.fail_after(DEADLINE_S), pytest.raises(LogCutBack):
        await anext(runs.tail(scene.run_id, Cursor(int(seq), mark)))
