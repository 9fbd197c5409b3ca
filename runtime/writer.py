"""A run's log writer: the one actor that appends to a run, under its lease.

Why: everything that a run does passes through here in order, so the order in the log is the order in which
things were decided. While one append is under way the next records gather and go together; the worker's appender calls
the store for all runs at once (`appender.py`), and the actor itself has work only when that went wrong. Two kinds of
records are written *behind*, with whatever comes next or when some time has passed: deltas, merged, so that tokens do
not cost a write each (`FLUSH_S`); and the starts of attempts (`START_S`), so that a short step costs one commit.

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
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from ..actors import Actor
from ..transports import Append, ControlPending, Entry, Lease, Stored, Transition, Transport
from .appender import Appender
from .records import OutputDelta, OutputReset, Record, StepStarted, encode

FLUSH_S = 0.03
"""How long a delta may wait for company, seconds."""

FLUSH_CHARS = 2048
"""Merged text that is written without waiting for company."""

PENDING_CHARS = 256 * 1024
"""Text that may wait to be written before `emit` waits."""


class Write:
    """Append these records, make the transition with the last of them, and resolve `done` when it is durable.

    Once a run is interrupted (canceled), only what begins a lease (`first`) and what ends it (`to`) is still written.
    `behind` is what else an end brings along: it is written whatever becomes of the end.
    """

    __slots__ = ("behind", "done", "entries", "first", "to")

    def __init__(
        self,
        entries: list[Entry],
        done: asyncio.Future[bool] | None = None,
        to: Transition | None = None,
        first: bool = False,
        behind: Sequence[Record] = (),
    ) -> None:
        self.entries = entries
        self.done = done
        self.to = to
        self.first = first
        self.behind = behind

    def answer(self, written: bool) -> None:
        """Tell who waits for it."""
        if self.done is not None and not self.done.done():
            self.done.set_result(written)


class LogWriter(Actor[Exception]):
    """Appends for one lease. `control` is told of control records before anything is appended behind them.

    A write that cannot be made is never answered: its writer crashes, or the run was interrupted, and in both
    cases whoever waits is being canceled by the run's supervisor. So no user code sees a lost lease as an error
    that it could swallow.
    """

    def __init__(
        self, transport: Transport, lease: Lease, control: Callable[[Sequence[Stored]], None], appender: Appender
    ) -> None:
        self.seen = 0
        self.interrupted = False
        self.ended = False
        self._transport = transport
        self._may_append = transport.may_append
        self._lease = lease
        self._control = control
        self._appender = appender
        self._loop = asyncio.get_running_loop()
        self._behind: list[Record] = []
        self._behind_chars = 0
        self._starts = False
        self._writes: list[Write] = []
        self._flying: list[Write] = []
        self._offered = False
        self._pending_chars = 0
        self._room: anyio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def receive(self, message: Exception) -> None:
        """Read what has to be known before the next append; anything else that went wrong ends the run's tree."""
        if not isinstance(message, ControlPending):
            raise message
        await self.read_control()
        refused, self._flying = self._flying, []
        self._writes[:0] = refused
        self._reconsider()
        self._offer()

    def note(self, *records: Record) -> None:
        """Append these in order, without waiting for it."""
        self._put(Write(list(map(encode, self._drain(records)))))

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
            self._appender.soon(self)

    def flush(self) -> None:
        """Write the starts that were not written yet."""
        self._starts = False
        if self._behind and not self.ended:
            self.note()

    def begin(self, *records: Record) -> Awaitable[bool]:
        """Append a lease's first records, interrupted or not."""
        return self._ask(records, first=True)

    def write(self, *records: Record) -> Awaitable[bool]:
        """Append these; wait until they are durable."""
        return self._ask(self._drain(records))

    async def end(self, *records: Record, to: Transition) -> bool:
        """Append a lease's last records and give it up, interrupted or not.

        False if control records came in between: they have been read, so decide again how to end.
        """
        written = self._drain(records)
        behind = written[: len(written) - len(records)]
        return await self._ask(_without_starts(written) if self.interrupted else written, to, behind=behind)

    async def show(self, delta: OutputDelta) -> None:
        """Append a delta soon, merged with its neighbours; waits when too much text is waiting."""
        while self._pending_chars > PENDING_CHARS:
            self._room = self._room or anyio.Event()
            await self._room.wait()
        self._behind_chars += len(delta.text)
        last = self._behind[-1] if self._behind else None
        if isinstance(last, OutputDelta) and (last.step, last.attempt) == (delta.step, delta.attempt):
            delta = msgspec.structs.replace(last, text=last.text + delta.text)
            self._behind[-1] = delta
        else:
            self._behind.append(delta)
        if len(delta.text) >= FLUSH_CHARS:
            self.note()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._tick)

    async def read_control(self) -> None:
        """Read the control records that came since the last look, and tell of them."""
        news = await self._transport.read(self._lease.run_id, self.seen, control=True)
        if news:
            self.seen = news[-1].seq
            self._control(news)
            self._reconsider()

    def _reconsider(self) -> None:
        """Have ends that were decided before the last look decided again; what they bring along waits for that."""
        ends = [write for write in self._writes if write.to is not None]
        if ends:
            self._writes = [write for write in self._writes if write.to is None]
            for write in ends:
                self._behind[:0] = write.behind
                write.answer(False)

    def take(self) -> Append | None:
        """Return what is to be appended next. Nothing follows a transition."""
        self._offered = False
        writes, self._writes = self._writes, []
        if self.interrupted:
            writes = [write for write in writes if write.first or write.to is not None]
        entries: list[Entry] = []
        to: Transition | None = None
        for count, write in enumerate(writes, 1):
            entries += write.entries
            to = write.to
            if to is not None:
                writes = writes[:count]
                break
        if not entries and to is None:
            self._answer(writes)
            return None
        self._flying = writes
        return Append(self._lease, entries, to, self.seen)

    def settle(self, refusal: Exception | None) -> None:
        """Answer who waits, and offer what has come meanwhile; or have the actor deal with it."""
        if refusal is not None:
            self.context.ref.tell(refusal)
            return
        writes, self._flying = self._flying, []
        self.ended = writes[-1].to is not None
        self._answer(writes)
        if self._writes and not self.ended:
            self._offer()

    def _answer(self, writes: Sequence[Write]) -> None:
        for write in writes:
            write.answer(True)
        if self._pending_chars:
            self._pending_chars = 0
            if self._room is not None:
                self._room.set()
                self._room = None

    def _ask(
        self,
        records: Sequence[Record],
        to: Transition | None = None,
        *,
        first: bool = False,
        behind: Sequence[Record] = (),
    ) -> asyncio.Future[bool]:
        done: asyncio.Future[bool] = self._loop.create_future()
        self._put(Write(list(map(encode, records)), done, to, first, behind))
        return done

    def _put(self, write: Write) -> None:
        self._writes.append(write)
        if not self._flying:
            self._offer()

    def _offer(self) -> None:
        if not self._offered:
            self._offered = True
            self._appender.offer(self)

    def _tick(self) -> None:
        self._timer = None
        if not self.ended:
            self.note()

    def _drain(self, records: Sequence[Record]) -> Sequence[Record]:
        """Put what waits to be written before these."""
        if not self._behind:
            return records
        behind, self._behind = self._behind, []
        self._pending_chars += self._behind_chars
        self._behind_chars = 0
        return [*behind, *records]


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
