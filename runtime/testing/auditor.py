"""The audit of a whole store: every run's log and row held against the laws, through the transport contract alone.

Why: that runs are durable is a statement about what stands in the store afterwards, whoever wrote it and whatever
happened meanwhile. So it can be checked on any store: after a test, after a crash, on a copy from production. It only
reads, and workers may go on meanwhile: each run is judged as it stood when its row was read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import msgspec

from ...transports import Lane, LaneCount, Run, RunFilter, RunNotFound, RunState, Stored, Transport
from ..records import CancelRequested, ChildStarted, Control, Event, LeaseTaken, RunQueued, StepCompleted, decode
from .laws import Finding, check_run

PAGE = 500
"""Rows, and records, read at once."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, and which laws it breaks: none, if all is well.

    Attributes:
        results: steps with a recorded result.
        takeovers: leases taken from workers that were lost.
        states: how many runs are in each.
    """

    runs: int
    records: int
    results: int
    takeovers: int
    states: dict[str, int]
    findings: tuple[Finding, ...]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Of a run, what other runs have to agree with."""

    run: Run
    parent: str
    canceled: bool
    children: dict[str, str]
    answered: dict[str, int]


async def audit(store: Transport) -> Audit:
    """Read every run of a store, and find what breaks a law.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    accounts: dict[str, Account] = {}
    findings: list[Finding] = []
    records = results = takeovers = 0
    async for run in _rows(store):
        try:
            stored = await _log(store, run)
            control = await _log(store, run, control=True)
        except RunNotFound:  # pruned meanwhile
            continue
        events = [decode(one) for one in stored]
        findings += check_run(run, events)
        if control != [one for one, event in zip(stored, events, strict=True) if isinstance(event.record, Control)]:
            says = "reading the control records alone gives others than reading the log"
            findings.append(Finding(law=2, run_id=run.run_id, seq=0, says=says))
        accounts[run.run_id] = _account(run, events)
        records += len(events)
        results += len(accounts[run.run_id].answered)
        takeovers += sum(event.record.takeover for event in events if isinstance(event.record, LeaseTaken))
    findings += [*_families(accounts), *_keys(accounts), *await _lanes(store)]
    states = Counter(account.run.state.value for account in accounts.values())
    return Audit(
        runs=len(accounts),
        records=records,
        results=results,
        takeovers=takeovers,
        states=dict(sorted(states.items())),
        findings=tuple(findings),
    )


async def _rows(store: Transport) -> AsyncIterator[Run]:
    cursor: str | None = None
    while True:
        page = await store.runs(RunFilter(), cursor=cursor, limit=PAGE)
        for run in page.runs:
            yield run
        cursor = page.next_cursor
        if cursor is None:
            return


async def _log(store: Transport, run: Run, *, control: bool = False) -> list[Stored]:
    """The run's records; if more came since the row was read, those that it knows of."""
    found: list[Stored] = []
    while True:
        page = await store.read(run.run_id, found[-1].seq if found else 0, PAGE, control=control)
        found += page
        if len(page) < PAGE:
            break
    if (await store.run(run.run_id)).seq == run.seq:
        return found
    return [one for one in found if one.seq <= run.seq]


def _account(run: Run, events: Sequence[Event]) -> Account:
    first = events[0].record if events else None
    children = [event.record for event in events if isinstance(event.record, ChildStarted)]
    return Account(
        run=run,
        parent=first.parent if isinstance(first, RunQueued) else "",
        canceled=any(isinstance(event.record, CancelRequested) for event in events),
        children={child.step: child.run_id for child in children},
        answered={event.record.step: event.seq for event in events if isinstance(event.record, StepCompleted)},
    )


def _families(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    """A child's parent knows it; a parent's answer comes from a child that has ended; no child outlives its parent."""
    for run_id, account in accounts.items():
        parent = accounts.get(account.parent)
        if parent is not None and run_id not in parent.children.values():
            says = f"its parent {account.parent} has not started it"
            yield Finding(law=6, run_id=run_id, seq=1, says=says)
        for step, child_id in account.children.items():
            child = accounts.get(child_id)
            if child is None:
                continue  # not begun yet, or pruned
            if child.parent != run_id:
                yield Finding(law=6, run_id=run_id, seq=0, says=f"its child {child_id} has {child.parent!r} for parent")
            if child.run.state.terminal:
                continue
            if step in account.answered:
                says = f"step {step} has a result, and run {child_id}, whose result it is, goes on"
                yield Finding(law=3, run_id=run_id, seq=account.answered[step], says=says)
            elif account.run.state.terminal and not child.canceled:
                says = f"the run has ended, and its child {child_id} goes on uncanceled"
                yield Finding(law=6, run_id=run_id, seq=account.run.seq, says=says)


def _keys(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    runs: dict[str, list[str]] = {}
    for run_id, account in accounts.items():
        if account.run.key is not None:
            runs.setdefault(account.run.key, []).append(run_id)
    for key, several in runs.items():
        if len(several) > 1:
            yield Finding(law=1, run_id=several[0], seq=0, says=f"key {key!r} has {len(several)} runs: {several}")


async def _lanes(store: Transport) -> list[Finding]:
    """The counts that turns are decided by are those of the rows. Looks again while workers change them."""
    for _ in range(3):
        before = await store.lanes()
        rows = [run async for run in _rows(store)]
        if before == await store.lanes() and rows == [run async for run in _rows(store)]:
            return list(_compare(before, rows))
    return []


def _compare(counts: Sequence[LaneCount], rows: Sequence[Run]) -> Iterator[Finding]:
    live = Counter(run.lane for run in rows if not run.state.terminal)
    running = Counter(run.lane for run in rows if run.state is RunState.RUNNING)
    told: dict[Lane, LaneCount] = {count.lane: count for count in counts}
    for lane in sorted({*live, *told}, key=msgspec.structs.astuple):
        count = told.get(lane, LaneCount(lane=lane, live=0, running=0))
        if (count.live, count.running) != (live[lane], running[lane]):
            says = (
                f"{lane} counts {count.live} live runs and {count.running} at work, "
                f"the rows {live[lane]} and {running[lane]}"
            )
            yield Finding(law=1, run_id="", seq=0, says=says)
