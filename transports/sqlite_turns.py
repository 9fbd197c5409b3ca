"""Who may go next, as rows of the SQLite file: lanes, what is at their heads and at work, starts left, reservoirs."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from .reservoirs import Reservoir
from .sqlite_rows import RUN, decode_lane, run_of
from .turns import Bucket, Turns, full_bucket, gate_of
from .values import Lane, Run, Terms


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
