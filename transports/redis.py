"""The Redis transport: production. Redis 7 or Valkey, alone, behind sentinels, or a cluster; workers on any host.

Why: API processes and workers on many hosts need one place to meet. Here is what each call of the contract asks the
server for: one script a call (`redis_scripts.py`), so that it happens whole or not at all; how the calls get there, and
survive a connection that breaks, is the line's affair (`redis_line.py`).

All keys of a store have one hash tag, `{prefix}`: every script stays in one slot, and nothing is ever handed over
between two. A cluster gives such a store its failover, and many stores (prefixes) its breadth.

Leases, timers and times are by the server's clock: workers' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from . import redis_scripts as scripts
from .contract import Watch
from .errors import (
    BlobNotFound,
    ControlPending,
    Fenced,
    InvalidCursor,
    KeyConflict,
    RunEnded,
    RunNotFound,
    RunPruned,
    StoreUnavailable,
    TransportError,
)
from .hints import Board
from .redis_hints import Ear
from .redis_line import Line, Question, Statistics
from .redis_rows import (
    decode_grants,
    decode_lane,
    decode_numbered,
    decode_records,
    decode_run,
    encode_appends,
    encode_fixed,
    encode_lane,
    encode_terms,
    escaped,
    number,
    portions,
)
from .redis_schema import VERSION
from .redis_scripts import Script
from .redis_server import UNREACHED, Elsewhere, Server, check, durability, hang_up, passing, read_info
from .redis_url import parse_url
from .transitions import queued
from .values import (
    Append,
    Claim,
    Draw,
    Entry,
    Grant,
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

PRUNE = 100
"""Runs pruned by one script at most: the server does nothing else meanwhile."""

log = logging.getLogger("greenroom.redis")


class RedisTransport:
    """The contract over a Redis or Valkey server. Made by `open_redis`."""

    blob_bytes: int | None = None
    forgets = True

    def __init__(
        self,
        server: Server,
        lines: tuple[Line, Line],
        ear: Ear,
        durability: str,
        clock: Callable[[], float] | None,
    ) -> None:
        self.url = server.settings.url
        self.durability = durability
        self._base = server.settings.base.encode()
        self._writes, self._reads = lines
        self._may_append = Question(self._reads, scripts.may_append)
        self._ear = ear
        self._clock = clock
        self._session = lines[0].session
        self._count = itertools.count(1)

    def statistics(self) -> Statistics:
        """Return how many writing calls have shared how many round trips."""
        return self._writes.statistics()

    async def update(self) -> None:
        """Bring the store to the schema of this code.

        Raises:
            StoreUnavailable: it is newer.
        """
        _, kept, used = await self._ask(scripts.look)
        known = int(kept) if kept else 1 if used else VERSION
        if known > VERSION:
            raise StoreUnavailable(
                f"{self.url} has schema {known}, and this greenroom knows up to {VERSION}: "
                "upgrade greenroom, or name another store with '?prefix='"
            )
        if known < VERSION:
            await self._ask(scripts.migrate)
            log.warning("%s is brought from schema %d to %d: older versions refuse it", self.url, known, VERSION)

    async def now(self) -> float:
        return float((await self._ask(scripts.now))[1])

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        answer = await self._ask(
            scripts.create,
            _text(new.run_id),
            encode_lane(new.lane),
            b"" if new.due is None else number(new.due),
            b"0" if new.key is None else b"1",
            _text(new.key or ""),
            _text(new.digest),
            encode_fixed(new),
            self._nonce(),
            _text(new.lane.workflow),
            _text(new.lane.tenant),
            b"%d" % len(new.tags),
            *map(_text, new.tags),
            *_flat(new.entries),
        )
        match answer:
            case [b"ok", created]:
                return queued(new, float(created)), True
            case [b"known", row]:
                return decode_run(row), False
            case [b"conflict", run_id]:
                raise KeyConflict(new.key or "", run_id.decode())
            case [b"pruned", run_id]:
                raise RunPruned(run_id.decode())
        raise KeyConflict(new.run_id, new.run_id)

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        appends = [Append(lease, entries, to, seen)]
        answer = await self._begin(appends, row_wanted=True)
        for refusal in _refusals(answer, appends):
            if refusal is not None:
                raise refusal
        return decode_run(answer[2])

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        begun = [(some, self._begin(some)) for some in portions(appends)]
        refusals: list[TransportError | None] = []
        try:
            for some, answer in begun:
                try:
                    refusals += _refusals(await answer, some)
                except StoreUnavailable as refusal:
                    refusals += [refusal] * len(some)
        finally:
            for _, answer in begun:
                answer.cancel()
        return refusals

    def _begin(self, appends: Sequence[Append], *, row_wanted: bool = False) -> asyncio.Future[Any]:
        now = b"" if self._clock is None else number(self._clock())
        heads, bodies = encode_appends(appends, self._owner)
        return self._writes.script(scripts.append, now, heads, bodies, self._nonce(), b"%d" % row_wanted)

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
        about = (_text(lease.run_id), _text(self._owner(lease)), b"%d" % lease.fence, b"%d" % seen)
        return await self._may_append.ask(*about) and not self._session.ended(lease.owner)

    def _owner(self, lease: Lease) -> str:
        """Return who holds a lease; nobody if its session has ended."""
        return "" if self._session.ended(lease.owner) else lease.owner

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        answer = await self._ask(scripts.post, _text(run_id), self._nonce(), *_flat(entries))
        match answer:
            case [b"ok", row]:
                return decode_run(row)
            case [b"ended", state]:
                raise RunEnded(run_id, RunState(state.decode()))
        raise _gone(answer, run_id)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        answer = await self._ask(scripts.read, _text(run_id), b"%d" % after, b"%d" % limit, b"1" if control else b"0")
        match answer:
            case [b"ok", heads, bodies]:
                return decode_records(heads, bodies)
        raise _gone(answer, run_id)

    async def run(self, run_id: str) -> Run:
        answer = await self._ask(scripts.run, _text(run_id))
        match answer:
            case [b"ok", row]:
                return decode_run(row)
        raise _gone(answer, run_id)

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        answer = await self._ask(scripts.end, _text(run_id))
        match answer:
            case [b"ok", row]:
                return decode_run(row), None
            case [b"ok", row, heads, bodies]:
                return decode_run(row), decode_records(heads, bodies)[0]
        raise _gone(answer, run_id)

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        if cursor is not None and not (cursor.isdecimal() and cursor.isascii() and len(cursor) < 16):
            raise InvalidCursor(cursor)
        top = b"+inf" if cursor is None else b"(%d" % int(cursor)
        filters = [b"" if value is None else b"=" + _text(value) for value in (where.workflow, where.state)]
        filters += [b"" if value is None else b"=" + _text(value) for value in (where.tenant, where.tag)]
        after = b"" if where.created_after is None else number(where.created_after)
        found: list[tuple[Run, int]] = []
        while top and len(found) <= limit:
            _, top, rows = await self._ask(scripts.runs, top, b"%d" % (limit + 1 - len(found)), *filters, after)
            found += map(decode_numbered, rows)
        page = found[:limit]
        return RunPage(tuple(run for run, _ in page), str(page[-1][1]) if len(found) > limit else None)

    async def claim(
        self, worker: str, terms: Mapping[str, Terms], *, build: str = "", limit: int, lease_s: float
    ) -> list[Claim]:
        if not terms or limit < 1:
            return []
        nonce = self._nonce()
        answer, *rest = await self._try(
            scripts.claim,
            _text(escaped(build)),
            encode_terms(terms),
            b"%d" % limit,
            number(lease_s),
            _text(f"{worker}#") + nonce + b".",
            nonce,
        )
        claims = []
        for row, heads, bodies in rest[0] if answer == b"ok" else ():
            run = decode_run(row)
            assert run.owner is not None
            records = decode_records(heads, bodies) if heads else ()
            claims.append(Claim(Lease(run_id=run.run_id, owner=run.owner, fence=run.fence), run, records))
        return claims

    async def renew(self, leases: Sequence[Lease], *, lease_s: float) -> Mapping[str, int]:
        leases = [lease for lease in leases if not self._session.ended(lease.owner)]
        words = [word for lease in leases for word in (_text(lease.run_id), _text(lease.owner), b"%d" % lease.fence)]
        if not words:
            return {}
        match await self._try(scripts.renew, number(lease_s), *words):
            case [b"ok", held]:
                return {run_id.decode(): int(seq) for run_id, seq in zip(held[::2], held[1::2], strict=True)}
        return {}

    async def next_due(self, terms: Mapping[str, Terms], *, build: str = "") -> float | None:
        if not terms:
            return None
        _, due = await self._ask(scripts.next_due, _text(escaped(build)), encode_terms(terms))
        return float(due) if due else None

    async def lanes(self) -> list[LaneCount]:
        _, found = await self._ask(scripts.lanes)
        counts = [
            LaneCount(lane=decode_lane(name.decode()), live=live, running=int(running)) for name, live, running in found
        ]
        return sorted(counts, key=lambda count: msgspec.structs.astuple(count.lane))

    async def unpin(self, build: str) -> int:
        return int((await self._ask(scripts.unpin, _text(escaped(build))))[1])

    async def prune(self, before: float, *, keep: int | None = None, limit: int) -> int:
        kept = b"" if keep is None else b"%d" % keep
        pruned = 0
        while pruned < limit:
            some = min(PRUNE, limit - pruned)
            _, count = await self._ask(scripts.prune, number(before), kept, b"%d" % some)
            pruned += count
            if count < some:
                break
        return pruned

    async def blob_put(self, run_id: str, digest: str, data: bytes) -> None:
        await self._writes.command(b"HSET", self._base + b"blobs:" + _text(run_id), _text(digest), data)

    async def blob_get(self, run_id: str, digest: str) -> bytes:
        data = await self._reads.command(b"HGET", self._base + b"blobs:" + _text(run_id), _text(digest))
        if data is None:
            raise BlobNotFound(run_id, digest)
        return bytes(data)

    async def cache_get(self, key: str) -> bytes | None:
        kept = await self._reads.command(b"GET", self._base + b"cache:" + _text(key))
        if kept is None:
            return None
        expires, _, value = kept.partition(b" ")
        return bytes(value) if self._clock is None or float(expires) > self._clock() else None

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        expires = b"" if self._clock is None else number(self._clock() + ttl_s)
        ms = b"%d" % max(1, round(1000 * ttl_s))
        await self._writes.command(b"SET", self._base + b"cache:" + _text(key), expires + b" " + value, b"PX", ms)

    async def draw(self, holder: str, draws: Sequence[Draw], *, lease_s: float) -> list[Grant]:
        if not draws:
            return []
        asked = msgspec.msgpack.encode(draws)
        return decode_grants((await self._ask(scripts.draw, _text(holder), number(lease_s), asked, self._nonce()))[1])

    async def beat(self, info: WorkerInfo) -> None:
        await self._ask(scripts.beat, _text(info.name), msgspec.json.encode(info))

    async def forget_worker(self, name: str) -> None:
        await self._ask(scripts.forget, _text(name))

    async def workers(self) -> list[WorkerInfo]:
        _, found = await self._ask(scripts.workers)
        workers = [
            msgspec.structs.replace(msgspec.json.decode(info, type=WorkerInfo), beat=float(beat))
            for info, beat in found
        ]
        return sorted(workers, key=lambda info: info.name)

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        return self._ear.watch(*topics)

    async def _ask(self, script: Script, *arguments: bytes) -> Any:
        """Run a script; if the store has lost writes, run it in the next session."""
        answer = await self._try(script, *arguments)
        while answer[0] == b"lost":
            answer = await self._try(script, *arguments, again=True)
        return answer

    async def _try(self, script: Script, *arguments: bytes, again: bool = False) -> Any:
        line = self._writes if script.writes else self._reads
        now = b"" if self._clock is None else number(self._clock())
        return await line.script(script, now, *arguments, again=again)

    def _nonce(self) -> bytes:
        return f"{self._session.name}.{next(self._count)}".encode()


def _text(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _flat(entries: Sequence[Entry]) -> list[bytes]:
    return [part for entry in entries for part in (entry.kind.encode(), entry.body)]


def _refusals(answer: Sequence[Any], appends: Sequence[Append]) -> list[TransportError | None]:
    """Return what became of each append."""
    if answer[0] == b"lost":
        return [Fenced(append.lease.run_id) for append in appends]
    refusals: list[TransportError | None] = [None] * len(appends)
    for nth, why, seq in answer[1]:
        run_id = appends[nth - 1].lease.run_id
        match why:
            case b"control":
                refusals[nth - 1] = ControlPending(run_id, seq)
            case b"fenced":
                refusals[nth - 1] = Fenced(run_id)
            case _:
                refusals[nth - 1] = _gone([why], run_id)
    return refusals


def _gone(answer: Sequence[bytes], run_id: str) -> RunNotFound:
    return RunPruned(run_id) if answer[0] == b"pruned" else RunNotFound(run_id)


async def _look(server: Server) -> str:
    """Check that the server will do; return what an acknowledged write survives there."""
    deadline = asyncio.get_running_loop().time() + 2 * server.settings.timeout_s
    while True:
        try:
            connection = await server.dial()
            try:
                about = read_info(await server.ask(connection, "INFO", "everything"))
                check(server.settings, about)
                try:
                    fsync = (await server.ask(connection, "CONFIG", "GET", "appendfsync"))[1].decode()
                except (ResponseError, IndexError):
                    fsync = ""
                return durability(server.settings, about, fsync)
            finally:
                await hang_up(connection)
        except (*UNREACHED, Elsewhere) as error:
            if passing(error) and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.1)
                continue
            reached = isinstance(error, ResponseError)
            raise (server.refused(error) if reached else server.unreached(error)) from None


@asynccontextmanager
async def open_redis(url: str, *, clock: Callable[[], float] | None = None) -> AsyncIterator[RedisTransport]:
    """Open a store for the life of the block.

    Args:
        url: see `redis_url.py`.
        clock: seconds since the epoch; None for the server's clock.

    Raises:
        StoreUnavailable: the URL cannot be read, or the server cannot be reached or will not do; says what to do.
    """
    server = Server(parse_url(url))
    promise = await _look(server)
    lines, ear = (Line(server), Line(server)), Ear(server, Board())
    group = asyncio.TaskGroup()
    await group.__aenter__()
    tasks = [group.create_task(part.run()) for part in (*lines, ear)]
    try:
        store = RedisTransport(server, lines, ear, promise, clock)
        await store.update()
        yield store
    finally:
        for task in tasks:
            task.cancel()
        try:
            await group.__aexit__(None, None, None)
        finally:
            for line in lines:
                line.close()
