"""What a worker does about its own losses, each a regression: a store that is away, leases that end, old news.

On virtual time; `Line` is where the store's answers are held up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import Signal, Timeout, WorkerSettings, Workflow, child, component, emit, sleep, status, workflow
from greenroom.runtime import records as r
from greenroom.runtime.live_run import MAX_LOST_LEASES
from greenroom.runtime.log import BODY, Journal, fold_output
from greenroom.runtime.records import Event, Record
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.auditor import audit
from greenroom.runtime.testing.nodes import Line, ReplyLost
from greenroom.runtime.worker import Worker, open_worker
from greenroom.testing import Fault, FaultKind, FaultPlan, endure, virtual_backend
from greenroom.transports import Lease, RunState, StoreUnavailable, Transport, open_transport

LEASE_S = 3.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@pytest.fixture
async def store() -> AsyncIterator[Transport]:
    async with open_transport("memory://", clock=asyncio.get_running_loop().time) as transport:
        yield transport


@asynccontextmanager
async def working(
    store: Transport, *workflows: Workflow[..., Any], name: str = "w", line: Line | None = None
) -> AsyncIterator[tuple[Runs, Worker]]:
    runs = Runs(store, {one.name: one for one in workflows})
    settings = WorkerSettings(name=name, lease_s=LEASE_S, seed=0, build="test")
    seen = line.store(store) if line else store
    async with open_worker(seen, runs.workflows, settings, RouterConfig(models={})) as worker:
        yield runs, worker


async def log_of(runs: Runs, run_id: str) -> list[Event]:
    return [event async for event in runs.events(run_id)]


def line() -> Line:
    return Line("w", random.Random(0))


# --- a store that is away


@workflow
async def naps() -> str:
    for _ in range(3):
        await sleep(1.0)
    return "rested"


async def test_an_outage_of_the_store_delays_a_run_and_never_fails_it(store: Transport) -> None:
    wire = line()
    async with working(store, naps, line=wire) as (runs, _):
        run, _ = await runs.start("naps", b"{}")
        for _ in range(4):
            await anyio.sleep(0.7)
            wire.down = True
            await anyio.sleep(0.5)
            wire.mend()
        assert await runs.result(run.run_id) == b'"rested"'
    assert (await audit(store)).findings == ()


async def test_a_worker_whose_heartbeat_is_never_answered_gives_its_runs_up(store: Transport) -> None:
    canceled: list[float] = []

    @component
    async def long() -> str:
        try:
            await anyio.sleep(60.0)
        except asyncio.CancelledError:
            canceled.append(anyio.current_time())
            raise
        return "late"

    @workflow
    async def patient() -> str:
        return await long()

    wire = line()
    async with working(store, patient, line=wire) as (runs, worker):
        run, _ = await runs.start("patient", b"{}")
        await anyio.sleep(1.0)
        assert (await store.run(run.run_id)).seq == 4
        wire.hung = True
        await anyio.sleep(4 * LEASE_S)
        assert worker.running == 0
        assert canceled[0] < 3 * LEASE_S
        wire.mend()
        assert await runs.result(run.run_id) == b'"late"'
    assert (await audit(store)).findings == ()


class Slow:
    """A store whose answers to some appends take their time."""

    def __init__(self, inner: Transport, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
        answer = await self._inner.may_append(lease, seen=seen)
        await anyio.sleep(self._seconds)
        return answer

    async def renew(self, leases: Any, **kwargs: Any) -> Any:
        if leases:
            await anyio.sleep_forever()
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_no_component_starts_once_the_lease_may_be_over_by_the_worker_s_own_clock(store: Transport) -> None:
    started: list[float] = []

    @component
    async def call_out() -> int:
        started.append(anyio.current_time())
        return 1

    @workflow
    async def late() -> int:
        return await call_out()

    slow: Any = Slow(store, LEASE_S + 0.2)
    async with working(slow, late) as (runs, _):
        run, _ = await runs.start("late", b"{}")
        await anyio.sleep(LEASE_S + 1.5)
    assert started == []
    async with working(store, late, name="other"):
        assert await runs.result(run.run_id) == b"1"
    assert len(started) == 1


async def test_a_worker_can_drain_and_leave_while_the_store_is_away(store: Transport) -> None:
    wire = line()
    async with working(store, naps, line=wire) as (_, worker):
        wire.down = True
        await worker.drain()
    assert worker.draining


async def test_an_answer_that_was_lost_is_no_reason_to_believe_that_nothing_happened(store: Transport) -> None:
    wire = line()
    async with working(store, naps, line=wire) as (runs, _):
        run, _ = await runs.start("naps", b"{}")
        for _ in range(6):
            wire.to_lose = 1
            await anyio.sleep(1.0)
        assert await runs.result(run.run_id) == b'"rested"'
    assert issubclass(ReplyLost, StoreUnavailable)
    assert (await audit(store)).findings == ()


# --- the same worker again


class Forgetful:
    """A store that says that it has renewed leases, and has not, until one has been claimed again."""

    def __init__(self, inner: Transport) -> None:
        self._inner, self._forgets = inner, True

    async def claim(self, *args: Any, **kwargs: Any) -> Any:
        claims = await self._inner.claim(*args, **kwargs)
        self._forgets = self._forgets and all(claim.run.fence == 1 for claim in claims)
        return claims

    async def renew(self, leases: Any, **kwargs: Any) -> Any:
        return (
            dict.fromkeys((one.run_id for one in leases), 0)
            if self._forgets
            else await self._inner.renew(leases, **kwargs)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_worker_that_claims_its_own_lost_run_begins_it_anew(store: Transport) -> None:
    begun: list[float] = []

    @component
    async def long() -> str:
        begun.append(anyio.current_time())
        await anyio.sleep(10.0)
        return "done"

    @workflow
    async def steady() -> str:
        return await long()

    forgetful: Any = Forgetful(store)
    async with working(forgetful, steady) as (runs, worker):
        run, _ = await runs.start("steady", b"{}")
        assert await runs.result(run.run_id, timeout_s=18.0) == b'"done"'
        assert len(begun) == 2
        await anyio.sleep(LEASE_S)
        assert worker.running == 0
    assert (await audit(store)).findings == ()


@component
async def pace(number: int) -> int:
    await anyio.sleep(0.5)
    return number


@workflow
async def march(paces: int) -> int:
    return sum([await pace(number) for number in range(paces)])


# --- control records


go = Signal("go", str)


@workflow(signals=[go])
async def two_words() -> str:
    first = await go.receive(timeout=30.0, default="none")
    second = await go.receive(timeout=60.0, default="none")
    return f"{first} {second}"


class SlowReads:
    """A store that takes its time to answer what it has read."""

    def __init__(self, inner: Transport, log_s: float, control_s: float) -> None:
        self._inner, self._log_s, self._control_s = inner, log_s, control_s

    async def read(self, *args: Any, control: bool = False, **kwargs: Any) -> Any:
        found = await self._inner.read(*args, control=control, **kwargs)
        await anyio.sleep(self._control_s if control else self._log_s)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(("log_s", "control_s"), [(0.2, 0.5), (1.5, 0.9)], ids=["first look", "heartbeat"])
async def test_a_signal_that_was_taken_is_not_taken_again_by_the_next_worker(
    store: Transport, log_s: float, control_s: float
) -> None:
    """Whoever looks for control records while the log is still being read would find it once more."""
    wire = line()
    with anyio.move_on_after(2.0):
        async with working(store, two_words, line=wire) as (runs, _):
            run, _ = await runs.start("two_words", b"{}")
            await runs.inlets.signal(run.run_id, "go", b'"word"')
            await anyio.sleep(0.5)  # not yet parked
            wire.severed = True
            await anyio.sleep_forever()
    slow: Any = SlowReads(store, log_s, control_s)
    async with working(slow, two_words, name="next") as (runs, _):
        taken_over = await store.now()
        assert await runs.result(run.run_id) == b'"word none"'
    assert await store.now() - taken_over > 30.0, "the next worker did not wait with the signal in its log"
    assert (await audit(store)).findings == ()


def test_a_parked_run_that_is_canceled_ends_under_a_lease_that_its_log_tells_of() -> None:
    for seed in range(1, 16):
        cancel = Fault(kind=FaultKind.CANCEL, at_s=9.0)
        endured = endure(FaultPlan(seed=seed, workers=1, faults=(cancel,)), two_words, [{}])
        endured.check()
        assert endured.runs[0].run.state is RunState.CANCELED


@workflow
async def little() -> str:
    await anyio.sleep(30.0)
    return "done"


@workflow
async def big() -> str:
    return await child(little)


async def test_a_child_that_a_lost_worker_starts_after_its_parent_s_end_is_canceled(store: Transport) -> None:
    async with working(store, big, little) as (runs, _):
        parent, _ = await runs.start("big", b"{}")
        await runs.cancel(parent.run_id)
        assert (await runs.wait(parent.run_id)).run.state is RunState.CANCELED
        orphan, _ = await runs.start("little", b"{}", parent=parent.run_id)
        view = await runs.wait(orphan.run_id, timeout_s=10.0)
        assert view.run.state is RunState.CANCELED
        assert view.error is not None
        assert view.error.message == f"its parent {parent.run_id} has ended"


# --- old news


@workflow
async def talker() -> str:
    await status("one")
    await status("again")
    await status("again")
    await sleep(100.0)
    await status("again")
    await sleep(100.0)
    return "said"


async def test_what_the_body_said_is_not_said_again_when_the_run_goes_on(store: Transport) -> None:
    async with working(store, talker) as (runs, _):
        run, _ = await runs.start("talker", b"{}")
        await runs.wait(run.run_id)
        events = await log_of(runs, run.run_id)
    assert [event.kind for event in events].count("lease.taken") == 3
    assert [e.record.message for e in events if isinstance(e.record, r.Status)] == ["one", "again", "again", "again"]


@component
async def mutter() -> None:
    await emit("never mind ")
    await anyio.sleep(60.0)


@component(timeout=Timeout(attempt_s=2.0), fallback="quiet")
async def outer() -> str:
    await mutter()
    return "loud"


@workflow
async def theatre() -> str:
    await emit("so: ")
    said = await outer()
    with anyio.move_on_after(1.0):
        await mutter()
    await emit(said)
    return said


async def test_text_of_steps_that_came_to_no_result_is_taken_back_by_the_end(store: Transport) -> None:
    async with working(store, theatre) as (runs, _):
        run, _ = await runs.start("theatre", b"{}")
        assert await runs.result(run.run_id) == b'"quiet"'
        events = await log_of(runs, run.run_id)
    assert fold_output(events) == "so: quiet"
    assert (await audit(store)).findings == ()


# --- poison


def journal_of(*records: Record) -> Journal:
    journal = Journal()
    for seq, record in enumerate(records, 1):
        journal.apply(Event(seq, 0.0, record))
    return journal


def test_only_losses_without_a_result_between_make_a_run_poison() -> None:
    lease = r.LeaseTaken(worker="w", build="b", fence=1)
    done = r.StepCompleted(step="s", attempt=1, result=msgspec.Raw(b"1"))
    assert journal_of(*[lease] * 4).lost_leases == 3
    assert journal_of(*[lease] * 4, done, lease, lease).lost_leases == 2
    assert journal_of(r.OutputDelta(step=BODY, attempt=1, text="t"), *[lease] * 3).lost_leases == 2


async def test_a_run_that_loses_every_worker_ends_and_one_that_gets_on_does_not(store: Transport) -> None:
    lost = MAX_LOST_LEASES + 2

    @component
    async def deadly() -> None:
        await anyio.sleep(60.0)

    @workflow
    async def poison() -> None:
        await deadly()

    runs = Runs(store, {"poison": poison, "march": march})
    bad, _ = await runs.start("poison", b"{}")
    good, _ = await runs.start("march", b'{"paces": 50}')
    for number in range(lost):
        wire = line()
        with anyio.move_on_after(1.5):
            async with working(store, poison, march, name=f"w{number}", line=wire):
                await anyio.sleep(1.3)
                wire.severed = True
                await anyio.sleep_forever()
        await anyio.sleep(LEASE_S)
    async with working(store, poison, march):
        view = await runs.wait(bad.run_id)
        assert view.error is not None
        assert view.error.type == "WorkersLost"
        assert (await runs.wait(good.run_id)).run.state is RunState.COMPLETED
    assert (await audit(store)).takeovers >= lost
