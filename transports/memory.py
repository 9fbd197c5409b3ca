"""The memory transport: the contract in one process, for tests, simulation and trying things out.

Why: every call is one synchronous step over plain dicts, so it is atomic by construction and deterministic. It is
also the plainest telling of what the other transports do. Nothing survives the process.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from .contract import (
    READY,
    Claim,
    ControlPending,
    Entry,
    Fenced,
    InvalidCursor,
    KeyConflict,
    Lease,
    NewRun,
    Run,
    RunEnded,
    RunFilter,
    RunNotFound,
    RunPage,
    RunState,
    Stored,
    Transition,
    Watch,
    WorkerInfo,
    control_topic,
    log_topic,
)
from .hints import Board
from .transitions import appended, claimed, posted, queued


class MemoryTransport:
    """The contract over dicts.

    Args:
        clock: seconds since the epoch.
    """

    url = "memory://"
    durability = "an acknowledged write survives nothing: it ends with the process"

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
        self._owners = itertools.count(1)

    async def now(self) -> float:
        return self._clock()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        if new.key is not None and new.key in self._keys:
            run_id, digest = self._keys[new.key]
            if digest != new.digest:
                raise KeyConflict(new.key, run_id)
            return self._runs[run_id], False
        if new.run_id in self._runs:
            raise KeyConflict(new.run_id, new.run_id)
        now = self._clock()
        run = queued(new, now)
        if new.key is not None:
            self._keys[new.key] = (new.run_id, new.digest)
        self._numbers[run.run_id] = len(self._numbers) + 1
        self._runs[run.run_id] = run
        self._logs[run.run_id] = [Stored(1, now, new.first.kind, new.first.body)]
        self._controls[run.run_id] = []
        self._board.hint((READY, log_topic(run.run_id)))
        return run, True

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        run = self._get(lease.run_id)
        if (run.state, run.owner, run.fence) != (RunState.RUNNING, lease.owner, lease.fence):
            raise Fenced(lease.run_id)
        if seen is not None and run.control_seq > seen:
            raise ControlPending(run.run_id, run.control_seq)
        now = self._clock()
        self._write(run, entries, now)
        changed = appended(run, len(entries), to, now)
        self._runs[run.run_id] = changed
        self._board.hint((log_topic(run.run_id), READY) if to is not None else (log_topic(run.run_id),))
        return changed

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

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
            raise InvalidCursor(cursor)
        top = int(cursor) if cursor is not None else len(self._runs) + 1
        found = [
            run
            for run in reversed(self._runs.values())
            if self._numbers[run.run_id] < top
            and where.workflow in (None, run.workflow)
            and where.state in (None, run.state)
            and (where.tag is None or where.tag in run.tags)
            and (where.created_after is None or run.created > where.created_after)
        ]
        page = tuple(found[:limit])
        return RunPage(page, str(self._numbers[page[-1].run_id]) if len(found) > limit else None)

    async def claim(self, worker: str, workflows: Sequence[str], *, limit: int, lease_s: float) -> list[Claim]:
        now = self._clock()
        due = [(run.due, run) for run in self._live(workflows) if run.due is not None and run.due <= now]
        claims: list[Claim] = []
        for _, run in sorted(due, key=lambda pair: pair[0])[:limit]:
            owner = f"{worker}#{next(self._owners)}"
            changed = claimed(run, owner, now, lease_s)
            self._runs[run.run_id] = changed
            claims.append(Claim(Lease(run_id=run.run_id, owner=owner, fence=changed.fence), changed))
        return claims

    async def renew(self, leases: Sequence[Lease], *, lease_s: float) -> Mapping[str, int]:
        held: dict[str, int] = {}
        for lease in leases:
            run = self._runs.get(lease.run_id)
            if run is not None and (run.state, run.owner, run.fence) == (RunState.RUNNING, lease.owner, lease.fence):
                self._runs[run.run_id] = msgspec.structs.replace(run, due=self._clock() + lease_s)
                held[run.run_id] = run.control_seq
        return held

    async def next_due(self, workflows: Sequence[str]) -> float | None:
        return min((run.due for run in self._live(workflows) if run.due is not None), default=None)

    def _live(self, workflows: Sequence[str]) -> list[Run]:
        return [run for run in self._runs.values() if not run.state.terminal and run.workflow in workflows]

    async def cache_get(self, key: str) -> bytes | None:
        value, expires = self._cache.get(key, (None, 0.0))
        return value if expires > self._clock() else None

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        now = self._clock()
        self._cache = {name: entry for name, entry in self._cache.items() if entry[1] > now}
        self._cache[key] = (value, now + ttl_s)

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
            raise RunNotFound(run_id)
        return run


@asynccontextmanager
async def open_memory(*, clock: Callable[[], float] = time.time) -> AsyncIterator[MemoryTransport]:
    """Open an empty store for the life of the block."""
    yield MemoryTransport(clock)
