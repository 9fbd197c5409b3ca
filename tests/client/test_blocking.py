"""The client for code that is not async: the same calls, blocking, against a server in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from greenroom import Runtime, component, emit, workflow
from greenroom.client import Client, NoResult, RunInfo, Shown

from ..http.conftest import served


@component
async def write(topic: str) -> str:
    """Write."""
    if not topic:
        raise ValueError("no topic")
    for word in (topic, " is", " hot"):
        await emit(word)
    return topic


@workflow
async def newsroom(topic: str) -> str:
    """Write."""
    return await write(topic)


@pytest.fixture
def url() -> Iterator[str]:
    runtime = Runtime(newsroom, store="memory://")

    async def app() -> Any:
        return served(runtime.asgi())

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(runtime):

        async def worker() -> Any:
            return runtime.worker()

        with (
            portal.wrap_async_context_manager(portal.call(worker)),
            portal.wrap_async_context_manager(portal.call(app)) as url,
        ):
            yield url


@pytest.mark.slow
def test_calls_block_and_streams_are_iterators(url: str) -> None:
    with Client.blocking(url) as client:
        run = client.start("newsroom", {"topic": "tea"})
        pieces = list(run.text_stream())
        assert all(isinstance(piece, Shown) for piece in pieces)
        assert pieces[-1].text == run.output() == "tea is hot"
        assert run.result(timeout=30) == "tea"
        assert [event.seq for event in run.events()] == list(range(1, run.view().seq + 1))
        assert [info.id for info in client.runs()] == [run.id]
        assert client.run(run.id).result() == "tea"
        assert isinstance(run.info, RunInfo)
        assert {"start", "runs"} <= set(dir(client))
        assert repr(run) == f"Blocking(RemoteRun({run.id!r}))"


@pytest.mark.slow
def test_errors_come_through_and_a_stream_can_be_left(url: str) -> None:
    with Client.blocking(url) as client:
        run = client.start("newsroom", {"topic": ""})
        with pytest.raises(NoResult, match="no topic"):
            run.result(timeout=60)
        stream = run.events()
        assert next(stream).kind == "run.queued"
        stream.close()
        with pytest.raises(AttributeError, match="nothing"):
            _ = client.nothing
