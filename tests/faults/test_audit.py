"""The audit finds what it is for: each law broken by hand, through the contract that lets anything be appended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from greenroom.runtime import records as r
from greenroom.runtime.records import Event, Failure, Record, encode
from greenroom.runtime.testing.auditor import audit
from greenroom.runtime.testing.laws import check_run
from greenroom.transports import (
    Claim,
    Finish,
    HandOver,
    Lane,
    LaneCount,
    NewRun,
    Park,
    Run,
    RunState,
    Terms,
    Transport,
    open_transport,
)

ONE = msgspec.Raw(b"1")
TWO = msgspec.Raw(b"2")
LANE = Lane(workflow="flow")
QUEUED = r.RunQueued(workflow="flow", input=msgspec.Raw(b"{}"), run_id="a")
STARTED = r.RunStarted()
ENDED = r.RunCompleted(result=ONE)


def leased(fence: int = 1, *, takeover: bool = False) -> Record:
    return r.LeaseTaken(worker="w", build="b", fence=fence, takeover=takeover)


def began(step: str = "s", attempt: int = 1, *, scope: str = "", name: str = "s") -> Record:
    return r.StepStarted(step=step, name=name, attempt=attempt, scope=scope)


def done(step: str = "s", attempt: int = 1, *, taken: int = 0, result: msgspec.Raw = ONE) -> Record:
    return r.StepCompleted(step=step, attempt=attempt, result=result, taken=taken)


def failed(step: str = "s") -> Record:
    return r.StepFailed(step=step, attempt=1, error=Failure(type="E", message="no"))


def delta(attempt: int = 1, step: str = "s") -> Record:
    return r.OutputDelta(step=step, attempt=attempt, text="t")


def reset(attempt: int = 1, step: str = "s") -> Record:
    return r.OutputReset(step=step, attempt=attempt)


def signal(data: msgspec.Raw = ONE, *, name: str = "go", once: str = "") -> Record:
    return r.SignalReceived(name=name, data=data, id=once)


def resolved(decision: msgspec.Raw = ONE) -> Record:
    return r.ApprovalResolved(approval="s", decision=decision)


PARKED = r.RunParked(waiting_on="signal go")
CANCEL = r.CancelRequested()
CANCELED = r.RunCanceled()
TAKES = began(name="signal.go")
AGAIN = began("t", name="signal.go")
LOST = leased(2, takeover=True)
INNER = r.StepStarted(step="i", name="i", attempt=1, scope="o")
THEN = done("t", taken=2)
IDLE: dict[str, Any] = {"due": None, "owner": None}
APPROVES = began(name="approval.ok")


def row(events: Sequence[Event], **changes: Any) -> Run:
    """The row that fits a log: running, unless its last record ends or parks it."""
    last = events[-1].record
    states = {r.RunCompleted: RunState.COMPLETED, r.RunCanceled: RunState.CANCELED, r.RunFailed: RunState.FAILED}
    state = states.get(type(last), RunState.RUNNING)
    run = Run(
        run_id="a",
        lane=LANE,
        state=state,
        seq=len(events),
        control_seq=max((event.seq for event in events if isinstance(event.record, r.Control)), default=0),
        created=0.0,
        updated=0.0,
        due=None if state.terminal else 9.0,
        owner="w#1" if state is RunState.RUNNING else None,
        fence=9,
        waiting_on=None,
        key=None,
        tags=(),
    )
    return replace(run, **changes)


def log(*records: Record) -> list[Event]:
    return [Event(seq, float(seq), record) for seq, record in enumerate(records, 1)]


GOOD = [
    (QUEUED, leased(), STARTED, began(), delta(), done(), ENDED),
    (QUEUED, leased(), STARTED, began(), delta(), LOST, reset(), began("s", 2), delta(2), done("s", 2), ENDED),
    (QUEUED, signal(), leased(), STARTED, TAKES, done(taken=2), ENDED),
    (QUEUED, leased(), STARTED, APPROVES, resolved(), resolved(TWO), done(taken=5), ENDED),
    (QUEUED, leased(), STARTED, began(), PARKED, signal(), leased(2), done(), ENDED),
    (QUEUED, leased(), STARTED, began(), CANCEL, CANCELED),
    (QUEUED, leased(), began("o"), INNER, failed("i"), began("o", 2), replace(INNER, attempt=2), done("i", 2)),
]  # fmt: skip


@pytest.mark.parametrize("records", GOOD)
def test_a_log_that_keeps_the_laws_has_no_findings(records: Sequence[Record]) -> None:
    events = log(*records)
    assert check_run(row(events), events) == []


BROKEN: list[tuple[int, str, tuple[Record, ...]]] = [
    (2, "does not begin with run.queued", (leased(), STARTED)),
    (2, "run.queued is of run other", (replace(QUEUED, run_id="other"), leased())),
    (2, "a second run.queued", (QUEUED, QUEUED)),
    (2, "a second run.started", (QUEUED, leased(), STARTED, STARTED)),
    (2, "status follows the terminal run.completed", (QUEUED, leased(), ENDED, r.Status(step="", message="m"))),
    (4, "has fence 1 after 2", (QUEUED, leased(2), leased(1, takeover=True))),
    (4, "takeover True, but the worker before had given", (QUEUED, leased(1, takeover=True))),
    (4, "takeover False, but the worker before was lost", (QUEUED, leased(1), leased(2))),
    (4, "step.started was appended under no lease", (QUEUED, began())),
    (4, "step.started was appended under no lease", (QUEUED, leased(), PARKED, began())),
    (3, "step s has a second result", (QUEUED, leased(), began(), done(), done())),
    (3, "step s starts again, its result", (QUEUED, leased(), began(), done(), began("s", 2))),
    (3, "step s starts again, it failed", (QUEUED, leased(), began(), failed(), began("s", 2))),
    (3, "step s has a result, it failed", (QUEUED, leased(), began(), failed(), done())),
    (3, "step s fails, its result stands", (QUEUED, leased(), began(), done(), failed())),
    (3, "starts attempt 1 once more", (QUEUED, leased(), began(), began())),
    (3, "attempt 1 of s has a result, 2 is newest", (QUEUED, leased(), began(), began("s", 2), done())),
    (3, "it never started", (QUEUED, leased(), done())),
    (6, "step s starts after the cancel at 3", (QUEUED, leased(), CANCEL, began())),
    (6, "step.completed after the cancel", (QUEUED, leased(), began(), CANCEL, done())),
    (6, "ends with run.completed after the cancel", (QUEUED, leased(), CANCEL, ENDED)),
    (6, "nobody had asked", (QUEUED, leased(), CANCELED)),
    (5, "attempt 2 of 's' adds to what 1 had shown", (QUEUED, leased(), began(), delta(), began("s", 2), delta(2))),
    (5, "shows more after its result", (QUEUED, leased(), began(), done(), delta())),
    (5, "takes back what 's' had not shown", (QUEUED, leased(), began(), reset())),
    (5, "takes back what 's' had not shown", (QUEUED, leased(), began("s", 2), delta(2), reset(1))),
    (5, "ends with text of attempt 1 of s", (QUEUED, leased(), began(), delta(), ENDED)),
    (3, "record 2 ends t, and had ended s", (QUEUED, signal(), LOST, TAKES, AGAIN, done(taken=2), THEN)),
    (3, "an earlier one counts", (QUEUED, signal(once="x"), signal(once="x"), leased(), TAKES, done(taken=3))),
    (3, "an earlier one counts", (QUEUED, leased(), APPROVES, resolved(), resolved(TWO), done(taken=5, result=TWO))),
    (3, "its result is another", (QUEUED, signal(TWO), leased(), TAKES, done(taken=2))),
    (3, "its result is another", (QUEUED, signal(name="stop"), leased(), TAKES, done(taken=2))),
    (3, "its result is another", (QUEUED, leased(), APPROVES, resolved(TWO), done(taken=4))),
    (3, "is no signal or decision", (QUEUED, leased(), TAKES, done(taken=2))),
    (3, "asked for twice", (QUEUED, leased(), *[r.ApprovalRequested(approval="s", name="ok", question="?")] * 2)),
    (3, "starts a second run", (QUEUED, leased(), *[r.ChildStarted(step="s", run_id="c", workflow="flow")] * 2)),
    (3, "was not started here", (QUEUED, leased(), r.ChildEnded(run_id="c"))),
]  # fmt: skip


@pytest.mark.parametrize(("law", "says", "records"), BROKEN, ids=[says for _, says, _ in BROKEN])
def test_a_broken_law_is_found_in_a_log(law: int, says: str, records: Sequence[Record]) -> None:
    events = log(*records)
    found = check_run(row(events), events)
    assert any(one.law == law and says in one.says for one in found), found


def test_a_gap_in_a_log_is_found() -> None:
    events = [event for event in log(QUEUED, leased(), STARTED, began()) if event.seq != 3]
    assert [(one.law, one.says) for one in check_run(row(events), events)] == [(2, "seq 4 stands where 3 should")]


ROWS: list[tuple[int, str, tuple[Record, ...], dict[str, Any]]] = [
    (2, "the row says 7 records, the log has 2", (QUEUED, leased()), {"seq": 7}),
    (2, "control records go up to 0, the log 2", (QUEUED, signal(), leased()), {"control_seq": 0}),
    (2, "the row is running, the log completed", (QUEUED, leased(), ENDED), {"state": RunState.RUNNING}),
    (2, "the row is completed, the log has no end", (QUEUED, leased()), {"state": RunState.COMPLETED}),
    (2, "the last record of its worker is run.started", (QUEUED, leased(), STARTED), {"state": RunState.WAITING}),
    (4, "the row's fence is 1, the log's 2", (QUEUED, leased(2)), {"fence": 1}),
    (4, "its owner is None", (QUEUED, leased()), {"owner": None}),
    (1, "never due", (QUEUED, leased()), {"due": None}),
    (1, "never due", (QUEUED,), IDLE | {"state": RunState.QUEUED}),
    (1, "still due or owned", (QUEUED, leased(), ENDED), {"due": 1.0}),
    (1, "it sleeps through it", (QUEUED, leased(), PARKED, signal()), IDLE | {"state": RunState.WAITING}),
]  # fmt: skip


@pytest.mark.parametrize(("law", "says", "records", "changes"), ROWS, ids=[says for _, says, _, _ in ROWS])
def test_a_row_that_contradicts_its_log_is_found(
    law: int, says: str, records: Sequence[Record], changes: dict[str, Any]
) -> None:
    events = log(*records)
    found = check_run(row(events, **changes), events)
    assert any(one.law == law and says in one.says for one in found), found


# --- whole stores, written through the contract


@pytest.fixture
async def store() -> AsyncIterator[Transport]:
    async with open_transport("memory://") as transport:
        yield transport


async def begun(store: Transport, run_id: str, *, parent: str = "", key: str | None = None) -> Claim:
    first = replace(QUEUED, run_id=run_id, parent=parent)
    await store.create(NewRun(run_id=run_id, lane=LANE, entries=(encode(first),), key=key))
    (claim,) = await store.claim("w", {"flow": Terms()}, limit=1, lease_s=60)
    await store.append(claim.lease, [encode(leased()), encode(STARTED)])
    return claim


async def says(store: Transport) -> list[tuple[int, str, str]]:
    return [(one.law, one.run_id, one.says) for one in (await audit(store)).findings]


async def test_a_good_store_is_counted_and_has_no_findings(store: Transport) -> None:
    parent, child = await begun(store, "p"), await begun(store, "c", parent="p")
    start = r.ChildStarted(step="s", run_id="c", workflow="flow")
    await store.append(parent.lease, [encode(began()), encode(start)])
    await store.append(child.lease, [encode(ENDED)], Finish(RunState.COMPLETED))
    await store.append(parent.lease, [encode(PARKED)], Park(None, "run c", 0))
    await store.post("p", [encode(r.ChildEnded(run_id="c"))])
    (again,) = await store.claim("w", {"flow": Terms()}, limit=1, lease_s=0.0)
    await store.append(again.lease, [encode(leased(2)), encode(done())])
    (third,) = await store.claim("w", {"flow": Terms()}, limit=1, lease_s=60.0)
    await store.append(third.lease, [encode(leased(3, takeover=True)), encode(ENDED)], Finish(RunState.COMPLETED))
    queued = NewRun(run_id="q", lane=LANE, entries=(encode(replace(QUEUED, run_id="q")),))
    await store.create(queued)
    found = await audit(store)
    assert found.findings == ()
    assert (found.runs, found.records, found.results, found.takeovers) == (3, 16, 1, 1)
    assert found.states == {"completed": 2, "queued": 1}


async def test_a_child_that_outlives_its_parent_is_found(store: Transport) -> None:
    parent = await begun(store, "p")
    await begun(store, "c", parent="p")
    start = r.ChildStarted(step="s", run_id="c", workflow="flow")
    await store.append(parent.lease, [encode(start), encode(ENDED)], Finish(RunState.COMPLETED))
    assert await says(store) == [(6, "p", "the run has ended, and its child c goes on uncanceled")]
    await store.post("c", [encode(CANCEL)])
    assert await says(store) == []


async def test_a_parent_s_result_before_its_child_s_end_is_found(store: Transport) -> None:
    parent = await begun(store, "p")
    await begun(store, "c", parent="p")
    start = r.ChildStarted(step="s", run_id="c", workflow="flow")
    await store.append(parent.lease, [encode(began()), encode(start), encode(done())])
    assert await says(store) == [(3, "p", "step s has a result, and run c, whose result it is, goes on")]


async def test_strangers_in_a_family_are_found(store: Transport) -> None:
    parent = await begun(store, "p")
    await begun(store, "c", parent="p")
    await begun(store, "d")
    await store.append(parent.lease, [encode(r.ChildStarted(step="s", run_id="d", workflow="flow"))])
    assert sorted(await says(store)) == [
        (6, "c", "its parent p has not started it"),
        (6, "p", "its child d has '' for parent"),
    ]


class Lying:
    """A store that tells what is not so."""

    def __init__(self, inner: Transport, **lies: Any) -> None:
        self._inner = inner
        self._lies = lies

    def __getattr__(self, name: str) -> Any:
        if name not in self._lies:
            return getattr(self._inner, name)

        async def lie(*args: Any, **kwargs: Any) -> Any:
            return self._lies[name](await getattr(self._inner, name)(*args, **kwargs), **kwargs)

        return lie


async def test_a_key_of_two_runs_is_found(store: Transport) -> None:
    await begun(store, "a", key="k")
    await begun(store, "b", key="l")
    one_key = lambda page, **_: replace(page, runs=tuple(replace(run, key="k") for run in page.runs))  # noqa: E731
    lying: Any = Lying(store, runs=one_key)
    assert await says(lying) == [(1, "b", "key 'k' has 2 runs: ['b', 'a']")]


async def test_counts_that_are_not_those_of_the_rows_are_found(store: Transport) -> None:
    claim = await begun(store, "a")
    await store.append(claim.lease, [encode(r.RunHandedOver(worker="w"))], HandOver())
    lying: Any = Lying(store, lanes=lambda _: [LaneCount(lane=LANE, live=1, running=1)])
    ((law, run_id, text),) = await says(lying)
    assert (law, run_id) == (1, "")
    assert text.endswith("counts 1 live runs and 1 at work, the rows 1 and 0")


async def test_control_records_that_are_read_apart_are_those_of_the_log(store: Transport) -> None:
    await begun(store, "a")
    await store.post("a", [encode(signal())])
    lying: Any = Lying(store, read=lambda page, control=False: [] if control else page)
    assert await says(lying) == [(2, "a", "reading the control records alone gives others than reading the log")]


async def test_an_audit_reads_stores_larger_than_a_page(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.runtime.testing.auditor.PAGE", 3)
    for number in range(7):
        claim = await begun(store, f"r{number}")
        await store.append(claim.lease, [encode(r.Status(step="", message=str(n))) for n in range(10)])
    found = await audit(store)
    assert (found.runs, found.records, found.findings) == (7, 7 * 13, ())
