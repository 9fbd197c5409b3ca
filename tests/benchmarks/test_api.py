"""The benchmark of the API: its readers see what comes and when, and its ratios compare what they name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from benchmarks.api import (
    ANSWERS,
    CPU_ONE,
    CREATED,
    DRAIN,
    FANOUT,
    IDLE,
    REDIS,
    ROWS,
    SATURATED,
    SHARED,
    SQLITE,
    TAKEN,
    ratios,
)
from benchmarks.api.calls import created
from benchmarks.api.cores import cores, placed
from benchmarks.api.fanout import at
from benchmarks.api.processes import process
from benchmarks.api.wire import Reader, Story, at_once, caller, get
from benchmarks.report import Row

ANSWER = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(*ids: int) -> bytes:
    body = b"".join(b"id: %d\nevent: output.delta\ndata: {}\n\n" % n for n in ids)
    return b"%x\r\n%b\r\n" % (len(body), body)


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[int]:
    """Answer each request on a connection with the next of these; the port."""

    open_now = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            for text in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(text)
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            open_now -= 1

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        while open_now:  # noqa: ASYNC110 - it is the callers who hang up
            await asyncio.sleep(0)


def test_a_reader_sees_each_record_once_however_its_bytes_are_cut() -> None:
    sent = HEAD + chunk(1) + chunk(2, 3) + chunk(4).replace(b"id: 4", b"id: 4-5f3a91c2")
    for size in (1, 7, 30, len(sent)):
        story = Story()
        reader = Reader(story, b"")
        for start in range(0, len(sent), size):
            reader.data_received(sent[start : start + size])
        assert (reader.cursor, story.delivered, story.faults) == (4, 4, [])


def test_a_reader_tells_what_it_should_not_have_seen() -> None:
    for sent in (HEAD + chunk(1, 3), HEAD + chunk(1) + chunk(1), ANSWER % (b"503 Busy", 2, b"{}")):
        story = Story()
        Reader(story, b"").data_received(sent)
        assert len(story.faults) == 1


def test_a_latency_is_of_a_record_whose_append_is_known() -> None:
    story = Story()
    story.appended[2] = 1.0
    story.deliver(1, 1.5)
    story.deliver(2, 1.5)
    assert (story.delivered, story.latencies) == (2, [0.5])


async def test_a_caller_takes_one_answer_after_the_other() -> None:
    async with serving(ANSWER % (b"200 OK", 2, b"{}"), ANSWER % (b"404 Not Found", 0, b"")) as port:
        calling = await caller(port)
        assert await calling.call(get("/a")) == (200, b"{}")
        assert await calling.call(get("/b")) == (404, b"")
        calling.close()


async def test_what_is_not_accepted_is_not_counted_as_created() -> None:
    async with serving(*[ANSWER % (b"422 Unprocessable", 2, b"{}")] * 9) as port:
        with pytest.raises(ExceptionGroup, match="unhandled"):
            await created(port, "/v1/workflows/told/runs", 0.1)


async def test_so_many_are_done_and_never_more_at_once() -> None:
    now, most, done = 0, 0, []

    async def each(number: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        done.append(number)

    await at_once(20, each, 3)
    assert (sorted(done), most) == (list(range(20)), 3)


def test_a_quantile_is_a_sample() -> None:
    assert [at([1.0, 2.0, 3.0, 4.0], q) for q in (0.0, 0.5, 0.75, 0.99)] == [1.0, 2.0, 3.0, 4.0]


def test_a_ratio_is_of_figures_that_are_there() -> None:
    rows = (
        Row(CREATED, SQLITE, 1500.0, "runs/s"),
        Row(CREATED, ROWS, 1000.0, "runs/s"),
        Row(DRAIN.format(1000), SQLITE, 0.5, "s"),
        Row(ANSWERS.format(IDLE), REDIS, 2.0, "ms"),
        Row(ANSWERS.format(TAKEN), REDIS, 2.5, "ms"),
        Row(ANSWERS.format(SATURATED), REDIS, 3.0, "ms"),
        Row(ANSWERS.format(IDLE) + SHARED, REDIS, 2.0, "ms"),
        Row(ANSWERS.format(SATURATED) + SHARED, REDIS, 8.0, "ms"),
        Row(CPU_ONE, FANOUT, 30.0, "us"),
    )
    assert ratios(rows) == {
        "runs_created_per_s_sqlite": 1500.0,
        "runs_created_sqlite/starlette_row": 1.5,
        "sse_drain_s": 0.5,
        "api_p99_full/idle": 1.25,
        "api_p99_saturated/idle": 1.5,
        "api_p99_saturated/idle_shared_cores": 4.0,
    }


@pytest.mark.skipif(cores() is None, reason="needs two cores, and a system that gives them out")
def test_each_layer_has_its_core_and_the_load_gives_its_own_back() -> None:
    where = cores()
    assert where is not None
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        api, worker = (stack.enter_context(process("-c", "import time; time.sleep(60)")).pid for _ in range(2))
        with placed(where, api=api, worker=worker, store="sqlite:///x.db"):
            assert [os.sched_getaffinity(pid) for pid in (0, api, worker)] == [{where.api}, {where.api}, {where.worker}]
            assert (os.sched_getscheduler(worker) == os.SCHED_IDLE) is (where.store == where.worker)
        assert os.sched_getaffinity(0) == before
    assert where.api != where.worker
