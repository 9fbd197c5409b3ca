"""Runs and records as rows of the SQLite file: reading and writing them."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from .errors import KeyConflict, RunNotFound, RunPruned
from .values import SHORT, Entry, Lane, NewRun, Run, RunState, Stored

RUN = (
    "run_id, lane, workflow, tenant, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key,"
    " tags"
)
"""The columns of a `Run`, in the order that `run_of` reads."""

ONE = f"SELECT {RUN} FROM runs WHERE run_id = ?"

MOST = 1024
"""Rows that one statement writes at most."""

KNOWN = (
    f"SELECT digest, {RUN} FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
    f" UNION SELECT digest, {RUN} FROM runs WHERE key IN (SELECT value FROM json_each(?))"
)
KNOWN_PRUNED = (
    "SELECT run_id, key, digest FROM pruned WHERE run_id IN (SELECT value FROM json_each(?))"
    " UNION SELECT run_id, key, digest FROM pruned WHERE key IN (SELECT value FROM json_each(?))"
)

END = (
    f"SELECT {', '.join(f'runs.{column}' for column in RUN.split(', '))}, records.seq, ts, kind, body FROM runs"
    " LEFT JOIN records ON runs.ended IS NOT NULL AND records.run_id = runs.run_id AND records.seq = runs.seq"
    " WHERE runs.run_id = ?"
)
"""A run's row, and how it ended if it has."""

LOGS = (
    "SELECT run_id, seq, ts, kind, body FROM records WHERE run_id IN (SELECT value FROM json_each(?))"
    " AND length(body) <= ? ORDER BY run_id, seq"
)

LIGHT = 16384
"""What a record of a log that comes along with a claim may weigh, bytes."""

RECORD = "SELECT seq, ts, kind, body FROM records WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT 1"

LIVE = "state IN ('queued', 'running', 'waiting')"


@functools.lru_cache(maxsize=1024)
def encode_lane(lane: Lane) -> str:
    """Return a lane as text: lanes of one workflow stand together."""
    return json.dumps(msgspec.structs.astuple(lane), ensure_ascii=False)


@functools.lru_cache(maxsize=1024)
def decode_lane(text: str) -> Lane:
    """Return the lane of a text."""
    workflow, build, priority, tenant, gate = json.loads(text)
    return Lane(workflow=workflow, build=build, priority=priority, tenant=tenant, gate=gate)


def run_of(row: Sequence[Any]) -> Run:
    """Read the columns `RUN`."""
    run_id, lane, _, _, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key, tags = row
    return Run(
        run_id=run_id,
        lane=decode_lane(lane),
        state=RunState(state),
        seq=seq,
        control_seq=control_seq,
        created=created,
        updated=updated,
        due=due,
        owner=owner,
        fence=fence,
        waiting_on=waiting_on,
        key=key,
        tags=tuple(json.loads(tags)) if tags != "[]" else (),
    )


def values_of(run: Run) -> list[Any]:
    """Return the values of the columns `RUN`."""
    lane = run.lane
    return [
        run.run_id,
        encode_lane(lane),
        lane.workflow,
        lane.tenant,
        run.state.value,
        run.seq,
        run.control_seq,
        run.created,
        run.updated,
        run.due,
        run.owner,
        run.fence,
        run.waiting_on,
        run.key,
        json.dumps(run.tags),
    ]


def get(db: sqlite3.Connection, run_id: str) -> Run:
    """Return a run's row.

    Raises:
        RunNotFound, RunPruned: there is none.
    """
    row = db.execute(ONE, (run_id,)).fetchone()
    if row is not None:
        return run_of(row)
    known = db.execute("SELECT 1 FROM pruned WHERE run_id = ?", (run_id,)).fetchone()
    raise RunPruned(run_id) if known else RunNotFound(run_id)


def ended(db: sqlite3.Connection, run_id: str) -> Sequence[Any]:
    """Return the columns `END` of a run.

    Raises:
        RunNotFound, RunPruned: there is none.
    """
    row: Sequence[Any] | None = db.execute(END, (run_id,)).fetchone()
    if row is None:
        get(db, run_id)
    assert row is not None
    return row


def short_logs(db: sqlite3.Connection, runs: Sequence[Run]) -> dict[str, list[Stored]]:
    """Return the logs of those of these runs that have a short and light one."""
    found: dict[str, list[Stored]] = {run.run_id: [] for run in runs if run.seq <= SHORT}
    for run_id, *stored in db.execute(LOGS, (json.dumps(list(found)), LIGHT)).fetchall():
        found[run_id].append(Stored(*stored))
    return {run.run_id: log for run in runs if len(log := found.get(run.run_id, [])) == run.seq}


class Known:
    """Which of some new runs are known, by their keys or ids; and of each other.

    Args:
        news: the runs that are to be written, in this order.
    """

    def __init__(self, db: sqlite3.Connection, news: Sequence[NewRun]) -> None:
        ids = json.dumps([new.run_id for new in news])
        keys = json.dumps([new.key for new in news if new.key is not None])
        self._runs: dict[str, tuple[str, Run]] = {}
        self._ids: set[str] = set()
        for digest, *row in db.execute(KNOWN, (ids, keys)).fetchall():
            self._add(digest, run_of(row))
        self._pruned: dict[str, tuple[str, str]] = {}
        for run_id, key, digest in db.execute(KNOWN_PRUNED, (ids, keys)).fetchall():
            self._ids.add(run_id)
            if key is not None:
                self._pruned[key] = digest, run_id

    def run_of(self, new: NewRun) -> Run | None:
        """Return the run of a new one's key; None if it may be written.

        Raises:
            KeyConflict: its key is another request's, or its id another run's.
            RunPruned: the key's run has been pruned.
        """
        if new.key in self._runs:
            digest, run = self._runs[new.key]
            if digest != new.digest:
                raise KeyConflict(new.key, run.run_id)
            return run
        if new.key in self._pruned:
            digest, run_id = self._pruned[new.key]
            raise RunPruned(run_id) if digest == new.digest else KeyConflict(new.key, run_id)
        if new.run_id in self._ids:
            raise KeyConflict(new.run_id, new.run_id)
        return None

    def add(self, new: NewRun, run: Run) -> None:
        """Know one that is being written."""
        self._add(new.digest, run)

    def _add(self, digest: str, run: Run) -> None:
        self._ids.add(run.run_id)
        if run.key is not None:
            self._runs[run.key] = digest, run


GIVEN = ") AS v WHERE v.column1 IS NOT NULL"
"""The end of an insertion that passes by rows of nulls."""


def insert_runs(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write new runs: for each the values of `RUN`, and its digest."""
    many(db, f"INSERT INTO runs ({RUN}, digest) SELECT * FROM (VALUES ", GIVEN, values, 16)


def insert(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write records: for each its run, seq, time, kind, whether it is control, body."""
    begin = "INSERT INTO records (run_id, seq, ts, kind, control, body) SELECT * FROM (VALUES "
    many(db, begin, GIVEN, values, 6)


def rows_of(run_id: str, seq: int, now: float, entries: Sequence[Entry], *, control: bool = False) -> list[Any]:
    """Return the values of records that follow `seq`."""
    rows: list[Any] = []
    for entry in entries:
        seq += 1
        rows += (run_id, seq, now, entry.kind, control, entry.body)
    return rows


def lend(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write claims: for each run its id, owner, fence, due, and the time."""
    end = (
        ") UPDATE runs SET state = 'running', owner = v.owner, fence = v.fence, due = v.due, updated = v.now,"
        " waiting_on = NULL FROM v WHERE runs.run_id = v.run_id"
    )
    many(db, "WITH v (run_id, owner, fence, due, now) AS (VALUES ", end, values, 5)


def many(db: sqlite3.Connection, begin: str, end: str, values: list[Any], width: int) -> None:
    """Say it for many rows in one statement, filled up with rows of nulls that it has to pass by.

    One statement, because after each of them the writing thread waits until the interpreter is free again; of few
    sizes, so that they stay prepared.
    """
    for at in range(0, len(values), MOST * width):
        given = values[at : at + MOST * width]
        rows = len(given) // width
        step = max(1, 1 << rows.bit_length() >> 3)
        rows += -rows % step
        given += [None] * (rows * width - len(given))
        db.execute(_statement(begin, end, rows, width), given)


@functools.cache
def _statement(begin: str, end: str, rows: int, width: int) -> str:
    return begin + ", ".join([f"({', '.join('?' * width)})"] * rows) + end


def post(db: sqlite3.Connection, run: Run) -> None:
    """Write what control records change in a run's row."""
    db.execute(
        "UPDATE runs SET seq = ?, control_seq = ?, updated = ?, due = ? WHERE run_id = ?",
        (run.seq, run.control_seq, run.updated, run.due, run.run_id),
    )


def move(db: sqlite3.Connection, run: Run) -> None:
    """Write the lane of a run's row."""
    db.execute("UPDATE runs SET lane = ? WHERE run_id = ?", (encode_lane(run.lane), run.run_id))
