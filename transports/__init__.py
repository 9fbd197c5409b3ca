"""Where API and workers meet: the contract (`contract.py`), memory, SQLite and Redis behind it, `open_transport`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from .contract import READY, Transport, Watch, control_topic, digest, end_topic, log_topic
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
    UnknownTransport,
)
from .memory import MemoryTransport, open_memory
from .tenant import of_tenant
from .values import (
    Append,
    Bound,
    Claim,
    Draw,
    Entry,
    Finish,
    Grant,
    HandOver,
    Lane,
    LaneCount,
    Lease,
    Need,
    NewRun,
    Park,
    Run,
    RunFilter,
    RunPage,
    RunState,
    Stored,
    Terms,
    Transition,
    WorkerInfo,
)
from .wrapped import Codec, CodecMissing, wrapped

__all__ = [
    "READY",
    "Append",
    "BlobNotFound",
    "Bound",
    "Claim",
    "Codec",
    "CodecMissing",
    "ControlPending",
    "Draw",
    "Entry",
    "Fenced",
    "Finish",
    "Grant",
    "HandOver",
    "InvalidCursor",
    "KeyConflict",
    "Lane",
    "LaneCount",
    "Lease",
    "MemoryTransport",
    "Need",
    "NewRun",
    "Park",
    "Run",
    "RunEnded",
    "RunFilter",
    "RunNotFound",
    "RunPage",
    "RunPruned",
    "RunState",
    "StoreUnavailable",
    "Stored",
    "Terms",
    "Transition",
    "Transport",
    "TransportError",
    "UnknownTransport",
    "Watch",
    "WorkerInfo",
    "control_topic",
    "digest",
    "end_topic",
    "log_topic",
    "of_tenant",
    "open_transport",
    "wrapped",
]

REDIS = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
"""What the URLs of Redis and Valkey begin with."""


@asynccontextmanager
async def open_transport(
    url: str, *, codecs: Sequence[Codec] = (), clock: Callable[[], float] | None = None
) -> AsyncIterator[Transport]:
    """Open a store for the life of an `async with`.

    Args:
        url: `memory://` (a new one at each open), `sqlite:///relative.db`, `sqlite:////absolute.db`,
            `redis://host:port/db` or `rediss://`, `redis+sentinel://host:port,.../service`, `redis+cluster://host:port`.
        codecs: the first one wraps the bodies of records and cached values, the others are known for reading.
        clock: seconds since the epoch; None for this host's clock, and for Redis the server's.

    Raises:
        UnknownTransport: no store of this kind.
        StoreUnavailable: the store cannot be opened; says why and what to do.
    """
    async with _opened(url, clock) as store:
        yield wrapped(store, codecs, blob_bytes=store.blob_bytes)


def _opened(url: str, clock: Callable[[], float] | None) -> AbstractAsyncContextManager[Transport]:
    scheme, found, rest = url.partition("://")
    if found and scheme == "memory":
        return open_memory(clock=clock or time.time)
    if found and scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        from .sqlite import open_sqlite

        return open_sqlite(Path(rest[1:]), url, clock=clock or time.time)
    if found and scheme in REDIS:
        from .redis import open_redis

        return open_redis(url, clock=clock)
    raise UnknownTransport(scheme if found else "")
