"""Runs, records and lanes as Redis keeps them: written as text, read from what the scripts pack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from .values import (
    Append,
    Finish,
    Grant,
    HandOver,
    Lane,
    Lease,
    NewRun,
    Park,
    Run,
    RunState,
    Stored,
    Terms,
    Transition,
)

PORTION = 24
"""Appends that one script makes at most: the server does nothing else meanwhile."""

PORTION_BYTES = 1024 * 1024
"""What they may weigh before it takes no more, bytes."""

_row = msgspec.msgpack.Decoder(list[str])
_fixed = msgspec.json.Decoder(tuple[str | None, tuple[str, ...], str, str])
_heads = msgspec.msgpack.Decoder(list[tuple[int, float, str, int]])


_grants = msgspec.msgpack.Decoder(
    list[tuple[list[str | float], float, list[str | float], list[str | float], int, str, float]]
)


def number(value: float) -> bytes:
    """Return a number as text that is read as the same number."""
    return repr(value).encode()


def escaped(text: str) -> str:
    """Return a lane's part without line ends, which part the parts."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def encode_lane(lane: Lane) -> bytes:
    """Return a lane's name."""
    parts = (lane.workflow, lane.build, str(lane.priority), lane.tenant, lane.gate)
    return "\n".join(map(escaped, parts)).encode()


@lru_cache(maxsize=4096)
def decode_lane(name: str) -> Lane:
    """Return the lane of a name."""
    workflow, build, priority, tenant, gate = map(_unescaped, name.split("\n"))
    return Lane(workflow=workflow, build=build, priority=int(priority), tenant=tenant, gate=gate)


def encode_fixed(new: NewRun) -> bytes:
    """Return what of a run never changes."""
    return msgspec.json.encode((new.key, new.tags, new.lane.workflow, new.lane.tenant))


def encode_terms(terms: Mapping[str, Terms]) -> bytes:
    """Return terms by workflow, as lanes are named."""
    return msgspec.msgpack.encode(
        {
            escaped(workflow): {
                name: value for name, value in msgspec.structs.asdict(limits).items() if value is not None
            }
            for workflow, limits in terms.items()
        }
    )


def portions(appends: Sequence[Append]) -> Iterator[Sequence[Append]]:
    """Return them in order, as many at once as one script should make."""
    first = weight = 0
    for last, append in enumerate(appends, 1):
        weight += sum([len(entry.body) for entry in append.entries])
        if last - first == PORTION or weight >= PORTION_BYTES or last == len(appends):
            yield appends[first:last]
            first, weight = last, 0


def encode_appends(appends: Sequence[Append], owner: Callable[[Lease], str]) -> tuple[bytes, bytes]:
    """Return what is to be known of each append, and all their bodies one after the other.

    Args:
        appends: what to make.
        owner: who holds a lease.
    """
    heads: list[tuple[object, ...]] = []
    bodies: list[bytes] = []
    at = 1
    for append in appends:
        lease, seen = append.lease, append.seen
        records: list[str | int] = []
        size = 0
        for entry in append.entries:
            body = entry.body
            records += (entry.kind, len(body))
            bodies.append(body)
            size += len(body)
        head = (lease.run_id, owner(lease), lease.fence, math.inf if seen is None else seen, at, records)
        heads.append(head if append.to is None else (*head, *_transition(append.to)))
        at += size
    return msgspec.msgpack.encode(heads), b"".join(bodies)


def _transition(to: Transition) -> tuple[str, str, str, str, int]:
    """Return its name, the state after it, due, what is waited for, and the last control record seen."""
    match to:
        case Finish(state):
            return "finish", state, "", "", 0
        case HandOver():
            return "hand over", "queued", "", "", 0
        case Park(due, waiting_on, seen):
            return "park", "waiting", "" if due is None else repr(due), f"={waiting_on}", seen


def decode_numbered(packed: bytes) -> tuple[Run, int]:
    """Return a row, and how many runs were created before it and with it."""
    run_id, lane, state, seq, control, created, updated, due, owner, fence, waiting, nth, fixed = _row.decode(packed)
    key, tags, _, _ = _fixed.decode(fixed)
    run = Run(
        run_id=run_id,
        lane=decode_lane(lane),
        state=RunState(state),
        seq=int(seq),
        control_seq=int(control),
        created=float(created),
        updated=float(updated),
        due=float(due) if due else None,
        owner=owner or None,
        fence=int(fence),
        waiting_on=waiting[1:] if waiting else None,
        key=key,
        tags=tags,
    )
    return run, int(nth)


def decode_run(packed: bytes) -> Run:
    """Return a row."""
    return decode_numbered(packed)[0]


def decode_records(heads: bytes, bodies: bytes) -> list[Stored]:
    """Return records: what is known of each, and all their bodies one after the other."""
    found, at = [], 0
    for seq, ts, kind, length in _heads.decode(heads):
        found.append(Stored(seq, ts, kind, bodies[at : at + length]))
        at += length
    return found


def decode_grants(packed: bytes) -> list[Grant]:
    """Return what draws came to."""
    return [
        Grant(
            got=_pairs(got),
            again_s=again_s,
            room=_pairs(room),
            share=_pairs(share),
            number=number,
            word=word or None,
            at=at,
        )
        for got, again_s, room, share, number, word, at in _grants.decode(packed)
    ]


def _pairs(flat: list[Any]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
