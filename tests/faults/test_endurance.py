"""Simulated faults: every boundary, every pair of boundaries, and seeds of everything at once.

A failing seed is printed; GREENROOM_SEED=n runs it alone. GREENROOM_SCHEDULES=n runs more of them.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import structlog

from greenroom import component, emit, sleep, workflow
from greenroom.testing import (
    Endured,
    Fault,
    FaultKind,
    FaultPlan,
    crash_everywhere,
    crash_twice_everywhere,
    draw_faults,
    endure,
    virtual_backend,
)
from greenroom.transports import Append, Lease, RunState
from greenroom.transports.memory import MemoryTransport

from . import orders
from .orders import Bank, charge, fit, go, order, packing, plan

SCHEDULES = int(os.environ.get("GREENROOM_SCHEDULES", "40"))
RUNS = 4


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What workers say of each loss is not looked at here, and is most of the time that a schedule takes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have clients of providers that they never call: loading certificates for each would only take time."""
    known = ssl.create_default_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda *args, **kwargs: known)


@pytest.fixture(autouse=True)
def bank() -> Bank:
    orders.bank = Bank()
    return orders.bank


def seeds() -> list[int]:
    """The one that was asked for, or the first ones."""
    chosen = os.environ.get("GREENROOM_SEED", "")
    return [int(chosen)] if chosen else list(range(1, SCHEDULES + 1))


def survive(fault_plan: FaultPlan) -> Endured:
    """Endure a plan; the laws held, and the bank charged each order once."""
    bank = orders.bank = Bank()
    inputs = [{"number": number} for number in range(RUNS)]
    endured = endure(fault_plan, (order, packing), inputs, signals=[(go, "hello")])
    endured.check()
    for number, view in enumerate(endured.runs):
        charged = bank.charged(view.run.run_id)
        where = f"seed {fault_plan.seed}, {view.run.run_id}"
        assert view.run.state in (RunState.COMPLETED, RunState.CANCELED), f"{where}: {view.error}"
        assert charged in ([], [10 * (3 * number + 3)]), f"{where}: charged {charged}"
        if view.run.state is RunState.COMPLETED:
            assert charged, where
            assert fit(bytes(view.result), number), f"{where}: {view.result!r}"
    return endured


# --- every boundary


@workflow
async def short_order(number: int) -> list[int]:
    parts = await plan(number)
    paid = await charge(sum(parts))
    await sleep(2.0)
    return [*parts, paid]


def once_a_run(bank: Bank) -> bool:
    return set(Counter(key.split("/")[0] for key in bank.charges).values()) == {1}


@pytest.mark.slow
async def test_an_order_survives_the_loss_of_its_worker_at_every_record(bank: Bank) -> None:
    trials = await crash_everywhere((order, packing), 1)
    assert len(trials) > 20
    assert sum(trial.takeovers for trial in trials) > 15
    assert set(Counter(bank.charges).values()) == {60}
    assert once_a_run(bank)
    assert bank.asked.most_common(1)[0][1] == 2  # it was asked again where its answer had not been recorded


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_order_survives_the_loss_of_two_workers_at_every_pair_of_records(bank: Bank) -> None:
    trials = await crash_twice_everywhere(short_order, 1)
    assert len(trials) > 50
    assert {trial.takeovers for trial in trials} >= {0, 1, 2}
    assert once_a_run(bank)
    assert bank.asked.most_common(1)[0][1] == 3


# --- everything at once


@pytest.mark.slow
@pytest.mark.timeout(3600 if SCHEDULES > 100 else 120)
def test_runs_end_and_keep_the_laws_through_any_schedule_of_faults() -> None:
    fired: Counter[FaultKind] = Counter()
    states: Counter[RunState] = Counter()
    takeovers = 0
    for seed in seeds():
        endured = survive(draw_faults(seed, runs=RUNS, within_s=15.0))
        fired.update(endured.fired)
        states.update(view.run.state for view in endured.runs)
        takeovers += endured.audit.takeovers
    print(f"{sum(states.values())} runs, {takeovers} takeovers, {dict(fired)}, {dict(states)}")
    if len(seeds()) >= 40:
        assert all(fired[kind] > 3 for kind in FaultKind), f"a fault never hit anything: {fired}"
        assert states[RunState.COMPLETED] > states[RunState.CANCELED] > 0
        assert takeovers > 10


@pytest.mark.slow
def test_a_seed_brings_the_same_schedule_back() -> None:
    first, again, other = (survive(draw_faults(seed, runs=RUNS)) for seed in (11, 11, 12))
    assert (first.trace, first.virtual_s, first.fired) == (again.trace, again.virtual_s, again.fired)
    assert first.trace != other.trace


# --- single faults, by hand


def at(kind: FaultKind, at_s: float, target: int = 0, for_s: float = 0.0) -> Fault:
    return Fault(kind=kind, at_s=at_s, target=target, for_s=for_s)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FaultKind.KILL, FaultKind.STALL, FaultKind.PARTITION, FaultKind.HANG])
def test_each_worker_is_lost_in_turn_and_its_runs_go_on(kind: FaultKind) -> None:
    faults = [at(kind, 1.0 + 4.0 * n, n % 3, 8.0) for n in range(4)]
    endured = survive(FaultPlan(seed=5, faults=tuple(faults)))
    assert endured.fired[kind] >= 2
    assert endured.audit.takeovers >= 2
    assert all(view.run.state is RunState.COMPLETED for view in endured.runs)


def test_a_store_whose_clock_jumps_loses_nothing() -> None:
    jumps = [at(FaultKind.CLOCK_JUMP, 2.0 + n, for_s=s) for n, s in enumerate((10.0, -10.0, 3600.0, -5.0))]
    endured = survive(FaultPlan(seed=1, faults=tuple(jumps)))
    assert all(view.run.state is RunState.COMPLETED for view in endured.runs)


def test_the_last_worker_that_lives_ends_every_run() -> None:
    kills = [at(FaultKind.KILL, 3.0, worker, 1000.0) for worker in (0, 1)]
    endured = survive(FaultPlan(seed=2, faults=tuple(kills)))
    assert all(view.run.state is RunState.COMPLETED for view in endured.runs)


# --- would it notice?


def unsafe(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> None:
    for name, method in methods.items():
        monkeypatch.setattr(MemoryTransport, name, method)


@component
async def pace(number: int) -> int:
    await emit(f"{number} ")
    await anyio.sleep(0.5)
    return number


@workflow
async def march(paces: int) -> int:
    return sum([await pace(number) for number in range(paces)])


def found_in(count: int) -> set[int]:
    """The laws that plans of stalls and hangs find broken."""
    laws: set[int] = set()
    for seed in range(1, count + 1):
        kinds = (FaultKind.STALL, FaultKind.HANG)
        faults = tuple(at(kinds[n % 2], 3.0 + 2.0 * n, n % 3, 5.0) for n in range(8))
        endured = endure(FaultPlan(seed=seed, faults=faults), march, [{"paces": 30}] * RUNS, within_s=60.0)
        laws |= {finding.law for finding in endured.audit.findings} | ({1} if endured.late else set())
    return laws


def test_a_march_through_stalls_and_hangs_breaks_no_law() -> None:
    assert found_in(4) == set()


@pytest.mark.slow
def test_a_store_without_a_fence_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    append = MemoryTransport._append

    def unfenced(self: MemoryTransport, asked: Append) -> Any:
        run = self._get(asked.lease.run_id)
        if run.owner is not None:
            stolen = Lease(run_id=run.run_id, owner=run.owner, fence=run.fence)
            asked = Append(stolen, asked.entries, asked.to, asked.seen)
        return append(self, asked)

    async def careless(self: MemoryTransport, lease: Lease, *, seen: int) -> bool:
        return True

    unsafe(monkeypatch, _append=unfenced, may_append=careless)
    assert found_in(4) & {2, 3, 4, 5}


@pytest.mark.slow
def test_a_store_that_never_lets_a_lease_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = MemoryTransport.claim

    async def for_ever(self: MemoryTransport, *args: Any, **kwargs: Any) -> Any:
        return await claim(self, *args, **{**kwargs, "lease_s": 1e9})

    async def renew(self: MemoryTransport, leases: Any, *, lease_s: float) -> Any:
        return {lease.run_id: self._runs[lease.run_id].control_seq for lease in leases}

    unsafe(monkeypatch, claim=for_ever, renew=renew)
    kills = tuple(at(FaultKind.KILL, 1.0 + n, n % 3, 2.0) for n in range(5))
    endured = endure(FaultPlan(seed=1, faults=kills), (order, packing), [{"number": 1}] * 3, within_s=30.0)
    assert endured.late
    with pytest.raises(AssertionError, match=r"law 1: run \S+ has not ended\n(?s:.*)seed 1:"):
        endured.check()


def test_plans_are_drawn_from_their_seed() -> None:
    assert draw_faults(7) == draw_faults(7)
    assert draw_faults(7) != draw_faults(8)
    drawn = {fault.kind for seed in range(30) for fault in draw_faults(seed).faults}
    assert drawn == set(FaultKind)
