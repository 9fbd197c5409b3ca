"""The log writer: an end is decided with all that was read, and loses nothing that was shown before it."""

from __future__ import annotations

import anyio
import msgspec

from greenroom.runtime.appender import Appender
from greenroom.runtime.records import CancelRequested, OutputDelta, RunCompleted, RunParked, encode
from greenroom.runtime.writer import LogWriter
from greenroom.transports import Finish, Lane, NewRun, Park, RunState, Terms
from greenroom.transports.memory import MemoryTransport

DONE = RunCompleted(result=msgspec.Raw(b"1"))
PARKED = RunParked(waiting_on="a signal")


async def leased(store: MemoryTransport) -> LogWriter:
    await store.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=(encode(CancelRequested()),)))
    (claim,) = await store.claim("worker", {"w": Terms()}, limit=1, lease_s=60)
    return LogWriter(store, claim.lease, lambda news: None, Appender(store))


async def test_an_end_that_waits_to_be_written_is_decided_again_when_a_control_record_is_read() -> None:
    """Else a run would be parked behind the cancel that it has just read (law 6)."""
    store = MemoryTransport()
    writer = await leased(store)
    ended: list[bool] = []

    async def end() -> None:
        ended.append(await writer.end(PARKED, to=Park(None, "a signal", 0)))

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        await anyio.wait_all_tasks_blocked()
        await store.post("r", [encode(CancelRequested(reason="enough"))])
        await writer.read_control()
    assert ended == [False]
    assert writer.take() is None


async def test_what_was_shown_before_an_end_that_is_decided_again_is_written_with_it() -> None:
    """Else a reader would lack the last words of a run that has ended (law 5)."""
    store = MemoryTransport()
    writer = await leased(store)
    await writer.show(OutputDelta(step="", attempt=1, text="last words"))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: writer.end(DONE, to=Finish(RunState.COMPLETED)))
        await anyio.wait_all_tasks_blocked()
        await store.post("r", [encode(CancelRequested(reason="late"))])
        await writer.read_control()
        group.start_soon(lambda: writer.end(DONE, to=Finish(RunState.COMPLETED)))
        await anyio.wait_all_tasks_blocked()
        append = writer.take()
        group.cancel_scope.cancel()
    assert append is not None
    assert ([entry.kind for entry in append.entries], append.seen) == (["output.delta", "run.completed"], 2)
