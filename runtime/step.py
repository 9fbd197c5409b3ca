"""Steps: what a component's call becomes inside a run.

Why: a call is looked up in the journal; what stands there answers, and everything else is tried under its
policies and recorded before it is returned. The policies decide (`policies.py`), the components' actors
perform (`components.py`), the writer records (`writer.py`): this is the order in which they do.

Laws kept here:
3. A step has at most one recorded result; a recorded step is never executed again.
5. A new attempt first takes back what the dead one had shown.
4. A component starts while the lease is held by this process's own clock too (`Tenure`).
6. A component starts when the store says that no cancel stands unread; the record of it follows (`writer.py`).
The first of the three ways to fail, an error, ends here: `StepFailed` is what the caller sees, live and on
replay alike. Crashes belong to the supervisors, lost workers to the lease.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

import anyio
import msgspec

from ..transports import Lane, Transport, digest
from .components import Components
from .definitions import MISSING, Definition
from .errors import PayloadInvalid, StepFailed, StepTimedOut, WaitTimedOut
from .log import BODY, Journal, identify, identify_by_key
from .payload import to_json
from .records import (
    Failure,
    LLMCall,
    OutputDelta,
    Record,
    Status,
    StepCompleted,
    StepRetrying,
    StepStarted,
)
from .records import StepFailed as StepFailedRecord
from .redaction import redact
from .router.budget import charge
from .tenure import Tenure
from .trace import traceparent
from .waits import ChildFailed, Wait, Waits
from .writer import LogWriter

RESTART = "stream_reset"
"""The code of an error after which a step starts again, without counting it as failed: a stream that broke."""

MOST_RESTARTS = 5


class Attempt:
    """One try of a step, or of the workflow's body: the scope that code inside it sees.

    Attributes:
        actor: the path of who performs it.
        deadline: when its step or run is over at the latest, by the event loop's clock.
        timeout_s: how long the attempt may take once it is performed; None: no bound.
        waiting: the steps that it waits for: while there are any, it is not at work itself.
    """

    __slots__ = (
        "_calls",
        "_steps",
        "actor",
        "attempt",
        "deadline",
        "lane",
        "name",
        "parent",
        "run_id",
        "step",
        "timeout_s",
        "waiting",
    )

    def __init__(
        self,
        steps: Steps,
        step: str,
        attempt: int,
        parent: Attempt | None,
        name: str,
        deadline: float = math.inf,
        timeout_s: float | None = None,
    ) -> None:
        self.run_id = steps.run_id
        self.lane = steps.lane
        self.deadline: float = deadline if parent is None else min(deadline, parent.deadline)
        self.timeout_s = timeout_s
        self.step = step
        self.attempt = attempt
        self.parent = parent
        self.name = name
        self._steps = steps
        self._calls: dict[tuple[str, str], int] = {}
        self.waiting = 0
        self.actor = ""

    @property
    def traceparent(self) -> str:
        """The W3C header that makes requests from here a part of the run's trace."""
        queued = self._steps.journal.queued
        assert queued is not None, "a log begins with run.queued"
        return traceparent(queued, self.step, self.attempt)

    async def call(self, target: Definition[Any, Any], arguments: dict[str, Any], key: str | None) -> Any:
        """Make a call from inside this attempt a step of the run."""
        data = target.encode(arguments)
        fingerprint = digest(data)
        if key is None:
            step, nth = self._identify(target.name, data, fingerprint)
        else:
            step, nth = identify_by_key(self.step, target.name, key), 1
        return await self._steps.take(_Call(self, target, arguments, fingerprint, step, nth))

    async def wait(self, wait: Wait) -> msgspec.Raw:
        """Make a wait from inside this attempt a step of the run."""
        step, nth = self._identify(wait.name, wait.identity, digest(wait.identity))
        return await self._steps.wait(self, wait, step, nth)

    def _identify(self, name: str, data: bytes, fingerprint: str) -> tuple[str, int]:
        call = (name, fingerprint)
        nth = self._calls[call] = self._calls.get(call, 0) + 1
        return identify(self.step, name, data, nth), nth

    async def show(self, record: OutputDelta | Status) -> None:
        """Put a record into the run's stream."""
        if isinstance(record, OutputDelta):
            await self._steps.emit(record)
        elif not self._steps.journal.repeated(record):
            self._steps.writer.note(record)

    def observe(self, call: LLMCall) -> None:
        """Record an LLM call that was made in this attempt."""
        self._steps.writer.note(msgspec.structs.replace(call, step=self.step, attempt=self.attempt))

    def note(self, message: str, data: dict[str, Any]) -> None:
        """Tell readers what this attempt waits for."""
        self._steps.writer.note(Status(step=self.step, message=message, data=msgspec.Raw(to_json(data, "a status"))))

    async def patience(self, why: str, seconds: float) -> None:
        """Wait for what no code here can hurry, such as providers that are all down.

        If the run has nothing else to do it is parked meanwhile. It then goes on with a new attempt of this step,
        which does not count as failed; a short wait goes on in place.
        """
        waits = self._steps.waits
        with waits.noted(why, await waits.transport.now(), seconds):
            self.waiting += 1
            if self.waiting == 1:
                waits.rest()
            try:
                await anyio.sleep(seconds)
            finally:
                self.waiting -= 1
                if self.waiting == 0:
                    waits.work()


class _Call(msgspec.Struct, frozen=True):
    """A call on its way to becoming a step; `digest` is of its arguments."""

    parent: Attempt
    target: Definition[Any, Any]
    arguments: dict[str, Any]
    digest: str
    step: str
    nth: int


class Steps:
    """The steps of one run under one lease. While `draining`, no attempt begins."""

    def __init__(
        self,
        *,
        run_id: str,
        journal: Journal,
        writer: LogWriter,
        components: Components,
        transport: Transport,
        rng: random.Random,
        waits: Waits,
        lane: Lane,
        tenure: Tenure,
    ) -> None:
        self.run_id = run_id
        self.lane = lane
        self.journal = journal
        self.writer = writer
        self.waits = waits
        self.tenure = tenure
        self.replayed = 0
        self.draining = False
        self._components = components
        self._transport = transport
        self._rng = rng
        self._flights: dict[str, asyncio.Future[None] | None] = {}

    async def emit(self, delta: OutputDelta) -> None:
        """Add to the run's output."""
        self.journal.shown[delta.step] = delta.attempt
        await self.writer.show(delta)

    async def take(self, call: _Call) -> Any:
        """Answer a call from the journal, or perform and record it.

        Raises:
            StepFailed: all its attempts failed, now or as recorded.
        """
        if call.step in self._flights:
            await self._board(call.step)
        self._flights[call.step] = None
        try:
            if (spent := self.journal.spent.pop(call.step, None)) is not None:
                charge(*spent)
            answer = self._recorded(call.step, call.target.name)
            if answer is not None:
                return self._decode(call, answer)
            self._begin(call.parent)
            try:
                return await self._perform(call)
            finally:
                self._cease(call.parent)
        finally:
            self._land(call.step)

    async def wait(self, parent: Attempt, wait: Wait, step: str, nth: int) -> msgspec.Raw:
        """Wait, or find in the journal how a wait ended.

        Raises:
            StepFailed: there was no result in time, or the run waited for failed.
        """
        if step in self._flights:
            await self._board(step)
        self._flights[step] = None
        try:
            answer = self._recorded(step, wait.name)
            if answer is not None:
                return answer
            self._begin(parent)
            try:
                return await self._perform_wait(parent, wait, step, nth)
            finally:
                self._cease(parent)
        finally:
            self._land(step)

    async def _perform_wait(self, parent: Attempt, wait: Wait, step: str, nth: int) -> msgspec.Raw:
        if step not in self.journal.attempts:
            started = StepStarted(
                step=step,
                name=wait.name,
                attempt=1,
                scope=parent.step,
                digest=digest(wait.identity),
                nth=nth,
                waits_for=wait.kind,
            )
            self.journal.begin(step, parent.step, 1)
            await self.writer.write(started)
        try:
            ended = await wait.perform(step, self.waits)
        except (WaitTimedOut, ChildFailed) as error:
            failure = error.failure if isinstance(error, ChildFailed) else describe(error, step)
            await self._fail(step, 1, failure, parent)
            raise StepFailed(wait.name, failure) from error
        record = StepCompleted(step=step, attempt=1, result=ended.result, source=wait.kind, taken=ended.taken)
        await self.writer.write(record)
        self.journal.complete(step, ended.result, ended.taken)
        return ended.result

    def _begin(self, parent: Attempt) -> None:
        """A step begins to be at work; so who called it, unless it waits for others too, is not any more."""
        parent.waiting += 1
        if parent.waiting > 1:
            self.waits.work()

    def _cease(self, parent: Attempt) -> None:
        parent.waiting -= 1
        if parent.waiting:
            self.waits.rest()

    async def _board(self, step: str) -> None:
        """Wait until no other call with this identity (by key) is under way: they go one after the other."""
        while step in self._flights:
            landed = self._flights[step] = self._flights[step] or asyncio.get_running_loop().create_future()
            await asyncio.shield(landed)

    def _land(self, step: str) -> None:
        landed = self._flights.pop(step)
        if landed is not None:
            landed.set_result(None)

    def _recorded(self, step: str, name: str) -> msgspec.Raw | None:
        """Answer from the journal.

        Raises:
            StepFailed: that is what stands there.
        """
        answer = self.journal.answer(step)
        if answer is not None:
            self.replayed += 1
            return answer
        failure = self.journal.failures.get(step)
        if failure is not None:
            raise StepFailed(name, failure)
        return None

    async def _fail(self, step: str, attempt: int, failure: Failure, parent: Attempt, *before: Record) -> None:
        await self.writer.write(*before, StepFailedRecord(step=step, attempt=attempt, error=failure))
        if parent.step == BODY:
            self.journal.failures[step] = failure

    def _decode(self, call: _Call, raw: msgspec.Raw) -> Any:
        try:
            return call.target.decode(raw)
        except msgspec.ValidationError as error:
            raise PayloadInvalid(
                f"the recorded result of {call.target.name} does not fit its return type: {error}; "
                "give the changed component another name, or start the run again"
            ) from error

    async def _perform(self, call: _Call) -> Any:
        if call.target.policies.cache is not None:
            cached = await self._transport.cache_get(_cache_key(call))
            if cached is not None:
                return await self._complete(call, await self._open(call), msgspec.Raw(cached), 0.0, "cache")
        total_s = call.target.policies.timeout.total_s
        if total_s is None:
            return await self._try(call, math.inf)
        now = await self._transport.now()
        deadline = self.journal.began.setdefault(call.step, now) + total_s
        with anyio.move_on_after(max(0.0, deadline - now)) as timer:
            return await self._try(call, deadline)
        assert timer.cancelled_caught
        late = StepTimedOut(f"{call.target.name} took longer than {total_s} s in all: raise Timeout.total_s")
        return await self._give_up(call, late)

    async def _try(self, call: _Call, deadline: float) -> Any:
        failed = self.journal.failed_attempts.get(call.step, 0)
        restarts = 0
        while True:
            if (due := self.journal.due.pop(call.step, None)) is not None:
                await self.waits.until(f"{call.target.name} to try again", due, lambda: None, deadline=deadline)
            if self.draining:
                with self.waits.resting():
                    await anyio.sleep_forever()
            ends = math.inf
            if deadline < math.inf:
                ends = asyncio.get_running_loop().time() + deadline - await self._transport.now()
            attempt = await self._open(call, ends)
            began = time.perf_counter()
            try:
                value = await self._components.perform(call.target, call.arguments, attempt)
                raw = msgspec.Raw(to_json(value, f"the result of {call.target.name}"))
            except Exception as caught:
                error = caught
            else:
                if call.target.policies.cache is not None:
                    await self._transport.cache_put(
                        _cache_key(call), bytes(raw), ttl_s=call.target.policies.cache.ttl_s
                    )
                return await self._complete(call, attempt, raw, time.perf_counter() - began, "component")
            if getattr(error, "code", None) == RESTART and restarts < MOST_RESTARTS:
                restarts += 1
                continue
            failed += 1
            delay = call.target.policies.retry.delay(failed, error, self._rng)
            if delay is None:
                return await self._give_up(call, error)
            problem = describe(error, call.step)
            self.writer.note(StepRetrying(step=call.step, attempt=attempt.attempt, error=problem, delay_s=delay))
            await self._pause(call, delay)

    async def _pause(self, call: _Call, delay: float) -> None:
        """Wait between attempts. For a step of the body the run may be parked: its failed attempts are in the log."""
        if call.parent.step == BODY:
            self.journal.due[call.step] = await self._transport.now() + delay
        else:
            await anyio.sleep(delay)

    async def _open(self, call: _Call, deadline: float = math.inf) -> Attempt:
        """Begin the next attempt: take back what the last one had shown, and say so in the log before it runs."""
        number = self.journal.attempts.get(call.step, 0) + 1
        resets = self.journal.take_back(call.step)
        started = StepStarted(
            step=call.step,
            name=call.target.name,
            attempt=number,
            scope=call.parent.step,
            digest=call.digest,
            nth=call.nth,
        )
        self.journal.begin(call.step, call.parent.step, number)
        await self.writer.start(*resets, started, ahead=self.journal.lost_leases > 0)
        if self.tenure.over:
            await self.tenure.held()
        timeout_s = call.target.policies.timeout.attempt_s
        return Attempt(self, call.step, number, call.parent, call.target.name, deadline, timeout_s)

    async def _complete(self, call: _Call, attempt: Attempt, raw: msgspec.Raw, seconds: float, source: str) -> Any:
        value = self._decode(call, raw)
        record = StepCompleted(step=call.step, attempt=attempt.attempt, result=raw, seconds=seconds, source=source)
        await self.writer.write(*self.journal.take_back_inside(call.step), record)
        self.journal.complete(call.step, raw)
        return value

    async def _give_up(self, call: _Call, error: Exception) -> Any:
        """All attempts failed: answer with the fallback if there is one, or record the failure and raise it."""
        step, attempt = call.step, self.journal.attempts.get(call.step, 0)
        records = self.journal.take_back(step)
        fallback = call.target.fallback
        if fallback is not MISSING:
            problem = describe(error, step)
            self.writer.note(*records, StepRetrying(step=step, attempt=attempt, error=problem, delay_s=0.0))
            value = await fallback(**call.arguments) if callable(fallback) else fallback
            raw = msgspec.Raw(to_json(value, f"the fallback of {call.target.name}"))
            scope = Attempt(self, step, attempt, call.parent, call.target.name)
            return await self._complete(call, scope, raw, 0.0, "fallback")
        failure = describe(error, step)
        await self._fail(step, attempt, failure, call.parent, *records)
        raise StepFailed(call.target.name, failure) from error


def _cache_key(call: _Call) -> str:
    return f"step/{call.target.name}/{call.digest}"


def describe(error: BaseException, step: str | None = None) -> Failure:
    """An exception as data, for the log; law 10: without this process's secrets."""
    return Failure(type=type(error).__qualname__, message=redact(str(error)) or type(error).__qualname__, step=step)
