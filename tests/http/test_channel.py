"""Many readers of one run, on virtual time: they share one reading of the log, and none of them notices the others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from greenroom.runtime.http import ApiOptions, api
from greenroom.runtime.http import channel as channel_module
from greenroom.runtime.http.channel import Statistics
from greenroom.runtime.http.connection import AT_ONCE, SLICE
from greenroom.runtime.http.envelope import Framed
from greenroom.runtime.http.sse import CHUNK_BYTES, Native
from greenroom.runtime.records import OutputDelta, encode
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.clock import virtual_backend
from greenroom.transports import MemoryTransport, Stored, Transport, log_topic

from .conftest import Hand, newsroom

NONE = Statistics(runs=0, readers=0, records=0, bytes=0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


class Counting:
    """A store that counts how often a log was read, and can be taken away; or one that may lose the end of a log."""

    def __init__(self, store: Transport, *, forgets: bool) -> None:
        self.forgets = forgets
        self.reads = 0
        self.gone = False
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == "read":
            self.reads += 1
        if self.gone:
            raise OSError("the store is gone")
        return getattr(self._store, name)


class Reader:
    """A client that follows a run over as many connections as it takes, and checks what it gets.

    Attributes:
        at_once: whether its server takes what the client takes without a wait.
        woken: how many messages its stream's own task has sent.
    """

    def __init__(
        self, app: Starlette, run_id: str, faults: list[str], path: str = "events", *, at_once: bool = False
    ) -> None:
        self.app = app
        self.at_once = at_once
        self.woken = 0
        self._task: Any = None
        self.faults = faults
        self.path = f"/v1/runs/{run_id}/{path}"
        self.cursor = 0
        self.mark = ""
        self.problem = False
        self.status = 0
        self.chunks: list[bytes] = []
        self.ended = False
        self.takes = anyio.Event()
        self.takes.set()
        self._leaves = anyio.Event()

    async def follow(self) -> None:
        """One connection, from the cursor on."""
        self._leaves = anyio.Event()
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": self.path,
            "root_path": "",
            "query_string": b"",
            "headers": [(b"last-event-id", f"{self.cursor}{self.mark}".encode()), (b"accept", b"text/event-stream")],
            "server": ("testserver", 80),
            "client": ("192.0.2.1", 4711),
        }
        if self.at_once:
            scope[AT_ONCE] = self._send
        self._task = asyncio.current_task()
        await self.app(scope, self._receive, self._send)

    def leave(self) -> None:
        """Hang up."""
        self._leaves.set()

    def stall(self) -> None:
        """Take nothing any more."""
        self.takes = anyio.Event()

    async def _receive(self) -> dict[str, Any]:
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if not (self.at_once and self.takes.is_set()):
            await self.takes.wait()
        self.woken += asyncio.current_task() is self._task
        if self._leaves.is_set():
            return  # what a server sends after that is lost
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.chunks.append(message["body"])
        for seq, mark in re.findall(r"^id: (\d+)(\S*)$", message["body"].decode(), re.MULTILINE):
            if int(seq) != self.cursor + 1 and self.path.endswith("events"):
                self.faults.append(f"{seq} came after {self.cursor}")
            self.cursor, self.mark = int(seq), mark
        self.problem = self.problem or b"event: problem" in message["body"]
        self.ended = self.ended or b"event: run.completed" in message["body"]


class Scene:
    """A run, the API over it, and whoever follows."""

    def __init__(
        self, store: Transport, group: anyio.abc.TaskGroup, options: ApiOptions | None, *, forgets: bool
    ) -> None:
        self.store: Any = Counting(store, forgets=forgets)
        self.runs = Runs(self.store, {"newsroom": newsroom})
        self.app = api(self.runs, options=options)
        self.hand = Hand(store, "newsroom")
        self.group = group
        self.run_id = ""
        self.written = 0
        self.faults: list[str] = []

    @property
    def held(self) -> Statistics:
        statistics: Statistics = self.app.state.streams.channels.statistics()
        return statistics

    async def start(self) -> None:
        run, _ = await self.runs.start("newsroom", b'{"topic": "tea"}')
        self.run_id = run.run_id
        await self.hand.claim(self.run_id)
        self.written = 3

    async def say(self, *words: str) -> None:
        await self.hand.say(self.run_id, *words)
        self.written += len(words)

    async def complete(self) -> None:
        await self.hand.complete(self.run_id)
        self.written += 1

    def absent(self, path: str = "events", *, at_once: bool = False) -> Reader:
        """Somebody who does not follow yet."""
        return Reader(self.app, self.run_id, self.faults, path, at_once=at_once)

    def reader(self, path: str = "events", *, at_once: bool = False) -> Reader:
        """Somebody who follows from now on."""
        reader = self.absent(path, at_once=at_once)
        self.group.start_soon(reader.follow)
        return reader


@asynccontextmanager
async def opened(
    options: ApiOptions | None = None, *, store: Transport | None = None, forgets: bool = False
) -> AsyncIterator[Scene]:
    async with anyio.create_task_group() as group:
        scene = Scene(store or MemoryTransport(), group, options, forgets=forgets)
        await scene.start()
        yield scene
    assert scene.faults == []
    assert len(scene.app.state.streams) == 0
    assert scene.held == NONE


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages and windows of a few records."""
    monkeypatch.setattr(channel_module, "PAGE", 3)
    monkeypatch.setattr(channel_module, "WINDOW_BYTES", 1500)
    monkeypatch.setattr(channel_module, "SHARE_BYTES", 700)
    return iter(())


READERS = 4
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 9)),
        st.tuples(st.sampled_from(["join", "leave", "stall", "take"]), st.integers(0, READERS - 1)),
        st.tuples(st.just("wait"), st.sampled_from([0, 0, 1, 20, 100])),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, forgets=st.booleans(), at_once=st.booleans())
@example(
    actions=[("join", 0), ("join", 1), ("wait", 0), ("leave", 0), ("say", 2), ("wait", 0)], forgets=True, at_once=True
)
@example(
    actions=[("join", 0), ("wait", 0), ("stall", 0), ("say", 9), ("say", 9), ("join", 1), ("wait", 0), ("take", 0)],
    forgets=False,
    at_once=False,
)
@example(
    actions=[("join", 0), ("wait", 0), ("say", 1), ("stall", 0), ("say", 1), ("wait", 0), ("say", 1), ("take", 0)],
    forgets=False,
    at_once=True,
)
async def test_every_reader_gets_every_record_once_whatever_the_others_do(
    small: None, actions: Any, forgets: bool, at_once: bool
) -> None:
    """Law 2: joins, leaves, readers that take nothing for a while or so long that they are cut."""
    async with opened(forgets=forgets) as scene:
        readers = [scene.absent(at_once=at_once) for _ in range(READERS)]
        following = [False] * READERS

        async def follow(number: int) -> None:
            await readers[number].follow()
            following[number] = False

        for action, what in actions:
            match action:
                case "say":
                    await scene.say(*("word" for _ in range(what)))
                case "join" if not following[what]:
                    following[what] = True
                    scene.group.start_soon(follow, what)
                case "leave":
                    readers[what].leave()
                    readers[what].takes.set()
                case "stall":
                    readers[what].stall()
                case "take":
                    readers[what].takes.set()
                case "wait":
                    await anyio.sleep(what)
        await scene.complete()
        for reader in readers:
            reader.leave()
            reader.takes.set()
        await anyio.sleep(1)
        assert following == [False] * READERS
        for reader in readers:
            if reader.cursor < scene.written:
                await reader.follow()
        assert [reader.cursor for reader in readers] == [scene.written] * READERS
        assert all(reader.ended for reader in readers)


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_thousand_readers_read_the_store_as_often_as_one(forgets: bool) -> None:
    async def reads(count: int) -> int:
        async with opened(forgets=forgets) as scene:
            readers = [scene.reader() for _ in range(count)]
            await anyio.sleep(1)
            scene.store.reads = 0
            for word in ("a", "b", "c"):
                await scene.say(word)
                await anyio.sleep(0.1)
            assert {reader.cursor for reader in readers} == {scene.written}
            made: int = scene.store.reads
            await scene.complete()
        return made

    assert await reads(1000) == await reads(1)


@pytest.mark.parametrize("path", ["events", "output"])
async def test_who_takes_what_is_new_at_once_is_not_woken_for_it(path: str) -> None:
    """Also beyond one turn of the loop; for the end of the run it is."""
    async with opened() as scene:
        readers = [scene.reader(path, at_once=True) for _ in range(2 * SLICE + 1)]
        await anyio.sleep(1)
        woken = [reader.woken for reader in readers]
        for words in (1, 3, 1):
            await scene.say(*["word"] * words)
            await anyio.sleep(1)
            assert {reader.cursor for reader in readers} == {scene.written}
        assert [reader.woken for reader in readers] == woken
        await scene.complete()
        await anyio.sleep(1)
        assert all(reader.ended for reader in readers)


async def test_who_does_not_take_it_at_once_gets_all_of_it_later() -> None:
    """More than a chunk, too: what was told and not sent is sent first, in order."""
    async with opened() as scene:
        reader = scene.reader(at_once=True)
        await anyio.sleep(1)
        reader.stall()
        await scene.say("first")
        await anyio.sleep(1)
        await scene.say("second")
        await anyio.sleep(1)
        assert reader.cursor == 3
        reader.takes.set()
        await anyio.sleep(1)
        assert reader.cursor == scene.written
        await scene.say(*["word" * 10_000] * 5)
        await anyio.sleep(1)
        assert reader.cursor == scene.written
        assert max(map(len, reader.chunks)) < 2 * CHUNK_BYTES
        reader.leave()


async def test_who_cannot_be_told_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 11: those who follow the same run go on."""
    tell = Native.tell
    forms: list[Native] = []

    def told(form: Native, batch: Sequence[Framed]) -> Iterable[bytes]:
        if form not in forms:
            forms.append(form)
        if batch[-1].stored.seq == 4 and form is forms[1]:
            raise ValueError("not to be told")
        return tell(form, batch)

    monkeypatch.setattr(Native, "tell", told)
    async with opened() as scene:
        readers = [scene.reader(at_once=True) for _ in range(3)]
        await anyio.sleep(1)
        await scene.say("word")
        await anyio.sleep(1)
        assert [reader.cursor for reader in readers] == [4, 3, 4]
        assert len(scene.app.state.streams) == 2
        await scene.complete()


async def test_readers_get_the_same_bytes_and_not_copies_of_them() -> None:
    """A frame is made once, whether a reader wants all events or the output alone."""
    async with opened() as scene:
        readers = [scene.reader(), scene.reader(), scene.reader("output")]
        await anyio.sleep(1)
        await scene.say("word")
        await anyio.sleep(1)
        assert len({id(reader.chunks[-1]) for reader in readers if reader is not readers[2]}) == 1
        assert readers[2].chunks[-1] is readers[0].chunks[-1]
        for reader in readers:
            reader.leave()


async def test_the_reading_goes_on_when_the_reader_that_it_began_with_leaves() -> None:
    async with opened() as scene:
        readers = [scene.reader() for _ in range(3)]
        for leaver in readers:
            await anyio.sleep(1)
            await scene.say("word")
            await anyio.sleep(1)
            assert leaver.cursor == scene.written
            leaver.leave()


async def test_a_reader_that_takes_nothing_slows_nobody_and_misses_nothing(small: None) -> None:
    """Law 11: the window goes on without it, and it reads on from history."""
    async with opened() as scene:
        slow, quick = scene.reader(), scene.reader()
        await anyio.sleep(1)
        slow.stall()
        for _ in range(50):
            await scene.say("word")
            await anyio.sleep(0.01)
            assert quick.cursor == scene.written
            assert scene.held.records < 10
        assert slow.cursor < 10
        slow.takes.set()
        await anyio.sleep(0.01)
        assert slow.cursor == scene.written
        await scene.complete()


async def test_a_reader_at_the_end_does_not_wait_for_one_in_the_past(small: None) -> None:
    """The first one takes nothing and holds the channel open at an old place; the second one comes long after."""
    async with opened() as scene:
        slow = scene.reader()
        await anyio.sleep(1)
        slow.stall()
        await scene.say("word")
        await anyio.sleep(1)
        await scene.say(*["word"] * 100)
        late = scene.absent()
        late.cursor = scene.written
        scene.store.reads = 0
        scene.group.start_soon(late.follow)
        await anyio.sleep(1)
        assert scene.store.reads <= 3
        scene.store.reads = 0
        await scene.say("word")
        await anyio.sleep(1)
        assert (late.cursor, scene.store.reads) == (scene.written, 1)
        slow.takes.set()
        await anyio.sleep(1)
        assert slow.cursor == scene.written
        await scene.complete()


async def test_what_comes_while_a_reader_is_busy_is_sent_at_once() -> None:
    """One wake-up and one send for all that is due."""
    async with opened() as scene:
        reader = scene.reader()
        await anyio.sleep(1)
        reader.stall()
        await scene.say("first")
        await anyio.sleep(1)
        for _ in range(20):
            await scene.say("word")
            await anyio.sleep(0.01)
        before = len(reader.chunks)
        reader.takes.set()
        await anyio.sleep(1)
        assert reader.cursor == scene.written
        assert len(reader.chunks) == before + 2
        await scene.complete()


async def test_nothing_is_read_that_nobody_waits_for() -> None:
    async with opened() as scene:
        reader = scene.reader()
        await anyio.sleep(1)
        reader.stall()
        await scene.say("word")
        await anyio.sleep(1)
        scene.store.reads = 0
        for _ in range(20):
            await scene.say("word")
            await anyio.sleep(0.1)
        assert scene.store.reads == 0
        reader.takes.set()
        await anyio.sleep(1)
        assert (reader.cursor, scene.store.reads) == (scene.written, 1)
        await scene.complete()


async def test_who_comes_back_to_a_long_log_does_not_read_its_past(small: None) -> None:
    async with opened() as scene:
        await scene.say(*["word"] * 100)
        scene.store.reads = 0
        reader = scene.absent()
        reader.cursor = scene.written - 1
        scene.group.start_soon(reader.follow)
        await anyio.sleep(1)
        assert reader.cursor == scene.written
        assert scene.store.reads <= 3
        await scene.complete()


async def test_those_who_come_back_together_share_one_reading() -> None:
    """As after a restart: all of them have nearly all of it, none of them the same."""
    async with opened() as scene:
        await scene.say(*["word"] * 1000)
        scene.store.reads = 0
        readers = [scene.absent() for _ in range(50)]
        for behind, reader in enumerate(readers):
            reader.cursor = scene.written - behind
            scene.group.start_soon(reader.follow)
        await anyio.sleep(1)
        assert {reader.cursor for reader in readers} == {scene.written}
        assert scene.store.reads <= 5
        await scene.complete()


async def test_the_past_costs_no_memory(small: None) -> None:
    """A reader that begins at the beginning of a long log is not what the window is for."""
    async with opened() as scene:
        await scene.say(*["word"] * 500)
        reader = scene.reader()
        await anyio.sleep(1)
        assert reader.cursor == scene.written
        assert scene.held.records <= 6
        reader.leave()


async def test_who_comes_after_a_store_was_away_does_not_hear_of_it() -> None:
    """Though somebody who takes nothing still holds on to what broke then."""
    async with opened() as scene:
        slow, quick = scene.reader(), scene.reader()
        await anyio.sleep(1)
        slow.stall()
        await scene.say("word")
        await anyio.sleep(1)
        scene.store.gone = True
        await scene.say("lost")
        await anyio.sleep(10)
        assert quick.cursor == scene.written - 1
        scene.store.gone = False
        again = scene.reader()
        await anyio.sleep(1)
        assert again.cursor == scene.written
        slow.takes.set()
        await scene.complete()


async def test_a_client_has_its_share_of_streams_and_no_more() -> None:
    """It is told so by a problem; what it has open goes on, and a place that it leaves is its own again."""
    async with opened(ApiOptions(max_client_streams=2)) as scene:
        first, second = scene.reader(), scene.reader()
        await anyio.sleep(1)
        third = scene.absent()
        await third.follow()
        assert (third.status, b"max_client_streams" in third.chunks[0]) == (429, True)
        first.leave()
        await anyio.sleep(1)
        scene.group.start_soon(third.follow)
        await anyio.sleep(1)
        assert third.status == 200
        await scene.complete()
    assert second.ended
    assert third.ended


async def test_the_last_words_reach_every_reader_at_once() -> None:
    """However many there are, draining takes one turn and no time."""
    async with opened() as scene:
        readers = [scene.reader() for _ in range(300)]
        await anyio.sleep(1)
        scene.app.state.streams.drain()
        began = asyncio.get_running_loop().time()
        while len(scene.app.state.streams):
            await anyio.lowlevel.checkpoint()
        assert asyncio.get_running_loop().time() == began
    assert all(b"server-shutdown" in reader.chunks[-1] for reader in readers)


# --- stores that can lose the end of a log


class Lossy(MemoryTransport):
    """A store in which a log's end can be lost, and other records written in its place."""

    def cut(self, run_id: str, seq: int, *others: str, hint: bool) -> None:
        log = self._logs[run_id][:seq]
        for word in others:
            entry = encode(OutputDelta(step="write", attempt=1, text=word))
            log.append(Stored(len(log) + 1, 1.0, entry.kind, entry.body))
        self._logs[run_id] = log
        self._runs[run_id] = msgspec.structs.replace(self._runs[run_id], seq=len(log))
        if hint:
            self._board.hint((log_topic(run_id),))


async def test_those_who_have_records_that_were_lost_are_told_and_nobody_else() -> None:
    """Who comes anew reads the log as it is now, though a reader of the old one still holds on to it."""
    store = Lossy()
    async with opened(store=store, forgets=True) as scene:
        slow, quick = scene.reader(), scene.reader()
        await anyio.sleep(1)
        slow.stall()
        await scene.say("a", "b", "c")
        await anyio.sleep(1)
        assert quick.cursor == 6
        quick.leave()
        await anyio.sleep(1)
        store.cut(scene.run_id, 4, "x", "y", "z", hint=False)
        fresh, old = scene.reader(), scene.absent()
        old.cursor, old.mark = quick.cursor, quick.mark
        await old.follow()
        assert old.status == 410
        await anyio.sleep(1)
        assert (fresh.cursor, fresh.problem) == (7, False)
        assert b'"text":"x"' in b"".join(fresh.chunks)
        assert b'"text":"b"' not in b"".join(fresh.chunks)
        slow.takes.set()
        await anyio.sleep(10)
        assert slow.problem
        assert not fresh.problem
        fresh.leave()


async def test_readers_that_are_there_when_records_are_lost_are_told() -> None:
    store = Lossy()
    async with opened(store=store, forgets=True) as scene:
        readers = [scene.reader(), scene.reader()]
        await anyio.sleep(1)
        await scene.say("a", "b")
        await anyio.sleep(1)
        store.cut(scene.run_id, 4, "x", "y", "z", hint=True)
        await anyio.sleep(1)
        assert [(reader.problem, reader.cursor) for reader in readers] == [(True, 5)] * 2


async def test_a_reader_of_the_log_as_it_is_gets_nothing_out_of_a_window_of_the_log_as_it_was(small: None) -> None:
    """It reads history, comes to where the window would begin, and what it has is not what the window goes on from."""
    store = Lossy()
    async with opened(store=store, forgets=True) as scene:
        slow, quick = scene.reader(), scene.reader()
        await anyio.sleep(1)
        slow.stall()
        for _ in range(17):
            await scene.say("old")
            await anyio.sleep(0.01)
        quick.stall()
        await scene.say("old")
        await anyio.sleep(0.01)
        assert (quick.cursor, scene.held.readers) == (20, 2)
        store.cut(scene.run_id, 10, *["new"] * 9, hint=False)
        slow.takes.set()
        await anyio.sleep(0.01)
        assert (slow.cursor, slow.problem) == (19, True)
        assert b"".join(slow.chunks).count(b'"text":"new"') == 9
        quick.takes.set()
        await anyio.sleep(10)
        assert quick.problem
