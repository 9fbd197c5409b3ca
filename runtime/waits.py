"""Waiting inside a run: for a time, a signal, a decision, another run.

Why: most of a long run's life is waiting, and waiting must cost nothing. A wait is a step: it is recorded when it
begins and when it ends, so it goes on where it was on whichever worker has the run. While a run has nothing to do but
wait, its worker may give it up (`LiveRun`): what it waits for, and until when, is all that is kept.

Laws kept here: 3 (a wait's result is recorded once; a signal ends one wait), 6 (no child outlives its parent's end).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import anyio
import msgspec

from ..transports import RunEnded, RunNotFound, Transport, digest
from .definitions import Workflow
from .errors import GreenroomError, UnknownWorkflow, WaitTimedOut
from .log import Journal
from .payload import to_json
from .records import (
    ApprovalRequested,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    Event,
    Failure,
    Record,
    TimerSet,
    encode,
)
from .runs import Runs
from .trace import traceparent
from .writer import LogWriter

T = TypeVar("T")

CHILD_LOOK_S = 30.0
"""How long a parent trusts that no notice means that its child goes on, seconds; doubles up to an hour."""


class ChildFailed(GreenroomError):
    """A run that was waited for ended without a result."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Ended(msgspec.Struct, frozen=True):
    """What a wait came to: JSON, and the seq of the control record that it took."""

    result: msgspec.Raw
    taken: int = 0


class Wait(Protocol):
    """Something to wait for."""

    @property
    def kind(self) -> str:
        """Return timer, signal, approval or child."""
        ...

    @property
    def name(self) -> str:
        """What people call it; part of its identity."""
        ...

    @property
    def identity(self) -> bytes:
        """What tells it from other waits of its name."""
        ...

    async def perform(self, step: str, waits: Waits) -> Ended:
        """Wait.

        Raises:
            WaitTimedOut, ChildFailed: there will be no result.
        """
        ...


NOTHING = msgspec.Raw(b"null")


class ForTime(msgspec.Struct, frozen=True):
    """Wait for some seconds."""

    seconds: float
    kind = "timer"
    name = "sleep"

    @property
    def identity(self) -> bytes:
        """Sleeps of equal length are told apart by their order."""
        return to_json(self.seconds, "the seconds of a sleep")

    async def perform(self, step: str, waits: Waits) -> Ended:
        """Wait until the time that was set when the wait began."""
        await waits.until(self.kind, await waits.set_timer(step, self.seconds), lambda: None)
        return Ended(NOTHING)


class ForSignal(msgspec.Struct, frozen=True):
    """Wait for the next signal of a name."""

    signal: str
    timeout_s: float | None
    fallback: msgspec.Raw | None
    kind = "signal"

    @property
    def name(self) -> str:
        """The signal's name."""
        return f"signal.{self.signal}"

    @property
    def identity(self) -> bytes:
        """Waits for one signal are told apart by their order."""
        return b""

    async def perform(self, step: str, waits: Waits) -> Ended:
        """Take the oldest one that nobody took."""

        def oldest() -> tuple[int, msgspec.Raw] | None:
            waiting = waits.journal.signals.get(self.signal)
            if not waiting:
                return None
            seq = min(waiting)
            return seq, waiting.pop(seq)

        due = None if self.timeout_s is None else await waits.set_timer(step, self.timeout_s)
        found = await waits.until(f"signal {self.signal}", due, oldest)
        if found is not None:
            return Ended(found[1], found[0])
        if self.fallback is not None:
            return Ended(self.fallback)
        raise WaitTimedOut(f"no signal {self.signal} came within {self.timeout_s:g} s")


class ForApproval(msgspec.Struct, frozen=True):
    """Ask for a decision and wait for it."""

    approval: str
    question: str
    data: msgspec.Raw
    timeout_s: float | None
    kind = "approval"

    @property
    def name(self) -> str:
        """The approval's name."""
        return f"approval.{self.approval}"

    @property
    def identity(self) -> bytes:
        """Another question or other data is another approval."""
        return self.question.encode() + b"\0" + bytes(self.data)

    async def perform(self, step: str, waits: Waits) -> Ended:
        """Ask once, then wait."""
        due = None if self.timeout_s is None else await waits.set_timer(step, self.timeout_s)
        if step not in waits.journal.asked:
            await waits.write(
                ApprovalRequested(approval=step, name=self.approval, question=self.question, data=self.data)
            )
        found = await waits.until(f"approval {self.approval}", due, lambda: waits.journal.decisions.get(step))
        if found is None:
            raise WaitTimedOut(f"nobody decided on {self.approval} within {self.timeout_s:g} s")
        return Ended(found[1], found[0])


class ForChild(msgspec.Struct, frozen=True):
    """Start a run and wait for its end."""

    workflow: Workflow[Any, Any]
    arguments: bytes
    kind = "child"

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.workflow.name

    @property
    def identity(self) -> bytes:
        """Its arguments."""
        return self.arguments

    async def perform(self, step: str, waits: Waits) -> Ended:
        """Start it, once for ever, and wait."""
        run_id = await waits.start_child(step, self.workflow, self.arguments)
        look_s = CHILD_LOOK_S
        while (view := await waits.view_ended(run_id)) is None:
            due = await waits.transport.now() + look_s
            await waits.until(f"run {run_id}", due, lambda: waits.journal.ended.get(run_id))
            look_s = min(look_s * 2, 3600.0)
        if view.error is not None:
            raise ChildFailed(view.error)
        return Ended(view.result)


class Pending(msgspec.Struct, frozen=True, eq=False):
    """A wait under way. `due` by the store's clock, `at` by the event loop's; infinity: it does not end by itself."""

    what: str
    due: float
    at: float


class Waits:
    """What one run is doing under one lease: how many of its attempts are at work, and what the others wait for.

    Args:
        changed: called when the first thing begins to be at work, or the last one ceases.
    """

    def __init__(
        self,
        *,
        run_id: str,
        tenant: str,
        journal: Journal,
        writer: LogWriter,
        transport: Transport,
        workflows: Mapping[str, Workflow[..., Any]],
        changed: Callable[[], None],
    ) -> None:
        self.run_id = run_id
        self.tenant = tenant
        self.journal = journal
        self.transport = transport
        self.active = 0
        self.pending: set[Pending] = set()
        self._writer = writer
        self._runs = Runs(transport, workflows)
        self._changed = changed
        self._news: anyio.Event | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the block as at work."""
        self.work()
        try:
            yield
        finally:
            self.rest()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Count the block as not at work."""
        self.rest()
        try:
            yield
        finally:
            self.work()

    def work(self) -> None:
        """Something begins to be at work."""
        self.active += 1
        if self.active == 1:
            self._changed()

    def rest(self) -> None:
        """Something ceases to be at work."""
        self.active -= 1
        if self.active == 0:
            self._changed()

    def hear(self) -> None:
        """Control records have come: whoever waits looks again."""
        if self._news is not None:
            self._news.set()
            self._news = None

    @property
    def described(self) -> str:
        """What the run waits for, in words."""
        return ", ".join(sorted({pending.what for pending in self.pending}))

    @property
    def due(self) -> float:
        """When the first wait ends by itself, by the store's clock."""
        return min((pending.due for pending in self.pending), default=math.inf)

    @property
    def at(self) -> float:
        """When the first wait ends by itself, by the event loop's clock."""
        return min((pending.at for pending in self.pending), default=math.inf)

    async def write(self, *records: Record) -> None:
        """Append durably."""
        await self._writer.write(*records)
        for record in records:
            self.journal.apply(Event(0, 0.0, record))

    async def set_timer(self, step: str, seconds: float) -> float:
        """Return when this wait ends; decided and recorded once."""
        due = self.journal.due.get(step)
        if due is None:
            due = await self.transport.now() + seconds
            await self.write(TimerSet(step=step, due=due))
        return due

    async def until(
        self, what: str, due: float | None, look: Callable[[], T | None], *, deadline: float = math.inf
    ) -> T | None:
        """Wait until `look` finds something; None when `due` has come first. At work but for the waiting itself.

        Args:
            what: in words.
            due: by the store's clock; None for as long as it takes.
            look: finds what is waited for in the journal.
            deadline: when whoever waits will be stopped by somebody else: a parked run has to be awake then.
        """
        while (found := look()) is None:
            now = await self.transport.now()
            left = math.inf if due is None else due - now
            if left <= 0:
                return None
            with self._noted(what, now, min(left, deadline - now)), anyio.move_on_after(left):
                self._news = self._news or anyio.Event()
                await self._news.wait()
        return found

    @contextmanager
    def _noted(self, what: str, now: float, left: float) -> Iterator[None]:
        with self.noted(what, now, left), self.resting():
            yield

    @contextmanager
    def noted(self, what: str, now: float, left: float) -> Iterator[None]:
        """Count the block among what the run waits for: until `left` seconds after `now`, by the store's clock."""
        pending = Pending(what, now + left, asyncio.get_running_loop().time() + left)
        self.pending.add(pending)
        try:
            yield
        finally:
            self.pending.discard(pending)

    async def start_child(self, step: str, workflow: Workflow[Any, Any], arguments: bytes) -> str:
        """Start a run of its own, once for ever, and return its id.

        Raises:
            UnknownWorkflow: this worker does not have it.
        """
        run_id = self.journal.children.get(step)
        if run_id is None:
            if workflow.name not in self._runs.workflows:
                raise UnknownWorkflow(workflow.name, self._runs.workflows)
            run_id = digest(f"{self.run_id}/{step}".encode())
            await self.write(ChildStarted(step=step, run_id=run_id, workflow=workflow.name))
        assert self.journal.queued is not None
        await self._runs.start(
            workflow.name,
            arguments,
            run_id=run_id,
            key=f"child/{run_id}",
            parent=self.run_id,
            tenant=self.tenant,
            traceparent=traceparent(self.journal.queued, step),
        )
        return run_id

    async def view_ended(self, run_id: str) -> Any:
        """Return a child that has ended; None while it goes on."""
        view = await self._runs.view(run_id)
        return view if view.run.state.terminal else None

    async def cancel_children(self, why: str) -> None:
        """Cancel what this run started and did not wait for to its end."""
        for run_id in list(self.journal.children.values()):
            await _post(self.transport, run_id, CancelRequested(reason=why))


async def tell_parent(transport: Transport, parent: str, run_id: str) -> None:
    """Give notice of a child's end. If it gets lost, the parent looks by itself in a while."""
    await _post(transport, parent, ChildEnded(run_id=run_id))


async def follow_parent(transport: Transport, parent: str, run_id: str) -> None:
    """Have a run canceled whose parent has ended: a worker that had lost the parent may have started it after that."""
    try:
        ended = (await transport.run(parent)).state.terminal
    except RunNotFound:  # pruned
        ended = True
    if ended:
        await _post(transport, run_id, CancelRequested(reason=f"its parent {parent} has ended"))


async def _post(transport: Transport, run_id: str, record: Record) -> None:
    try:
        await transport.post(run_id, [encode(record)])
    except (RunEnded, RunNotFound):
        return
