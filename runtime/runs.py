"""Accepting runs and reading their logs: all that the API layer knows, over a transport and nothing else.

Why: the API never talks to a worker; it only appends and reads. So a run is started, followed, canceled and
inspected the same way from HTTP, the CLI, and code, whichever process executes it.

Laws kept here: 1 (one idempotency key is one run), 2 (history and live come through one cursor), 9 (bad
input is refused before anything is written).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from ..transports import (
    KeyConflict,
    Lane,
    NewRun,
    Run,
    RunFilter,
    RunPage,
    RunState,
    Stored,
    Transport,
    digest,
    end_topic,
    log_topic,
)
from . import records
from .cursor import Cursor, cursor_at
from .definitions import Workflow
from .errors import (
    CursorAhead,
    ForkInvalid,
    InputInvalid,
    LogCutBack,
    RunCanceled,
    RunFailed,
    RunTimedOut,
    UnknownWorkflow,
    WaitTimedOut,
)
from .forks import kept, queued_again
from .inlets import Inlets, history, workflow_of
from .records import (
    NULL,
    CancelRequested,
    Event,
    Failure,
    RunQueued,
    decode,
    encode,
)
from .trace import valid_traceparent

OF = "\x1f"
"""Between a tenant and its idempotency key; it is not printable, so no key that a client sends can hold it."""

POLL_S = 5.0
"""How long a reader trusts that no hint means no record, seconds."""

KNOWN = 1000
"""Runs of which the first record is kept, since it never changes."""

KNOWN_BYTES = 4096
"""The largest first record that is kept."""


NO_REASON = "canceled"
"""What is said of a run that was canceled for no reason."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its readers see it: the row, what it was asked, and how it ended if it did."""

    run: Run
    input: msgspec.Raw
    metadata: dict[str, str]
    timeout_s: float | None
    trace_id: str
    result: msgspec.Raw = NULL
    error: Failure | None = None


class Runs:
    """The runs of some workflows in one transport.

    Args:
        transport: where they are.
        workflows: what can be started.
        tenant: whose runs are started, whatever is asked for; "": anybody's.
    """

    def __init__(self, transport: Transport, workflows: Mapping[str, Workflow[Any, Any]], *, tenant: str = "") -> None:
        self.transport = transport
        self.workflows = workflows
        self.tenant = tenant
        self.inlets = Inlets(transport, workflows)
        self._known: dict[tuple[str, float], RunQueued] = {}

    async def start(
        self,
        workflow: str,
        input: bytes,  # noqa: A002 - the word of the API
        *,
        run_id: str | None = None,
        key: str | None = None,
        tags: tuple[str, ...] = (),
        metadata: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        traceparent: str = "",
        parent: str = "",
        priority: int = 0,
        tenant: str = "",
        delay_s: float = 0.0,
    ) -> tuple[Run, bool]:
        """Accept a run: check its input, write it with its first record; the row, and whether it is new.

        Args:
            workflow: its name.
            input: its arguments, a JSON object.
            run_id: 1 to 100 letters, digits, `_`, `-`, `.`; by default the time and 80 random bits.
            key: idempotency key: the same key and payload give the same run of a tenant for ever.
            tags: labels to filter by.
            metadata: what the caller wants to find again.
            timeout_s: deadline in seconds from now; by default the workflow's own.
            traceparent: a W3C header whose trace to continue; by default a new trace begins.
            parent: the run that starts it, and that is told of its end.
            priority: runs of a higher one are claimed first.
            tenant: runs of one priority are claimed so that tenants have equally many at work.
            delay_s: seconds from now before it may start.

        Raises:
            UnknownWorkflow: no such workflow here.
            InputInvalid: the input or an option does not fit; nothing was written.
            KeyConflict: the key came before with another payload, or the run id exists.
        """
        definition = self.workflows.get(workflow)
        if definition is None:
            raise UnknownWorkflow(workflow, self.workflows)
        arguments = definition.parse(input)
        canonical = definition.encode(arguments)
        if timeout_s is not None and not (timeout_s > 0 and math.isfinite(timeout_s)):
            raise InputInvalid(workflow, "$.timeout_s", f"is {timeout_s}, must be more than 0 seconds")
        if run_id is not None and not valid_id(run_id):
            raise InputInvalid(workflow, "$.run_id", "use 1 to 100 letters, digits, '_', '-' and '.'")
        if traceparent and not valid_traceparent(traceparent):
            raise InputInvalid(workflow, "$.traceparent", "is no W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>")
        if not 0 <= delay_s < math.inf:
            raise InputInvalid(workflow, "$.delay_s", f"is {delay_s}, must be 0 or more seconds")
        run_id = run_id or new_id()
        first = RunQueued(
            workflow=workflow,
            input=msgspec.Raw(canonical),
            run_id=run_id,
            metadata=dict(metadata or {}),
            tags=tags,
            timeout_s=definition.timeout_s if timeout_s is None else timeout_s,
            trace_id=traceparent.split("-")[1] if traceparent else secrets.token_hex(16),
            parent=parent,
            traceparent=traceparent,
        )
        payload = digest(b"\0".join((workflow.encode(), canonical)))
        entry = encode(first)
        new = NewRun(
            run_id=run_id,
            lane=Lane(
                workflow=workflow, priority=priority, tenant=self.tenant or tenant, gate=definition.gate(arguments)
            ),
            entries=(entry,),
            key=key,
            digest=payload,
            tags=tags,
            due=await self.transport.now() + delay_s if delay_s else None,
        )
        run, is_new = await (self.transport.create(new) if parent else self._create(new))
        if is_new:
            self._keep(run, first, len(entry.body))
        return run, is_new

    async def _create(self, new: NewRun) -> tuple[Run, bool]:
        """Create under a key that is the tenant's own: two tenants may use one key."""
        if new.key is None or not new.lane.tenant:
            return await self.transport.create(new)
        stored = f"{new.lane.tenant}{OF}{new.key}"
        try:
            return await self.transport.create(msgspec.structs.replace(new, key=stored))
        except KeyConflict as error:
            raise (KeyConflict(new.key, error.run_id) if error.key == stored else error) from None

    async def queued(self, run: Run) -> RunQueued:
        """What a run was asked: its first record.

        Raises:
            RunNotFound: no such run.
        """
        known = self._known.get((run.run_id, run.created))
        if known is not None:
            return known
        (stored,) = await self.transport.read(run.run_id, 0, 1)
        first = decode(stored).record
        assert isinstance(first, RunQueued)
        self._keep(run, first, len(stored.body))
        return first

    def _keep(self, run: Run, first: RunQueued, size: int) -> None:
        if size <= KNOWN_BYTES:
            self._known[run.run_id, run.created] = first
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]

    async def view(self, run_id: str) -> RunView:
        """A run with its input, and its result or error once it has ended.

        Raises:
            RunNotFound: no such run.
        """
        return await self._view(*await self.transport.end(run_id))

    async def view_of(self, run: Run) -> RunView:
        """The same of a run whose row is known."""
        last = (await self.transport.read(run.run_id, run.seq - 1, 1))[0] if run.state.terminal else None
        return await self._view(run, last)

    async def _view(self, run: Run, end: Stored | None) -> RunView:
        first = await self.queued(run)
        view = RunView(
            run=run,
            input=first.input,
            metadata=first.metadata,
            timeout_s=first.timeout_s,
            trace_id=first.trace_id,
        )
        if end is None:
            return view
        last = decode(end).record
        match last:
            case records.RunCompleted():
                return msgspec.structs.replace(view, result=last.result)
            case records.RunFailed():
                return msgspec.structs.replace(view, error=last.error)
            case records.RunCanceled():
                return msgspec.structs.replace(
                    view, error=Failure(type="RunCanceled", message=last.reason or NO_REASON)
                )
            case records.RunTimedOut():
                late = f"the run took longer than {last.timeout_s:g} s"
                return msgspec.structs.replace(view, error=Failure(type="RunTimedOut", message=late))
            case _:
                return view

    async def list(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        """Runs that match, newest first, a page at a time."""
        return await self.transport.runs(where, cursor=cursor, limit=limit)

    async def tail(self, run_id: str, after: int | Cursor = 0, *, page: int = 500) -> AsyncIterator[Sequence[Stored]]:
        """The log from a cursor on, history and live alike, in batches as they come; ends with the run.

        Raises:
            RunNotFound: no such run.
            CursorAhead: `after` is beyond the log's end, or the store has lost records that were read.
            LogCutBack: it has, and has others in their place.
        """
        run = await self.transport.run(run_id)
        cursor = await self.checked(run, after)
        async with self.transport.watch(log_topic(run_id)) as watch:
            while True:
                batch = await self.behind(run_id, cursor, page)
                if batch:
                    cursor = cursor_at(batch[-1], marked=self.transport.forgets)
                    yield batch
                    if ends(batch[-1]):
                        return
                else:
                    run = await self.transport.run(run_id)
                    if run.seq < cursor.seq:
                        raise CursorAhead(run_id, cursor.seq, run.seq)
                    if run.state.terminal and run.seq <= cursor.seq:
                        return
                if len(batch) < page and (batch or run.seq <= cursor.seq):
                    await watch.wait(POLL_S)

    async def checked(self, run: Run, after: int | Cursor) -> Cursor:
        """Return a cursor of this run's log; marked, where marks matter.

        Raises:
            CursorAhead, LogCutBack: it is not one.
        """
        cursor = after if isinstance(after, Cursor) else Cursor(after)
        if cursor.seq > run.seq:
            raise CursorAhead(run.run_id, cursor.seq, run.seq)
        if not cursor.seq or not (cursor.mark or self.transport.forgets):
            return cursor
        stored = await self.transport.read(run.run_id, cursor.seq - 1, 1)
        if not stored or not cursor.behind(stored[0]):
            raise LogCutBack(run.run_id, cursor.seq)
        return cursor_at(stored[0], marked=True)

    async def behind(self, run_id: str, cursor: Cursor, limit: int) -> Sequence[Stored]:
        """The next records; where marks matter, read together with the one before them, so that none is taken amiss.

        Raises:
            LogCutBack: the one before them is not the cursor's.
        """
        if not (cursor.mark and self.transport.forgets):
            return await self.transport.read(run_id, cursor.seq, limit)
        found = await self.transport.read(run_id, cursor.seq - 1, limit + 1)
        if found and not cursor.behind(found[0]):
            raise LogCutBack(run_id, cursor.seq)
        return found[1:]

    async def events(self, run_id: str, after: int | Cursor = 0) -> AsyncIterator[Event]:
        """`tail`, decoded and one by one."""
        async for batch in self.tail(run_id, after):
            for stored in batch:
                yield decode(stored)

    async def wait(self, run_id: str, timeout_s: float | None = None) -> RunView:
        """Wait until the run has ended.

        Raises:
            WaitTimedOut: it goes on after `timeout_s` seconds.
            RunNotFound: no such run.
        """
        if timeout_s is None:
            return await self._ended(run_id)
        with anyio.move_on_after(timeout_s):
            return await self._ended(run_id)
        raise WaitTimedOut(f"run {run_id} has not ended within {timeout_s} s: it goes on; ask again later")

    async def _ended(self, run_id: str) -> RunView:
        async with self.transport.watch(end_topic(run_id)) as watch:
            while (end := await self.transport.end(run_id))[1] is None:
                await watch.wait(POLL_S)
        return await self._view(*end)

    async def result(self, run_id: str, timeout_s: float | None = None) -> bytes:
        """The run's result as JSON, once it has one.

        Raises:
            RunFailed, RunCanceled, RunTimedOut: it ended without one.
            WaitTimedOut: it goes on after `timeout_s` seconds.
        """
        return outcome(await self.wait(run_id, timeout_s))

    async def cancel(self, run_id: str, reason: str = "") -> Run:
        """Ask a run to stop. It ends `canceled` at its worker's next breath, or when a worker claims it.

        Raises:
            RunEnded: it has ended.
            RunNotFound: no such run.
        """
        return await self.transport.post(run_id, [encode(CancelRequested(reason=reason))])

    async def fork(
        self,
        run_id: str,
        *,
        at: str | None = None,
        input: bytes | None = None,  # noqa: A002 - the word of the API
        key: str | None = None,
    ) -> tuple[Run, bool]:
        """Start a new run with the results that another one had; the row, and whether it is new.

        Steps that are made again have idempotency keys of their own: to whatever is outside they are new.

        Args:
            run_id: the old run, ended or not.
            at: the step to make again, with all that ended after it began; None: keep all results.
            input: other arguments, a JSON object; None: the same.
            key: idempotency key.

        Raises:
            ForkInvalid: it has no such step.
            InputInvalid: the input does not fit; nothing was written.
            RunNotFound, UnknownWorkflow: there is nothing to fork here.
        """
        old = await self.transport.run(run_id)
        definition = workflow_of(old, self.workflows)
        events = [decode(stored) async for page in history(self.transport, old) for stored in page]
        first = events[0].record
        assert isinstance(first, RunQueued)
        arguments = definition.parse(bytes(first.input) if input is None else input)
        canonical = definition.encode(arguments)
        queued = queued_again(
            first,
            run_id=new_id(),
            trace_id=secrets.token_hex(16),
            input=msgspec.Raw(canonical),
            at=at,
        )
        new = NewRun(
            run_id=queued.run_id,
            lane=msgspec.structs.replace(old.lane, build="", gate=definition.gate(arguments)),
            entries=(encode(queued), *map(encode, kept(events, at))),
            key=key,
            digest=digest(b"\0".join((run_id.encode(), (at or "").encode(), canonical))),
            tags=old.tags,
        )
        return await self._create(new)

    async def retry(self, run_id: str, *, key: str | None = None) -> tuple[Run, bool]:
        """Start a run that ended without a result again, from its last good step, as a new run.

        Raises:
            ForkInvalid: it goes on, or has a result.
        """
        run = await self.transport.run(run_id)
        if run.state not in (RunState.FAILED, RunState.CANCELED, RunState.TIMED_OUT):
            raise ForkInvalid(
                f"run {run_id} is {run.state.value}: only one that failed can be retried; fork it instead"
            )
        return await self.fork(run_id, key=key)

    async def matching(self, where: RunFilter) -> AsyncIterator[Run]:
        """All runs that match, newest first."""
        cursor: str | None = None
        while True:
            page = await self.transport.runs(where, cursor=cursor, limit=500)
            for run in page.runs:
                yield run
            if (cursor := page.next_cursor) is None:
                return


def outcome(view: RunView) -> bytes:
    """The JSON result of a run that has ended.

    Raises:
        RunFailed, RunCanceled, RunTimedOut: it ended without one.
    """
    run, error = view.run, view.error
    if error is None:
        return bytes(view.result)
    match run.state:
        case RunState.CANCELED:
            why = "" if error.message == NO_REASON else f": {error.message}"
            raise RunCanceled(run.run_id, f"was canceled{why}")
        case RunState.TIMED_OUT:
            raise RunTimedOut(run.run_id, f"timed out: {error.message}")
        case _:
            raise RunFailed(run.run_id, error)


def ends(stored: Stored) -> bool:
    """Whether this record is a run's last."""
    return stored.kind in _TERMINAL


def new_id() -> str:
    """Return a run id: the milliseconds of now and 80 random bits, in hex. What is made together is stored together."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def valid_id(run_id: str) -> bool:
    """Whether a caller may choose this run id."""
    return 0 < len(run_id) <= 100 and run_id.isascii() and all(c.isalnum() or c in "_-." for c in run_id)


_TERMINAL = frozenset(
    cls.kind for cls in (records.RunCompleted, records.RunFailed, records.RunCanceled, records.RunTimedOut)
)
