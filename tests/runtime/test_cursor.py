"""Cursors: what they say, and readers of a log that was cut back and went on without its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from greenroom.runtime.cursor import Cursor, cursor_at, mark_of, read_cursor
from greenroom.runtime.errors import CursorAhead, LogCutBack
from greenroom.runtime.runs import Runs
from greenroom.testing import virtual_backend
from greenroom.transports import Entry, Lane, MemoryTransport, NewRun, Stored, log_topic

TERM = Entry("run.completed", b"{}")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


class Lossy(MemoryTransport):
    """A store that can lose the end of a log, as a failover does. Its clock stands still: time tells nothing apart."""

    forgets = True

    def cut(self, run_id: str, seq: int, *others: bytes) -> None:
        """Lose what is behind `seq`; others are written in its place, before any reader looks."""
        self._logs[run_id] = self._logs[run_id][:seq]
        for body in others:
            self._logs[run_id].append(Stored(len(self._logs[run_id]) + 1, self._clock(), "k", body))
        self._runs[run_id] = replace(self._runs[run_id], seq=len(self._logs[run_id]))
        self._board.hint((log_topic(run_id),))


@pytest.fixture
async def store() -> Lossy:
    store = Lossy(clock=lambda: 1.0)
    entries = tuple(Entry("k", b"%d" % n) for n in range(1, 6))
    await store.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=entries))
    return store


def tail(store: MemoryTransport, after: int | Cursor) -> aclosing[AsyncGenerator[Sequence[Stored]]]:
    return aclosing(cast("AsyncGenerator[Sequence[Stored]]", Runs(store, {}).tail("r", after)))


async def seqs(batches: AsyncIterator[Sequence[Stored]]) -> list[int]:
    return [stored.seq for stored in await anext(batches)]


# --- what they say


@given(st.integers(0, 10**15 - 1), st.sampled_from(["", "00000000", "5f3a91c2"]))
def test_a_cursor_is_read_as_it_was_written(seq: int, mark: str) -> None:
    assert read_cursor(str(Cursor(seq, mark))) == Cursor(seq, mark)


def test_a_cursor_without_a_mark_is_a_plain_number() -> None:
    assert str(Cursor(64)) == "64"
    assert read_cursor("64") == Cursor(64)


@pytest.mark.parametrize("text", ["", "x", "-1", "1-", "1-5f3a91c", "1-5f3a91c20", "1-5F3A91C2", "1.5", "9" * 17, "٣"])
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert read_cursor(text) is None


@given(st.data())
def test_records_that_differ_in_anything_have_other_marks(data: st.DataObject) -> None:
    records = st.builds(Stored, st.just(7), st.floats(0, 2e9), st.text(max_size=5), st.binary(max_size=20))
    one, other = data.draw(records), data.draw(records)
    assert (mark_of(one) == mark_of(other)) == (one == other)
    assert cursor_at(one, marked=True).behind(other) == (one == other)
    assert cursor_at(one, marked=False).behind(other)


# --- readers


async def test_a_reader_that_was_away_is_told_that_its_last_record_is_another_one(store: Lossy) -> None:
    (stored,) = await store.read("r", 3, 1)
    cursor = cursor_at(stored, marked=True)
    store.cut("r", 2, b"x", b"y", b"z", b"4")
    async with tail(store, cursor) as batches:
        with pytest.raises(LogCutBack, match=r"record 4 of run r is not the one that was read: .* read again from 0"):
            await anext(batches)


async def test_a_reader_whose_records_are_all_there_reads_on(store: Lossy) -> None:
    (stored,) = await store.read("r", 1, 1)
    store.cut("r", 2, b"x", b"y")
    async with tail(store, cursor_at(stored, marked=True)) as batches:
        assert await seqs(batches) == [3, 4]


async def test_a_plain_number_reads_on_as_it_always_did(store: Lossy) -> None:
    store.cut("r", 2, b"x", b"y", b"z", b"4")
    async with tail(store, 4) as batches:
        assert await seqs(batches) == [5, 6]


@pytest.mark.parametrize("after", [0, 3, 5])
async def test_a_reader_that_is_there_is_told_too(store: Lossy, after: int) -> None:
    """Whatever it began with, and though it looks only after the log has grown beyond what it has."""
    told: list[str] = []

    async def follow() -> None:
        async with tail(store, after) as batches:
            try:
                async for _ in batches:
                    pass
            except LogCutBack as error:
                told.append(str(error))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await anyio.sleep(1)
            store.cut("r", 4, b"x", b"y")
    assert told == [str(LogCutBack("r", 5))]


async def test_a_log_that_is_shorter_than_what_was_read_is_said_to_be(store: Lossy) -> None:
    async with tail(store, 0) as batches:
        assert await seqs(batches) == [1, 2, 3, 4, 5]
        store.cut("r", 2)
        with pytest.raises(CursorAhead):
            await anext(batches)


async def test_where_nothing_is_lost_nothing_is_read_twice() -> None:
    reads: list[int] = []

    class Counted(MemoryTransport):
        async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
            reads.append(after)
            return await super().read(run_id, after, limit, control=control)

    store = Counted()
    await store.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=(Entry("k", b""), Entry("k", b""))))
    async with tail(store, 1) as batches:
        assert await seqs(batches) == [2]
        await store.post("r", [TERM])
        assert await seqs(batches) == [3]
    assert reads == [1, 2]
