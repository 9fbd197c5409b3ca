"""Appends as the SQLite file makes them, and the question whether one would be accepted.

Why: an append checks, numbers, writes and moves the run's row. Said by the writing thread in a statement each, that
takes it longer to get the interpreter back after each of them than to do them. So the writing connection has a word
for it, `appends`: what is inserted there is checked and written by triggers, inside the database; however many runs,
it is one statement, and one statement is a transaction.

Laws kept here: 2, 4 (whoever does not hold the lease has the whole statement refused: who that was is found out after),
6 (whether an append would be accepted is asked of the file as it is at that moment).
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from .errors import ControlPending, Fenced, TransportError
from .sqlite_engine import Engine
from .sqlite_rows import MOST, get, many
from .transitions import left
from .values import Append, Lease, Park, RunState

HOLDS = (
    "run_id = NEW.run_id AND owner = NEW.owner AND fence = NEW.fence AND +state = 'running' AND control_seq <= NEW.seen"
)

WORDS = f"""
CREATE TEMP VIEW appends AS SELECT NULL AS ts, NULL AS run_id, NULL AS owner, NULL AS fence, NULL AS seen, NULL AS kind,
    NULL AS body, NULL AS state, NULL AS due, NULL AS known, NULL AS waiting_on, NULL AS ended;
CREATE TEMP TRIGGER appended INSTEAD OF INSERT ON appends WHEN NEW.state IS NULL AND NEW.run_id IS NOT NULL BEGIN
    UPDATE runs SET seq = seq + 1, updated = NEW.ts WHERE {HOLDS};
    SELECT RAISE(ABORT, 'refused') WHERE changes() = 0;
    INSERT INTO records (run_id, seq, ts, kind, control, body)
        SELECT run_id, seq, NEW.ts, NEW.kind, 0, NEW.body FROM runs WHERE run_id = NEW.run_id;
END;
CREATE TEMP TRIGGER left INSTEAD OF INSERT ON appends WHEN NEW.state IS NOT NULL BEGIN
    UPDATE runs SET seq = seq + (NEW.kind IS NOT NULL), updated = NEW.ts, state = NEW.state, owner = NULL,
        due = iif(control_seq > NEW.known, NEW.ts, NEW.due), waiting_on = NEW.waiting_on, ended = NEW.ended
        WHERE {HOLDS};
    SELECT RAISE(ABORT, 'refused') WHERE changes() = 0;
    INSERT INTO records (run_id, seq, ts, kind, control, body)
        SELECT run_id, seq, NEW.ts, NEW.kind, 0, NEW.body FROM runs
        WHERE NEW.kind IS NOT NULL AND run_id = NEW.run_id;
END;
"""
"""What the writing connection knows besides the schema. `known`: the last control record that a run which parks saw."""

STAY = "run_id, owner, fence, seen, ts, kind, body"
LEAVE = f"{STAY}, state, due, known, waiting_on, ended"
"""What is said of each record; and where some runs' leases are given up with it."""

HEADS = "SELECT run_id, state, owner, fence, control_seq FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"

SUMS = (
    "SELECT count(*), sum(fence), sum(control_seq) FROM runs"
    " WHERE run_id IN (SELECT value FROM json_each(?)) AND +state = 'running'"
)

ACCEPTS = "SELECT control_seq FROM runs WHERE run_id = ? AND owner = ? AND fence = ? AND +state = 'running'"


def append_all(db: sqlite3.Connection, appends: Sequence[Append], now: float) -> list[TransportError | None]:
    """Make these appends; return why those are refused that are.

    Raises:
        sqlite3.Error: no transaction is open, and it takes one: something is refused. Nothing was written.
    """
    refused: list[TransportError | None] = [None] * len(appends)
    if db.in_transaction:
        refused = refusals(db, appends)
        appends = [append for append, refusal in zip(appends, refused, strict=True) if refusal is None]
    columns, width, values = _values(appends, now)
    if len(values) > MOST * width and not db.in_transaction:
        raise sqlite3.DataError("these are more rows than one statement takes")
    many(db, f"INSERT INTO appends ({columns}) VALUES ", "", values, width)
    return refused


def _values(appends: Sequence[Append], now: float) -> tuple[str, int, list[Any]]:
    """Return the columns, their number, and the values of what is to be inserted into `appends`."""
    values: list[Any] = []
    some_leave = any(append.to is not None for append in appends)
    stays: tuple[None, ...] = (None,) * 5 if some_leave else ()
    for append in appends:
        lease, seen, to = append.lease, append.seen, append.to
        about = lease.run_id, lease.owner, lease.fence, math.inf if seen is None else seen, now
        entries = append.entries if to is None else append.entries[:-1]
        for entry in entries:
            values += (*about, entry.kind, entry.body, *stays)
        if to is not None:
            last = (append.entries[-1].kind, append.entries[-1].body) if append.entries else (None, None)
            state, due, waiting_on = left(to, 0, now)  # whether it is due at once is up to the trigger
            known = to.seen if isinstance(to, Park) else None
            values += (*about, *last, state.value, due, known, waiting_on, now if state.terminal else None)
    return (LEAVE, 12, values) if some_leave else (STAY, 7, values)


class Glances:
    """Whether appends would be accepted, asked on the loop's own thread.

    Who asks alone is answered at once; where several ask in one turn of the loop, they are answered together when it
    is over: a look at the file costs more than what it says of one run. Each claim has a fence of its own, fences and
    control records only ever rise, and no worker has seen what is not there: so the sums of all are as expected if and
    only if each of them is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._asked: list[tuple[Lease, int, asyncio.Future[bool]]] = []
        self._looking = False
        self._crowded = False

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
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
        fences = sum(lease.fence for lease, _, _ in asked)
        controls = sum(seen for _, seen, _ in asked)
        all_accept = self._engine.glance(SUMS, (run_ids,)) == (len(asked), fences, controls)
        for lease, seen, answer in asked:
            if not answer.done():
                answer.set_result(all_accept or self._accepts(lease, seen))

    def _accepts(self, lease: Lease, seen: int) -> bool:
        found = self._engine.glance(ACCEPTS, (lease.run_id, lease.owner, lease.fence))
        return found is not None and found[0] <= seen


def refusals(db: sqlite3.Connection, appends: Sequence[Append]) -> list[TransportError | None]:
    """Return why each of these appends is refused; None of those that are not."""
    run_ids = json.dumps([append.lease.run_id for append in appends])
    heads = {run_id: head for run_id, *head in db.execute(HEADS, (run_ids,)).fetchall()}
    return [_refusal(db, append, heads.get(append.lease.run_id)) for append in appends]


def _refusal(db: sqlite3.Connection, append: Append, head: Sequence[Any] | None) -> TransportError | None:
    lease = append.lease
    if head is None:
        try:
            get(db, lease.run_id)
        except TransportError as missing:
            return missing
        return Fenced(lease.run_id)
    state, owner, fence, control_seq = head
    if (state, owner, fence) != (RunState.RUNNING, lease.owner, lease.fence):
        return Fenced(lease.run_id)
    if append.seen is not None and control_seq > append.seen:
        return ControlPending(lease.run_id, control_seq)
    return None
