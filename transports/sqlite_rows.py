"""Runs and records as rows of the SQLite file: reading and writing them, and what turns are decided by."""

from __future__ import annotations

import functools
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .errors import RunNotFound, RunPruned
from .turns import Bucket, Turns, full_bucket, gate_of
from .values import Entry, Lane, Run, RunState, Terms

RUN = (
    "run_id, lane, workflow, tenant, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key,"
    " tags"
)
"""The columns of a `Run`, in the order that `run_of` reads."""

ONE = f"SELECT {RUN} FROM runs WHERE run_id = ?"

CONTROL = "SELECT control_seq FROM runs WHERE run_id = ? AND owner = ? AND fence = ? AND state = 'running'"
"""Of a run, if it is under this lease."""

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


def insert(
    db: sqlite3.Connection, run_id: str, seq: int, now: float, entries: Sequence[Entry], *, control: bool
) -> None:
    """Write records from `seq` on."""
    db.executemany(
        "INSERT INTO records (run_id, seq, ts, kind, control, body) VALUES (?, ?, ?, ?, ?, ?)",
        [(run_id, seq + n, now, entry.kind, control, entry.body) for n, entry in enumerate(entries)],
    )


def advance(db: sqlite3.Connection, run: Run) -> None:
    """Write what an append alone changes in a run's row: no index has it, so that this is cheap."""
    db.execute("UPDATE runs SET seq = ?, updated = ? WHERE run_id = ?", (run.seq, run.updated, run.run_id))


def update(db: sqlite3.Connection, run: Run) -> None:
    """Write what changes in a run's row while its lane stays."""
    db.execute(
        "UPDATE runs SET state = ?, seq = ?, control_seq = ?, updated = ?, due = ?, owner = ?, fence = ?,"
        " waiting_on = ?, ended = ? WHERE run_id = ?",
        (
            run.state.value,
            run.seq,
            run.control_seq,
            run.updated,
            run.due,
            run.owner,
            run.fence,
            run.waiting_on,
            run.updated if run.state.terminal else None,
            run.run_id,
        ),
    )


def move(db: sqlite3.Connection, run: Run) -> None:
    """Write the lane of a run's row."""
    db.execute("UPDATE runs SET lane = ? WHERE run_id = ?", (encode_lane(run.lane), run.run_id))


def lanes_due(db: sqlite3.Connection, terms: Mapping[str, Terms], build: str) -> Iterator[tuple[str, Lane]]:
    """Yield the lanes that these terms may claim from, as text and read; one seek each, however many runs they hold."""
    text = ""
    while True:
        (text,) = db.execute("SELECT min(lane) FROM runs WHERE due IS NOT NULL AND lane > ?", (text,)).fetchone()
        if text is None:
            return
        lane = decode_lane(text)
        if lane.workflow in terms and lane.build in ("", build):
            yield text, lane


def heads(db: sqlite3.Connection, lane: str, until: float, limit: int) -> list[Run]:
    """Return the first runs of a lane that are due by a time, the longest due first."""
    sql = f"SELECT {RUN} FROM runs WHERE lane = ? AND due <= ? ORDER BY due, number LIMIT ?"
    return [run_of(row) for row in db.execute(sql, (lane, until, limit))]


def turns_of(db: sqlite3.Connection, terms: Mapping[str, Terms], lanes: Sequence[Lane], now: float) -> Turns:
    """Return what turns among these lanes are decided by."""
    turns = Turns(terms)
    limited = any(terms[lane.workflow].concurrency is not None for lane in lanes)
    if limited or len({lane.tenant for lane in lanes}) > 1:
        for text, count in db.execute("SELECT lane, count(*) FROM runs WHERE state = 'running' GROUP BY lane"):
            lane = decode_lane(text)
            turns.at_work[lane.tenant] = turns.at_work.get(lane.tenant, 0) + count
            turns.through[gate_of(lane)] = turns.through.get(gate_of(lane), 0) + count
    for lane in lanes:
        limits, gate = terms[lane.workflow], gate_of(lane)
        if limits.starts is not None and gate not in turns.buckets:
            row = db.execute("SELECT level, at FROM buckets WHERE workflow = ? AND gate = ?", gate).fetchone()
            bucket = full_bucket(limits, now) if row is None else Bucket(*row)
            turns.buckets[gate] = bucket.refilled(limits, now)
    return turns


def keep_buckets(db: sqlite3.Connection, turns: Turns) -> None:
    """Write what is left of the starts."""
    db.executemany(
        "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?)",
        [(*gate, bucket.level, bucket.at) for gate, bucket in turns.buckets.items()],
    )


def soonest(db: sqlite3.Connection, terms: Mapping[str, Terms], build: str, now: float) -> float | None:
    """Return when a claim by these terms may next find something."""
    lanes = dict(lanes_due(db, terms, build))
    turns = turns_of(db, terms, tuple(lanes.values()), now)
    soonest = math.inf
    for text in lanes:
        for run in heads(db, text, math.inf, 1):
            soonest = min(soonest, turns.when(run, now))
    return soonest if soonest < math.inf else None
