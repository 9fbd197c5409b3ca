"""The memory transport: the contract in one process, for tests, simulation and trying things out.

Why: every call is one synchronous step over plain dicts, so it is atomic by construction and deterministic. It is
also the plainest telling of what the other transports do. Nothing survives the process.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from .contract import READY, Watch, control_topic, end_topic, log_topic
from .errors import (
    BlobNotFound,
    ControlPending,
    Fenced,
    InvalidCursor,
    KeyConflict,
    RunEnded,
    RunNotFound,
    RunPruned,
    TransportError,
)
from .hints import Board
from .reservoirs import Reservoir, draw
from .transitions import appended, claimed, posted, queued
from .turns import Bucket, Gate, Turns, full_bucket, gate_of
from .values import (
    SHORT,
    Append,
    Claim,
    Draw,
    Entry,
    Grant,
    Lane,
    LaneCount,
    Lease,
    NewRun,
    Run,
    RunFilter,
    RunPage,
    RunState,
    Stored,
    Terms,
    Transition,
    WorkerInfo,
)


class MemoryTransport:
    """The contract over dicts.

    Args:
        clock: seconds since the epoch.
    """

    url = "memory://"
    blob_bytes: int | None = None
    durability = "an acknowledged write survives nothing: it ends with the process"
    forgets = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._board = Board()
        self._runs: dict[str, Run] = {}
        self._numbers: dict[str, int] = {}
        self._logs: dict[str, list[Stored]] = {}
        self._controls: dict[str, list[Stored]] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._cache: dict[str, tuple[bytes, float]] = {}
        self._workers: dict[str, WorkerInfo] = {}
        self._blobs: dict[str, dict[str, bytes]] = {}
        self._buckets: dict[Gate, Bucket] = {}
        self._reservoirs: dict[str, Reservoir] = {}
        self._pruned: set[str] = set()
        self._count = itertools.count(1)

    async def now(self) -> float:
        return self._clock()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        if new.key is not None and new.key in self._keys:
            run_id, digest = self._keys[new.key]
            if digest != new.digest:
                raise KeyConflict(new.key, run_id)
            return self._get(run_id), False
        if new.run_id in self._runs or new.run_id in self._pruned:
            raise KeyConflict(new.run_id, new.run_id)
        now = self._clock()
        run = queued(new, now)
        if new.key is not None:
            self._keys[new.key] = (new.run_id, new.digest)
        self._numbers[run.run_id] = next(self._count)
        self._runs[run.run_id] = run
        self._logs[run.run_id] = [Stored(n, now, entry.kind, entry.body) for n, entry in enumerate(new.entries, 1)]
        self._controls[run.run_id] = []
        self._board.hint((READY, log_topic(run.run_id)))
        return run, True

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        return self._append(Append(lease, entries, to, seen))

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        refusals: list[TransportError | None] = []
        for append in appends:
            try:
                self._append(append)
            except TransportError as refusal:
                refusals.append(refusal)
            else:
                refusals.append(None)
        return refusals

    def _append(self, append: Append) -> Run:
        lease, entries, to = append.lease, append.entries, append.to
        run = self._get(lease.run_id)
        if (run.state, run.owner, run.fence) != (RunState.RUNNING, lease.owner, lease.fence):
            raise Fenced(lease.run_id)
        if append.seen is not None and run.control_seq > append.seen:
            raise ControlPending(run.run_id, run.control_seq)
        now = self._clock()
        self._write(run, entries, now)
        changed = appended(run, len(entries), to, now)
        self._runs[run.run_id] = changed
        self._board.hint((log_topic(run.run_id),))
        if to is not None:
            self._board.hint((READY, end_topic(run.run_id)))
        return changed

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
        run = self._runs.get(lease.run_id)
        return (
            run is not None
            and (run.state, run.owner, run.fence) == (RunState.RUNNING, lease.owner, lease.fence)
            and run.control_seq <= seen
        )

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        run = self._get(run_id)
        if run.state.terminal:
            raise RunEnded(run_id, run.state)
        now = self._clock()
        self._controls[run_id] += self._write(run, entries, now)
        changed = posted(run, len(entries), now)
        self._runs[run_id] = changed
        self._board.hint((READY, log_topic(run_id), control_topic(run_id)))
        return changed

    def _write(self, run: Run, entries: Sequence[Entry], now: float) -> list[Stored]:
        written = [Stored(seq, now, entry.kind, entry.body) for seq, entry in enumerate(entries, run.seq + 1)]
        self._logs[run.run_id] += written
        return written

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        self._get(run_id)
        if control:
            return [stored for stored in self._controls[run_id] if stored.seq > after][:limit]
        return self._logs[run_id][after : after + limit]

    async def run(self, run_id: str) -> Run:
        return self._get(run_id)

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        run = self._get(run_id)
        return run, self._logs[run_id][-1] if run.state.terminal else None

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
            raise InvalidCursor(cursor)
        top = int(cursor) if cursor is not None else math.inf
        found = [
            run
            for run in reversed(self._runs.values())
            if self._numbers[run.run_id] < top
            and where.workflow in (None, run.workflow)
            and where.state in (None, run.state)
            and where.tenant in (None, run.lane.tenant)
            and (where.tag is None or where.tag in run.tags)
            and (where.created_after is None or run.created > where.created_after)
        ]
        page = tuple(found[:limit])
        return RunPage(page, str(self._numbers[page[-1].run_id]) if len(found) > limit else None)

    async def claim(
        self, worker: str, terms: Mapping[str, Terms], *, build: str = "", limit: int, lease_s: float
    ) -> list[Claim]:
        now = self._clock()
        turns, lines = self._turns(terms, build, now)
        due = {lane: [run for run in runs if run.due is not None and run.due <= now] for lane, runs in lines.items()}
        claims: list[Claim] = []
        for run in turns.take(due, limit):
            owner = f"{worker}#{next(self._count)}"
            pin = build if terms[run.workflow].pinned else ""
            changed = claimed(run, owner, now, lease_s, pin)
            self._runs[run.run_id] = changed
            records = self._logs[run.run_id][:] if run.seq <= SHORT else ()
            claims.append(Claim(Lease(run_id=run.run_id, owner=owner, fence=changed.fence), changed, records))
        self._buckets |= turns.buckets
        return claims

    def _turns(self, terms: Mapping[str, Terms], build: str, now: float) -> tuple[Turns, dict[Lane, list[Run]]]:
        """What turns are decided by, and per lane of these terms its live runs that will come due, soonest first."""
        turns, lines = Turns(terms), dict[Lane, list[Run]]()
        for run in sorted((r for r in self._runs.values() if r.due is not None), key=lambda run: run.due or 0.0):
            lane, limits = run.lane, terms.get(run.workflow)
            if run.state is RunState.RUNNING:
                turns.at_work[lane.tenant] = turns.at_work.get(lane.tenant, 0) + 1
                turns.through[gate_of(lane)] = turns.through.get(gate_of(lane), 0) + 1
            if limits is None or lane.build not in ("", build):
                continue
            lines.setdefault(lane, []).append(run)
            if limits.starts is not None:
                bucket = self._buckets.get(gate_of(lane)) or full_bucket(limits, now)
                turns.buckets[gate_of(lane)] = bucket.refilled(limits, now)
        return turns, lines

    async def renew(self, leases: Sequence[Lease], *, lease_s: float) -> Mapping[str, int]:
        held: dict[str, int] = {}
        for lease in leases:
            run = self._runs.get(lease.run_id)
            if run is not None and (run.state, run.owner, run.fence) == (RunState.RUNNING, lease.owner, lease.fence):
                self._runs[run.run_id] = msgspec.structs.replace(run, due=self._clock() + lease_s)
                held[run.run_id] = run.control_seq
        return held

    async def next_due(self, terms: Mapping[str, Terms], *, build: str = "") -> float | None:
        now = self._clock()
        turns, lines = self._turns(terms, build, now)
        times = [turns.when(run, now) for runs in lines.values() for run in runs]
        return min((when for when in times if when < math.inf), default=None)

    async def lanes(self) -> list[LaneCount]:
        live = [run for run in self._runs.values() if not run.state.terminal]
        counts = Counter(run.lane for run in live)
        running = Counter(run.lane for run in live if run.state is RunState.RUNNING)
        found = [LaneCount(lane=lane, live=count, running=running[lane]) for lane, count in counts.items()]
        return sorted(found, key=lambda count: msgspec.structs.astuple(count.lane))

    async def unpin(self, build: str) -> int:
        pinned = [run for run in self._runs.values() if run.lane.build == build and not run.state.terminal]
        for run in pinned:
            self._runs[run.run_id] = msgspec.structs.replace(run, lane=msgspec.structs.replace(run.lane, build=""))
        self._board.hint((READY,))
        return len(pinned)

    async def prune(self, before: float, *, keep: int | None = None, limit: int) -> int:
        ended = sorted((run for run in self._runs.values() if run.state.terminal), key=lambda run: run.updated)
        beyond = 0 if keep is None else max(0, len(ended) - keep)
        ended = [run for n, run in enumerate(ended) if run.updated < before or n < beyond][:limit]
        for run in ended:
            self._pruned.add(run.run_id)
            for table in (self._runs, self._numbers, self._logs, self._controls, self._blobs):
                table.pop(run.run_id, None)
        return len(ended)

    async def blob_put(self, run_id: str, digest: str, data: bytes) -> None:
        self._blobs.setdefault(run_id, {})[digest] = data

    async def blob_get(self, run_id: str, digest: str) -> bytes:
        try:
            return self._blobs[run_id][digest]
        except KeyError:
            raise BlobNotFound(run_id, digest) from None

    async def cache_get(self, key: str) -> bytes | None:
        value, expires = self._cache.get(key, (None, 0.0))
        return value if expires > self._clock() else None

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        now = self._clock()
        self._cache = {name: entry for name, entry in self._cache.items() if entry[1] > now}
        self._cache[key] = (value, now + ttl_s)

    async def draw(self, holder: str, draws: Sequence[Draw], *, lease_s: float) -> list[Grant]:
        now = self._clock()
        return [
            draw(self._reservoirs.setdefault(one.reservoir, Reservoir()), one, holder, now, lease_s) for one in draws
        ]

    async def beat(self, info: WorkerInfo) -> None:
        self._workers = {young.name: young for young in await self.workers()}
        self._workers[info.name] = msgspec.structs.replace(info, beat=self._clock())

    async def forget_worker(self, name: str) -> None:
        self._workers.pop(name, None)

    async def workers(self) -> list[WorkerInfo]:
        young = self._clock() - 3600
        return [info for _, info in sorted(self._workers.items()) if info.beat > young]

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        return self._board.watch(*topics)

    def _get(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            raise RunPruned(run_id) if run_id in self._pruned else RunNotFound(run_id)
        return run


@asynccontextmanager
async def open_memory(*, clock: Callable[[], float] = time.time) -> AsyncIterator[MemoryTransport]:
    """Open an empty store for the life of the block."""
    yield MemoryTransport(clock)
