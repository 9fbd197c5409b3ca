"""Runs under lease as the SQLite file has them: what an append is checked by, without asking the file each time.

Why: a check needs five words of a run's row, and only two things change them: what this process writes itself, and
commits of other processes, which SQLite counts (`Engine.others`). So what was read once is true until then.

Laws kept here: 4 (a lease is checked in the transaction that appends, by what is true in it), 6 (whether an append
would be accepted is asked of the file as it is at that moment).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence

import msgspec

from .errors import ControlPending, Fenced, TransportError
from .sqlite_engine import Engine
from .sqlite_rows import get
from .values import Append, Lease, Run, RunState

HEADS = (
    "SELECT json_group_array(json_array(run_id, state, owner, fence, seq, control_seq)) FROM runs"
    " WHERE run_id IN (SELECT value FROM json_each(?))"
)
"""One step of one statement, however many runs."""

SUMS = (
    "SELECT count(*), total(fence), total(control_seq) FROM runs"
    " WHERE run_id IN (SELECT value FROM json_each(?)) AND owner IN (SELECT value FROM json_each(?))"
    " AND +state = 'running'"
)

ACCEPTS = "SELECT control_seq FROM runs WHERE run_id = ? AND owner = ? AND fence = ? AND +state = 'running'"


class Head(msgspec.Struct, array_like=True):
    """Of a run's row, what an append is checked by. `seq` and `control_seq` go on with what is written."""

    run_id: str
    state: str
    owner: str | None
    fence: int
    seq: int
    control_seq: int

    def refusal(self, append: Append) -> TransportError | None:
        """Return why an append is refused; None if it is not."""
        lease, seen = append.lease, append.seen
        if (self.state, self.owner, self.fence) != (RunState.RUNNING, lease.owner, lease.fence):
            return Fenced(lease.run_id)
        if seen is not None and self.control_seq > seen:
            return ControlPending(lease.run_id, self.control_seq)
        return None


_heads = msgspec.json.Decoder(list[Head])


class Leases:
    """The writing thread's heads of runs that this process executes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._others = -1
        self._heads: dict[str, Head] = {}

    def heads(self, db: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, Head]:
        """Return the heads of those of these runs that there are; to be changed as their rows are."""
        self._doubt()
        heads = {run_id: head for run_id in run_ids if (head := self._heads.get(run_id)) is not None}
        if missing := [run_id for run_id in run_ids if run_id not in heads]:
            (found,) = db.execute(HEADS, (json.dumps(missing),)).fetchone()
            for head in _heads.decode(found):
                heads[head.run_id] = head
                if head.state == RunState.RUNNING:
                    self._heads[head.run_id] = head
        return heads

    def take(self, run: Run) -> None:
        """Remember a run that was claimed."""
        self._doubt()
        self._heads[run.run_id] = Head(run.run_id, run.state, run.owner, run.fence, run.seq, run.control_seq)

    def forget(self, run_id: str) -> None:
        """Forget a run whose row was changed otherwise, or that is not under lease."""
        self._heads.pop(run_id, None)

    def _doubt(self) -> None:
        if self._others != self._engine.others:
            self._others = self._engine.others
            self._heads.clear()


class Glances:
    """Whether appends would be accepted, asked on the loop's own thread.

    Who asks alone is answered at once; where several ask in one turn of the loop, they are answered together when it
    is over: a look at the file costs more than what it says of one run. Owners are unique, fences and control records
    only ever rise, and no worker has seen what is not there: so the sums of all are as expected if and only if each of
    them is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._asked: list[tuple[Lease, int, asyncio.Future[bool]]] = []
        self._looking = False
        self._crowded = False

    async def may_append(self, lease: Lease, seen: int) -> bool:
        """Say whether an append would be accepted now; False, too, if that could not be read at once."""
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)
            if not self._crowded:
                return self._accepts(lease, seen)
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._asked.append((lease, seen, answer))
        return await answer

    def _look(self) -> None:
        asked, self._asked = self._asked, []
        self._looking = False
        self._crowded = len(asked) > 1 if self._crowded else bool(asked)  # the first one was answered, or is among them
        if not asked:
            return
        run_ids = json.dumps([lease.run_id for lease, _, _ in asked])
        owners = json.dumps([lease.owner for lease, _, _ in asked])
        fences = sum(lease.fence for lease, _, _ in asked)
        controls = sum(seen for _, seen, _ in asked)
        all_accept = self._engine.glance(SUMS, (run_ids, owners)) == (len(asked), fences, controls)
        for lease, seen, answer in asked:
            if not answer.done():
                answer.set_result(all_accept or self._accepts(lease, seen))

    def _accepts(self, lease: Lease, seen: int) -> bool:
        found = self._engine.glance(ACCEPTS, (lease.run_id, lease.owner, lease.fence))
        return found is not None and found[0] <= seen


def refusals(db: sqlite3.Connection, appends: Sequence[Append], heads: dict[str, Head]) -> list[TransportError | None]:
    """Return why each of these appends is refused; None of those that are not."""
    found: list[TransportError | None] = []
    for append in appends:
        head = heads.get(append.lease.run_id)
        found.append(head.refusal(append) if head is not None else _missing(db, append.lease.run_id))
    return found


def _missing(db: sqlite3.Connection, run_id: str) -> TransportError:
    try:
        get(db, run_id)
    except TransportError as missing:
        return missing
    return Fenced(run_id)
