"""Exports the spans of runs that have ended, once per run, whatever happened to its workers.

Why at the end: then one process, the worker that appended the last record, owes the whole trace, and the log is all it
needs for it. Nothing is held open or handed over while a run waits for days, and a takeover needs nothing done.

What holds:
1. A run whose spans have arrived is marked in the store; nobody sends a marked run again.
2. A run that a worker has ended and not marked when it is lost is sent by another one, which sees its heartbeat stop.
   Only if it was lost between sending and marking are spans sent twice, and then with the same ids.
3. Where the collector is down, runs wait, the oldest given up first (law 11), and no run waits for the collector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import TypeAlias

import anyio
import msgspec
import structlog

from ...transports import Run, RunFilter, StoreUnavailable, Transport, TransportError
from ..records import OutputDelta, OutputReset, Status, decode
from . import names
from .meters import Meters
from .names import Profile
from .otlp import SpanSender
from .spans import RunSpans, SpanFold

Owed: TypeAlias = tuple[str, str]
"""A run, and the worker that should have ended it."""

log = structlog.get_logger("greenroom.telemetry")

PASSED_OVER = frozenset({OutputDelta.kind, OutputReset.kind, Status.kind})
"""Records that no span is made of."""

MOST_OWED = 10_000
"""Runs that may wait to be sent."""

BATCH = 20
"""Runs sent together."""

PAUSE_S = 1.0
"""How long a batch gathers, seconds."""

LONGEST_PAUSE_S = 60.0
"""The longest wait before the collector is tried again, seconds."""

LOOK_S = 30.0
"""How often lost workers are looked for, seconds."""

SILENT_S = 60.0
"""A worker without a heartbeat for this long is lost, seconds; or for three leases, if that is longer."""

LOOK_BACK_S = 86400.0
"""Of a lost worker's runs, those are looked at that were created in this time before its last heartbeat, seconds."""

MARK_S = 2 * 86400.0
"""How long it is known that a run was sent, seconds: longer than anybody looks back."""


class Exporter:
    """Sends the runs that one worker ends, and those that lost workers have left.

    Args:
        transport: where the logs and the marks are.
        sender: what sends.
        meters: counts what is given up.
        worker: the worker's name.
        lease_s: how long its leases last, seconds.
        profile: which names spans get.
        content: whether they hold texts.
    """

    def __init__(
        self,
        transport: Transport,
        sender: SpanSender,
        meters: Meters,
        *,
        worker: str,
        lease_s: float,
        profile: Profile,
        content: bool,
    ) -> None:
        self._transport = transport
        self._sender = sender
        self._meters = meters
        self._worker = worker
        self._silent_s = max(SILENT_S, 3 * lease_s)
        self._profile = profile
        self._content = content
        self._owed: deque[Owed] = deque()
        self._changed = anyio.Event()
        self._hurry = anyio.Event()
        self._seen: set[str] = set()

    def owe(self, run_id: str, worker: str | None = None) -> None:
        """Take note that this worker, or a lost one, may have ended a run; its log says whether it has."""
        self._owed.append((run_id, worker or self._worker))
        if len(self._owed) > MOST_OWED:
            self._give_up(self._owed.popleft()[0], "too many runs wait to be sent")
        self._notice()

    async def settle(self) -> None:
        """Send what is owed without waiting for more, and return when nothing is."""
        self._hurry.set()
        while self._owed:
            await self._changed.wait()

    async def run(self) -> None:
        """Send, and look for lost workers, until canceled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._send)
            group.start_soon(self._sweep)

    def _notice(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _send(self) -> None:
        """Send batch by batch; after a failure one by one, so that a run that is never taken holds up no other."""
        pause, size = PAUSE_S, BATCH
        while True:
            while not self._owed:
                await self._changed.wait()
            with anyio.move_on_after(pause):
                await self._hurry.wait()
            batch = list(islice(self._owed, size))
            if await self._try(batch):
                pause, size = PAUSE_S, BATCH
                for one in batch:
                    if self._owed and self._owed[0] == one:
                        self._owed.popleft()
            else:
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if size == 1:
                    self._owed.rotate(-1)
                size = 1
                self._hurry = anyio.Event()
            self._notice()

    async def _try(self, batch: list[Owed]) -> bool:
        try:
            found = [(await self._read(run_id), worker) for run_id, worker in batch]
            runs = [run for run, worker in found if run is not None and run.worker == worker]
            arrived = await self._sender.send(runs, self._profile)
            if arrived:
                for run in runs:
                    await self._transport.cache_put(_mark(run.run_id), b"1", ttl_s=MARK_S)
        except StoreUnavailable as error:
            log.warning("spans not sent: store unavailable", error=str(error))
            return False
        if not arrived:
            log.warning("spans not sent: the collector did not take them", runs=len(runs))
        return arrived

    async def _read(self, run_id: str) -> RunSpans | None:
        """Fold a run's log; None if it has not ended, is gone, or cannot be read."""
        fold = SpanFold(self._profile, content=self._content)
        after = 0
        try:
            while page := await self._transport.read(run_id, after):
                after = page[-1].seq
                for stored in page:
                    if stored.kind not in PASSED_OVER:
                        fold.apply(decode(stored))
            return fold.spans()
        except StoreUnavailable:
            raise
        except (TransportError, msgspec.MsgspecError) as error:
            self._give_up(run_id, f"{type(error).__name__}: {error}")
            return None

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(LOOK_S)
            try:
                await self._look()
            except TransportError as error:
                log.warning("lost workers not looked for", error=str(error))

    async def _look(self) -> None:
        """Take over what lost workers owe, if this is the first of the workers that are left."""
        now = await self._transport.now()
        workers = await self._transport.workers()
        lost = {one.name: one for one in workers if now - one.beat > self._silent_s}
        self._seen &= lost.keys()
        if self._worker != min((one.name for one in workers if one.name not in lost), default=""):
            return
        for name in lost.keys() - self._seen:
            beat = lost[name].beat
            async for run in self._ended(beat - LOOK_BACK_S, lost[name].started, beat + self._silent_s):
                if await self._transport.cache_get(_mark(run.run_id)) is not None:
                    continue
                self.owe(run.run_id, name)
            self._seen.add(name)

    async def _ended(self, created: float, after: float, before: float) -> AsyncIterator[Run]:
        """Runs created since, that ended between."""
        cursor: str | None = None
        while True:
            page = await self._transport.runs(RunFilter(created_after=created), cursor=cursor, limit=500)
            for run in page.runs:
                if run.state.terminal and after <= run.updated <= before:
                    yield run
            if (cursor := page.next_cursor) is None:
                return

    def _give_up(self, run_id: str, why: str) -> None:
        self._meters.record(names.UNSENT)
        log.warning("spans given up", run_id=run_id, why=why)


def _mark(run_id: str) -> str:
    return f"telemetry/{run_id}"
