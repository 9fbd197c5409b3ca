"""A core for each layer, as each has in production: so that a figure is of the layers and not of who shares a core.

Why: on one core, whoever wants to answer waits until the kernel takes the core from whoever works, 3 ms and more. That
is right to know, and so what is measured so is also measured without (`SHARED`). But it says nothing of the design, in
which workers and APIs share nothing but the store.

With two cores there is none left for Redis. It is put on the worker's: on the API's, whatever it does for the worker
would keep the API from running. And the worker is put behind it (`SCHED_IDLE`: it runs when nobody else wants to), so
that the server works when it has something to do, as on a core of its own; the worker uses up what is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from redis import Redis


class Cores(NamedTuple):
    """Which core is whose. The load comes from the API's."""

    api: int
    store: int
    worker: int


def cores() -> Cores | None:
    """Give each layer a core; None where that cannot be: one core, or a system that does not let us choose."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[len(allowed) // 2], allowed[-1]) if len(allowed) > 1 else None


@contextmanager
def placed(where: Cores, *, api: int, worker: int, store: str) -> Iterator[None]:
    """Put processes on their cores, and this one on the API's for the life of the block.

    Args:
        where: whose core is which.
        api: its process.
        worker: its process.
        store: its URL; a Redis server's process is asked for, SQLite has none.
    """
    pins = [(api, where.api), (worker, where.worker)]
    if store.startswith("redis"):
        with Redis.from_url(store) as redis:
            pins.append((redis.info("server")["process_id"], where.store))
    for process, core in pins:
        for thread in _threads(process):
            os.sched_setaffinity(thread, {core})
    if where.store == where.worker:
        for thread in _threads(worker):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {where.api})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _threads(process: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
