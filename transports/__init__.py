"""Where API and workers meet: the store contract (`contract.py`), memory and SQLite behind it, and `open_transport`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from .contract import READY, Transport, Watch, control_topic, digest, log_topic
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
from .values import (
    Claim,
    Entry,
    Finish,
    HandOver,
    Lane,
    LaneCount,
    Lease,
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

__all__ = [
    "READY",
    "BlobNotFound",
    "Claim",
    "ControlPending",
    "Entry",
    "Fenced",
    "Finish",
    "HandOver",
    "InvalidCursor",
    "KeyConflict",
    "Lane",
    "LaneCount",
    "Lease",
    "MemoryTransport",
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
    "log_topic",
    "open_transport",
]


def open_transport(url: str, *, clock: Callable[[], float] = time.time) -> AbstractAsyncContextManager[Transport]:
    """Open a store for the life of an `async with`.

    Args:
        url: `memory://` (a new one at each open), `sqlite:///relative.db`, `sqlite:////absolute.db`.
        clock: seconds since the epoch.

    Raises:
        UnknownTransport: no store of this kind.
        StoreUnavailable: on entering: the store cannot be opened; says why and what to do.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme == "memory":
        return open_memory(clock=clock)
    if found and scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        from .sqlite import open_sqlite

        return open_sqlite(Path(rest[1:]), url, clock=clock)
    raise UnknownTransport(scheme if found else "")
