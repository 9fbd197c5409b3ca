"""One run on one worker: the workflow's body over its journal, from claim to the last record of the lease.

Why: this is where a definition becomes durable: the log is read, the code runs over it, the end is appended.

Laws kept here:
1. The body's end, whatever it is, becomes a terminal record; a run that keeps losing workers is ended too.
6. A canceled run stops: its body is canceled, and its writer lets nothing but the end pass.
7. Deadline, cancel and hand-over cancel one scope, which owns everything the body started.
"""

from __future__ import annotations

import asyncio
import enum
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec
import structlog

from ..actors import Mailbox
from ..transports import Claim, Finish, HandOver, Park, RunState, Stored, Transport, control_topic
from .appender import Appender
from .components import Components
from .definitions import Workflow
from .ears import Ears
from .log import BODY, Journal
from .payload import to_json
from .records import (
    Failure,
    LeaseTaken,
    OutputReset,
    Record,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunHandedOver,
    RunParked,
    RunQueued,
    RunStarted,
    RunTimedOut,
    decode,
)
from .step import Attempt, Steps, describe
from .tenure import Tenure
from .waits import Waits, follow_parent, tell_parent
from .writer import LogWriter

log = structlog.get_logger("greenroom.run")

MAX_LOST_LEASES = 20
"""A run that lost this many workers without a result between is ended as failed: it is likely what kills them."""

LOOK_S = 60.0
"""How long a run trusts that no hint means no control record, seconds; the heartbeat looks more often."""

Ending = tuple[Record, RunState]


class Stop(enum.Enum):
    """Why a worker stops a body of its own."""

    CANCEL = "cancel"
    DEADLINE = "deadline"
    PARK = "park"
    HAND_OVER = "hand over"


class Parking(msgspec.Struct, frozen=True):
    """What a run waited for when its body was stopped, and the last control record it had seen then."""

    waiting_on: str
    due: float
    seen: int


class LiveRun:
    """A claimed run. Its actors are `writer`, `body`, and `listen` if it asks for an ear (`ears.py`)."""

    def __init__(
        self,
        *,
        claim: Claim,
        workflows: Mapping[str, Workflow[Any, Any]],
        transport: Transport,
        components: Components,
        worker: str,
        build: str,
        rng: random.Random,
        park_after_s: float,
        held_until: float,
        appender: Appender,
        ears: Ears,
    ) -> None:
        self.claim = claim
        self.run_id = claim.run.run_id
        self.tenure = Tenure(held_until)
        self.journal = Journal()
        self.writer = LogWriter(transport, claim.lease, self._heed, appender)
        self.waits = Waits(
            run_id=self.run_id,
            tenant=claim.run.lane.tenant,
            journal=self.journal,
            writer=self.writer,
            transport=transport,
            workflows=workflows,
            changed=self._consider,
        )
        self.steps = Steps(
            run_id=self.run_id,
            journal=self.journal,
            writer=self.writer,
            components=components,
            transport=transport,
            rng=rng,
            waits=self.waits,
            lane=claim.run.lane,
            tenure=self.tenure,
        )
        self._workflow = workflows[claim.run.workflow]
        self._transport = transport
        self._components = components
        self._worker = worker
        self._build = build
        self._park_after_s = park_after_s
        self._park_timer: asyncio.TimerHandle | None = None
        self._parking: Parking | None = None
        self._stop: Stop | None = None
        self._ears = ears
        self._listens = False
        self._scope = anyio.CancelScope()
        self._loaded = False
        self._ended = False
        self._path = ""

    async def body(self, mailbox: Mailbox[Any]) -> None:
        """Run the actor: read the log, run the workflow's code over it, append how it ended."""
        self._path = mailbox.path
        await self._load()
        self._ears.mind(self.run_id)
        await self._execute()

    async def _execute(self) -> None:
        queued = self.journal.queued
        assert queued is not None, "a log begins with run.queued"
        if queued.parent:
            await follow_parent(self._transport, queued.parent, self.run_id)
        ending: Ending | None = None
        with self._scope:
            root = await self._open()
            left = await self._time_left(queued.timeout_s)
            if left is not None:
                root.deadline = asyncio.get_running_loop().time() + left
            if left is None:
                ending = await self._live(root, queued.input)
            else:
                with anyio.move_on_after(left) as timer:
                    ending = await self._live(root, queued.input)
                if timer.cancelled_caught:
                    self._stop = self._stop or Stop.DEADLINE
        self._keep_awake()
        while not await self._end(ending, queued):
            pass
        if queued.parent and self._ended:
            await tell_parent(self._transport, queued.parent, self.run_id)

    async def listen(self, mailbox: Mailbox[Any]) -> None:
        """Run the actor: read control records when hinted at."""
        self._listens = True
        async with self._transport.watch(control_topic(self.run_id)) as hints:
            while True:
                await self.poke((await self._transport.run(self.run_id)).control_seq)
                await hints.wait(LOOK_S)

    async def poke(self, control_seq: int) -> None:
        """Say that control records stand up to this seq: a hint may have been lost."""
        if self._loaded and control_seq > self.writer.seen:
            await self.writer.read_control()

    def drain(self) -> None:
        """Start no more attempts; give the run up when those under way have ended."""
        self.steps.draining = True
        self._consider()

    def hand_over(self) -> None:
        """Give the run up now; attempts under way will be made again elsewhere."""
        self._interrupt(Stop.HAND_OVER)

    def _consider(self) -> None:
        """Give the run up when there is nothing to do: at once in a drain, else when it has only waited for a while."""
        if self.waits.pending and not self._listens:
            self._listens = True
            self._ears.open(self.run_id)
        if self.waits.active or not (self.waits.pending or self.steps.draining):
            self._keep_awake()
        elif self.steps.draining:
            self._interrupt(Stop.PARK if self.waits.pending else Stop.HAND_OVER)
        elif self._park_timer is None:
            self._park_timer = asyncio.get_running_loop().call_later(self._park_after_s, self._park)

    def _park(self) -> None:
        self._park_timer = None
        soon = asyncio.get_running_loop().time() + self._park_after_s
        if self.waits.pending and self.waits.at > soon:
            self._interrupt(Stop.PARK)

    def _keep_awake(self) -> None:
        if self._park_timer is not None:
            self._park_timer.cancel()
            self._park_timer = None

    async def _load(self) -> None:
        after, page = 0, self.claim.records
        while after < self.claim.run.seq:
            for stored in page or await self._transport.read(self.run_id, after):
                self.journal.apply(decode(stored))
                after = stored.seq
            page = ()
        self.writer.seen = self.journal.control_seq
        self._loaded = True

    async def _open(self) -> Attempt:
        """Append that this worker has the run now, and take back what the body had shown before."""
        journal = self.journal
        opening: list[Record] = [
            LeaseTaken(
                worker=self._worker,
                build=self._build,
                fence=self.claim.lease.fence,
                takeover=journal.leased,
                recorded=journal.recorded,
            )
        ]
        if not journal.started:
            opening.append(RunStarted())
        shown = journal.shown.pop(BODY, None)
        if shown is not None:
            opening.append(OutputReset(step=BODY, attempt=shown))
        await self.writer.begin(*opening)
        number = journal.attempts[BODY] = journal.attempts.get(BODY, 0) + 1
        if journal.cancel is not None:
            self._interrupt(Stop.CANCEL)
        root = Attempt(self.steps, BODY, number, None, self._workflow.name)
        root.actor = self._path
        return root

    def _poisoned(self) -> Ending:
        message = f"{self.journal.lost_leases} workers were lost while they ran it: look into their logs, then retry"
        return RunFailed(error=Failure(type="WorkersLost", message=message)), RunState.FAILED

    async def _time_left(self, timeout_s: float | None) -> float | None:
        if timeout_s is None:
            return None
        return max(0.0, self.journal.created + timeout_s - await self._transport.now())

    async def _live(self, root: Attempt, arguments: msgspec.Raw) -> Ending:
        if self.journal.lost_leases >= MAX_LOST_LEASES:
            return self._poisoned()
        self.waits.work()
        try:
            with self._components.inside(root):
                result = await self._workflow.fn(**self._workflow.parse(bytes(arguments)))
            data = to_json(result, f"the result of workflow {self._workflow.name}")
        except Exception as error:
            log.warning("run failed", run_id=self.run_id, workflow=self._workflow.name, error=describe(error).type)
            return RunFailed(error=describe(error)), RunState.FAILED
        finally:
            self.waits.rest()
        done = RunCompleted(result=msgspec.Raw(data), replayed=self.steps.replayed, unasked=tuple(self.journal.unasked))
        return done, RunState.COMPLETED

    async def _end(self, ending: Ending | None, queued: RunQueued) -> bool:
        """Append the last record; False if a control record came first. A cancel wins over any other end."""
        timeout_s = queued.timeout_s or 0.0
        if self.journal.cancel is not None:
            ending = RunCanceled(reason=self.journal.cancel.reason), RunState.CANCELED
        elif ending is None and self._stop is Stop.DEADLINE:
            ending = RunTimedOut(timeout_s=timeout_s), RunState.TIMED_OUT
        if ending is not None:
            await self.waits.cancel_children(f"its parent {self.run_id} has ended ({ending[1].value})")
            void = self.journal.take_back_inside(BODY) if ending[1] is RunState.COMPLETED else []
            self._ended = await self.writer.end(*void, ending[0], to=Finish(ending[1]))
            return self._ended
        if self._parking is not None:
            due, seen = self._parking.due, self._parking.seen
            if queued.timeout_s is not None:
                due = min(due, self.journal.created + queued.timeout_s)
            if self.journal.control_seq > seen:
                due = self.journal.created  # something came while it was being parked: it is due at once
            record = RunParked(waiting_on=self._parking.waiting_on, due=due if due < math.inf else None)
            return await self.writer.end(record, to=Park(record.due, record.waiting_on, seen))
        return await self.writer.end(RunHandedOver(worker=self._worker), to=HandOver())

    def _heed(self, news: Sequence[Stored]) -> None:
        for stored in news:
            self.journal.apply(decode(stored))
        if self.journal.cancel is not None:
            self._interrupt(Stop.CANCEL)
        self.waits.hear()

    def _interrupt(self, stop: Stop) -> None:
        if self._stop is None and stop is Stop.PARK:
            self._parking = Parking(self.waits.described, self.waits.due, self.journal.control_seq)
        self._stop = self._stop or stop
        self.writer.interrupted = True
        self._scope.cancel()
