"""A run's log writer: the one actor that appends to a run, under its lease.

Why: everything that a run does passes through here in order, so the order in the log is the order in which
things were decided. While one append is under way the next records gather and go together. Two kinds are written
*behind*, with whatever comes next or when some time has passed: deltas, merged, so that tokens do not cost a write
each (`FLUSH_S`); and the starts of attempts (`START_S`), so that a short step costs one commit and not two.

Laws kept here:
3, 4. A result is released only after its append was acknowledged under the fence.
6. An append is refused while a control record stands unread; and no component starts after a cancel. A start waits for
   the store's word that an append would be accepted now (`Transport.may_append`), not for its own append: at that
   moment, which is after the call and before the component begins, nobody's cancel had been acknowledged. If one comes
   before the start is written, the append is refused, the cancel is read, and a start that was not written never is
   (`_without_starts`): in the log, too, nothing starts behind a cancel.
5. A start and what its attempt shows are written in order, so no delta stands before its start.
11. Text waiting to be written is bounded.

What a crash can lose is a start of the last `START_S` seconds, with all that its attempt did: the step begins again
under the same attempt number, as if that attempt had not been. Its idempotency key is that of the step, its deltas were
behind the start and so are lost too, and attempts that failed are counted by their own records (`step.retrying`). But a
log should tell which step kills workers: a run that has lost one writes its starts ahead until it has a result again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import anyio
import msgspec

from ..actors import Mailbox, Ref
from ..transports import ControlPending, Entry, Lease, Stored, Transition, Transport
from .records import OutputDelta, OutputReset, Record, StepStarted, encode

FLUSH_S = 0.03
"""How long a delta may wait for company, seconds."""

START_S = 0.005
"""How long a start may wait for company, seconds."""

FLUSH_CHARS = 2048
"""Merged text that is written without waiting for company."""

PENDING_CHARS = 256 * 1024
"""Text that may wait to be written before `emit` waits."""


class Write(msgspec.Struct, frozen=True):
    """Append these records, make the transition with the last of them, and resolve `done` when it is durable.

    Once a run is interrupted (canceled), only what begins a lease (`first`) and what ends it (`last`) is still written.
    """

    records: Sequence[Record]
    to: Transition | None = None
    done: asyncio.Future[bool] | None = None
    first: bool = False
    last: bool = False


class Soon:
    """The writers of a worker that have a start to write: one timer for all of them."""

    def __init__(self) -> None:
        self._writers: list[LogWriter] = []

    def add(self, writer: LogWriter) -> None:
        """Have it write within `START_S`."""
        if not self._writers:
            asyncio.get_running_loop().call_later(START_S, self._tick)
        self._writers.append(writer)

    def _tick(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.flush()


class LogWriter:
    """Appends for one lease. `control` is told of control records before anything is appended behind them.

    A write that cannot be made is never answered: its writer crashes, or the run was interrupted, and in both
    cases whoever waits is being canceled by the run's supervisor. So no user code sees a lost lease as an error
    that it could swallow.
    """

    def __init__(
        self, transport: Transport, lease: Lease, seen: int, control: Callable[[Sequence[Stored]], None], soon: Soon
    ) -> None:
        self.seen = seen
        self.interrupted = False
        self.ended = False
        self.ready = anyio.Event()
        self.ref: Ref[Write] | None = None
        self._transport = transport
        self._may_append = transport.may_append
        self._lease = lease
        self._control = control
        self._soon = soon
        self._behind: list[Record] = []
        self._starts = False
        self._pending_chars = 0
        self._room = anyio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, mailbox: Mailbox[Write]) -> None:
        """Run the actor: append what comes. An append that fails ends it, and with it the run's tree."""
        self.ref = mailbox.ref
        self.ready.set()
        try:
            while not self.ended:
                await self._append(await mailbox.get_batch())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def note(self, *records: Record) -> None:
        """Append these in order, without waiting for it."""
        self._tell(Write(self._drain(records)))

    async def start(self, *records: Record, ahead: bool = False) -> None:
        """Return when an attempt may begin that these records are the start of.

        Args:
            records: written within `START_S`, or when this returns.
            ahead: whether they have to be durable by then.
        """
        if ahead or self.interrupted or not await self._may_append(self._lease, seen=self.seen) or self.interrupted:
            await self.write(*records)
            return
        self._behind += records
        if not self._starts:
            self._starts = True
            self._soon.add(self)

    def flush(self) -> None:
        """Write the starts that were not written yet."""
        self._starts = False
        if self._behind and not self.ended:
            self.note()

    async def begin(self, *records: Record) -> None:
        """Append a lease's first records, interrupted or not."""
        await self._ask(Write(records, first=True))

    async def write(self, *records: Record) -> None:
        """Append these and return when they are durable."""
        await self._ask(Write(self._drain(records)))

    async def end(self, *records: Record, to: Transition) -> bool:
        """Append a lease's last records and give it up, interrupted or not.

        False if control records came in between: they have been read, so decide again how to end.
        """
        written = self._drain(records)
        return await self._ask(Write(_without_starts(written) if self.interrupted else written, to, last=True))

    async def _ask(self, write: Write) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tell(msgspec.structs.replace(write, done=done))
        return await done

    async def show(self, delta: OutputDelta) -> None:
        """Append a delta soon, merged with its neighbours; waits when too much text is waiting."""
        while self._pending_chars > PENDING_CHARS:
            await self._room.wait()
        last = self._behind[-1] if self._behind else None
        if isinstance(last, OutputDelta) and (last.step, last.attempt) == (delta.step, delta.attempt):
            delta = msgspec.structs.replace(last, text=last.text + delta.text)
            self._behind[-1] = delta
        else:
            self._behind.append(delta)
        if len(delta.text) >= FLUSH_CHARS:
            self.note()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.note()

    def _drain(self, records: Sequence[Record]) -> Sequence[Record]:
        """Put what waits to be written before these."""
        if not self._behind:
            return records
        behind, self._behind = self._behind, []
        self._pending_chars += sum(len(record.text) for record in behind if isinstance(record, OutputDelta))
        return [*behind, *records]

    def _tell(self, write: Write) -> None:
        if self.ref is not None:
            self.ref.tell(write)

    async def _append(self, writes: list[Write]) -> None:
        while not await self._commit([one for one in writes if one.first or one.last or not self.interrupted]):
            await self.read_control()
            for write in writes:
                if write.last:
                    _answer(write, written=False)
            writes = [write for write in writes if not write.last]
        if self._pending_chars:
            self._pending_chars = 0
            self._room.set()
            self._room = anyio.Event()

    async def _commit(self, writes: list[Write]) -> bool:
        """Append and answer; False if control records must be read first. Nothing follows a transition."""
        entries: list[Entry] = []
        to: Transition | None = None
        for count, write in enumerate(writes, 1):
            entries += map(encode, write.records)
            to = write.to
            if to is not None:
                writes = writes[:count]
                break
        if entries or to is not None:
            try:
                await self._transport.append(self._lease, entries, to, seen=self.seen)
            except ControlPending:
                return False
        self.ended = to is not None
        for write in writes:
            _answer(write, written=True)
        return True

    async def read_control(self) -> None:
        """Read the control records that came since the last look, and tell of them."""
        news = await self._transport.read(self._lease.run_id, self.seen, control=True)
        if news:
            self.seen = news[-1].seq
            self._control(news)


def _without_starts(records: Sequence[Record]) -> Sequence[Record]:
    """Leave out what of these begins, and all that was shown since then by what begins."""
    begun = {(record.step, record.attempt) for record in records if isinstance(record, StepStarted)}
    if not begun:
        return records
    return [
        record
        for record in records
        if not (isinstance(record, StepStarted | OutputDelta | OutputReset) and (record.step, record.attempt) in begun)
    ]


def _answer(write: Write, *, written: bool) -> None:
    if write.done is not None and not write.done.done():
        write.done.set_result(written)
