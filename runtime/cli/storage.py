"""What `greenroom doctor` finds of the store: whether it opens, what survives there, what its place wants known.

A database that is not there is not made, and one of an older version is left as it is. Whether anybody executes what
is in it is found here too: a run that nobody can claim is the quietest fault there is.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio

from ...transports import StoreUnavailable, Transport, TransportError, open_transport
from ...transports.sqlite_migrations import VERSION
from ...transports.sqlite_schema import WAL_RESET_BUG
from ..facade import Runtime
from .finding import Finding
from .store import sqlite_file

FULL_BYTES, LOW_BYTES = 64 * 1024**2, 1024**3
"""Free space below which nothing should be started, and below which it is worth a word."""

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})
"""File systems over a network, where SQLite's locks cannot be relied on."""

MOUNTS = Path("/proc/mounts")


def storage(
    url: str,
    runtime: Runtime | None = None,
    *,
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    mounts: Path = MOUNTS,
) -> list[Finding]:
    """Look at a store.

    Args:
        url: where it is.
        runtime: what should execute its runs, if that is known.
        free: bytes that a folder's disk has left.
        mounts: the system's list of file systems.
    """
    file = sqlite_file(url)
    place = [] if file is None or not file.parent.is_dir() else [*_disk(file.parent, free), *_network(file, mounts)]
    return [*_store(url, runtime), *place]


def _disk(folder: Path, free: Callable[[Path], int]) -> Iterator[Finding]:
    left = free(folder)
    text = f"{left / 1024**2:,.0f} MiB are free where the database is"
    if left < FULL_BYTES:
        yield Finding("disk", "mend", f"{text}: when it is full nothing is written: free some space", 3)
    elif left < LOW_BYTES:
        yield Finding("disk", "look", f"{text}: free some space, or set a retention")
    else:
        yield Finding("disk", "ok", text)


def _network(file: Path, mounts: Path) -> Iterator[Finding]:
    """Whether the file lies on another machine: the mount with the longest path above it counts."""
    try:
        rows = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return
    at = file.parent.resolve()
    above = [row for row in rows if len(row) > 2 and at.is_relative_to(row[1].replace("\\040", " "))]
    kind = max(above, key=lambda row: len(row[1]), default=["", "", ""])[2]
    if kind in NETWORK:
        text = f"the database is on {kind}, a network file system, where SQLite can lose what it wrote: "
        yield Finding("file system", "mend", f"{text}put it on a local disk, or use Redis", 2)


async def _work(store: Transport, runtime: Runtime | None) -> list[Finding]:
    """Whether what waits in the store is claimed by somebody."""
    workers = await store.workers()
    at_work = [worker for worker in workers if not worker.draining]
    builds = {worker.build for worker in at_work}
    found: list[Finding] = []
    alone: dict[str, int] = {}
    unknown: dict[str, int] = {}
    live = 0
    for count in await store.lanes():
        live += count.live
        if count.lane.build and count.lane.build not in builds:
            alone[count.lane.build] = alone.get(count.lane.build, 0) + count.live
        if runtime is not None and count.lane.workflow not in runtime.workflows:
            unknown[count.lane.workflow] = unknown.get(count.lane.workflow, 0) + count.live
    if live and not at_work:
        text = f"{live} run(s) go on, and no worker was heard of lately: start one (greenroom worker)"
        found.append(Finding("workers", "look", text))
    for build, runs in sorted(alone.items()):
        text = f"{runs} run(s) are pinned to build {build}, which no worker has: start one that has it, "
        found.append(Finding("builds", "look", f"{text}or run greenroom builds --retire {build}"))
    for workflow, runs in sorted(unknown.items()):
        text = f"{runs} run(s) of {workflow} go on, which the target does not have: add it, or cancel them"
        found.append(Finding("workflows", "look", text))
    return found


def _sqlite() -> Finding:
    if WAL_RESET_BUG:
        return Finding("sqlite", "look", f"{WAL_RESET_BUG} that writes; back up with VACUUM INTO")
    return Finding("sqlite", "ok", sqlite3.sqlite_version)


def _store(url: str, runtime: Runtime | None) -> list[Finding]:
    """Whether it opens, what an acknowledged write survives there, and what its kind wants known."""
    file = sqlite_file(url)
    if file is not None and not file.exists() and file.parent.is_dir():
        if os.access(file.parent, os.W_OK):
            return [Finding("store", "ok", f"{url} will be made by the first command that writes"), _sqlite()]
        text = f"the folder {file.parent.resolve()} cannot be written: name another file"
        return [Finding("store", "mend", text, 3)]
    schema = _schema(file) if file is not None else None
    if schema is not None and schema.how != "ok":
        return [schema, _sqlite()]  # to open it is to change it
    try:
        opened = anyio.run(_opened, url, runtime)
        return opened if schema is None else [*opened, schema, _sqlite()]
    except StoreUnavailable as error:
        return [Finding("store", "mend", str(error), 3)]
    except TransportError as error:
        return [Finding("store", "mend", str(error), 2)]


async def _opened(url: str, runtime: Runtime | None) -> list[Finding]:
    known: list[Finding] = []
    if url.startswith("redis"):
        from ...transports.redis_checkup import checkup

        known = [Finding(note.what, "ok" if note.well else "look", note.text) for note in await checkup(url)]
        if any(one.what == "schema" and one.how != "ok" for one in known):
            return known  # to open it is to change it
    async with open_transport(url) as store:
        how = "look" if url.startswith("memory:") else "ok"
        return [Finding("store", how, f"{store.url} opens; {store.durability}"), *known, *await _work(store, runtime)]


def _schema(file: Path) -> Finding | None:
    """What is known of the file's schema before it is opened; None where opening it will say what is wrong."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    if 0 < number < VERSION:
        text = f"{file} has {number}: what opens it next brings it to {VERSION}, and then older versions refuse it; "
        return Finding("schema", "look", f"{text}keep a copy made with VACUUM INTO, or stop the older ones first")
    return Finding("schema", "ok", f"{number}, which this greenroom writes") if number == VERSION else None
