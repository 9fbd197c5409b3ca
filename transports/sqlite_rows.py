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
from .reservoirs import Reservoir
from .turns import Bucket, Turns, full_bucket, gate_of
from .values import Entry, Lane, Run, RunState, Terms

RUN = (
    "run_id, lane, workflow, tenant, state, seq, control_seq, created, updated, due, owner, fence, waiting_on, key,"
    " tags"
)
"""The columns of a `Run`, in the order that `run_of` reads."""

ONE = f"SELECT {RUN} FROM runs WHERE run_id = ?"

HEADS = (
    "SELECT json_group_array(json_array(run_id, state, owner, fence, seq, control_seq)) FROM runs"
    " WHERE run_id IN (SELECT value FROM json_each(?))"
)

SIZES = (64, 16, 4, 2, 1)
"""How many rows one statement writes."""

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


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Of a run's row, what an append is checked by."""

    run_id: str
    state: str
    owner: str | None
    fence: int
    seq: int
    control_seq: int


_heads = msgspec.json.Decoder(list[Head])


def read_heads(db: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, Head]:
    """Return the heads of those of these runs that there are, by one step of one statement."""
    (found,) = db.execute(HEADS, (json.dumps(run_ids),)).fetchone()
    return {head.run_id: head for head in _heads.decode(found)}


def insert(
    db: sqlite3.Connection, run_id: str, seq: int, now: float, entries: Sequence[Entry], *, control: bool
) -> None:
    """Write records from `seq` on."""
    rows: list[Any] = []
    for n, entry in enumerate(entries):
        rows += (run_id, seq + n, now, entry.kind, control, entry.body)
    insert_rows(db, rows)


def insert_rows(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write records: for each its run, seq, time, kind, whether it is a control record, body."""
    _many(db, "INSERT INTO records (run_id, seq, ts, kind, control, body) VALUES ", "", values, 6)


def advance(db: sqlite3.Connection, values: list[Any]) -> None:
    """Write what appends alone change in runs' rows, which no index has: for each run its id, seq, and the time."""
    end = ") UPDATE runs SET seq = v.seq, updated = v.now FROM v WHERE runs.run_id = v.run_id"
    _many(db, "WITH v (run_id, seq, now) AS (VALUES ", end, values, 3)


def _many(db: sqlite3.Connection, begin: str, end: str, values: list[Any], width: int) -> None:
    """Say it for many rows at once, in statements of few sizes, so that they stay prepared."""
    at = 0
    while at < len(values):
        rows = next(size for size in SIZES if size * width <= len(values) - at)
        db.execute(f"{begin}{_places(rows, width)}{end}", values[at : at + rows * width])
        at += rows * width


@functools.cache
def _places(rows: int, width: int) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * rows)


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


_reservoir = msgspec.msgpack.Decoder(Reservoir)


def reservoir_of(db: sqlite3.Connection, name: str) -> Reservoir:
    """Return a reservoir; one that was not used yet is new."""
    row = db.execute("SELECT state FROM reservoirs WHERE name = ?", (name,)).fetchone()
    return Reservoir() if row is None else _reservoir.decode(row[0])


def keep_reservoir(db: sqlite3.Connection, name: str, reservoir: Reservoir) -> None:
    """Write a reservoir."""
    db.execute("INSERT OR REPLACE INTO reservoirs VALUES (?, ?)", (name, msgspec.msgpack.encode(reservoir)))


def soonest(db: sqlite3.Connection, terms: Mapping[str, Terms], build: str, now: float) -> float | None:
    """Return when a claim by these terms may next find something."""
    lanes = dict(lanes_due(db, terms, build))
    turns = turns_of(db, terms, tuple(lanes.values()), now)
    soonest = math.inf
    for text in lanes:
        for run in heads(db, text, math.inf, 1):
            soonest = min(soonest, turns.when(run, now))
    return soonest if soonest < math.inf else None
