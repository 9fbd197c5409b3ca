"""The SQLite file: its tables, its version, and opening it with errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from .errors import StoreUnavailable

APPLICATION_ID = 0x67726E72
"""Marks the file as greenroom's ("grnr")."""

VERSION = 1
"""The schema this code writes; kept in `PRAGMA user_version`."""

BUSY_S = 10.0
"""How long a write waits for another process's write, seconds."""

WAL_BYTES = 64 * 1024 * 1024
"""What is kept of the write-ahead log's file after a checkpoint, bytes."""

WAL_RESET_BUG = (
    ""
    if sqlite3.sqlite_version_info >= (3, 51, 3)
    or (3, 50, 7) <= sqlite3.sqlite_version_info < (3, 51)
    or (3, 44, 6) <= sqlite3.sqlite_version_info < (3, 45)
    else f"SQLite {sqlite3.sqlite_version} has a rare bug that can damage such a file "
    "(sqlite.org/wal.html#walresetbug): use a Python with SQLite 3.51.3 or newer, or one process"
)
"""What to say of this build when several processes write to one file; empty if it is sound."""

TABLES = """
CREATE TABLE runs (
    number      INTEGER PRIMARY KEY,
    run_id      TEXT NOT NULL UNIQUE,
    lane        TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    state       TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    control_seq INTEGER NOT NULL,
    created     REAL NOT NULL,
    updated     REAL NOT NULL,
    due         REAL,
    owner       TEXT,
    fence       INTEGER NOT NULL,
    waiting_on  TEXT,
    key         TEXT UNIQUE,
    tags        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    ended       REAL
) STRICT;
CREATE INDEX runs_lane ON runs (lane, due) WHERE due IS NOT NULL;
CREATE INDEX runs_running ON runs (lane) WHERE state = 'running';
CREATE INDEX runs_ended ON runs (ended) WHERE ended IS NOT NULL;
CREATE INDEX runs_workflow ON runs (workflow, number);
CREATE INDEX runs_state ON runs (state, number);
CREATE TABLE records (
    number  INTEGER PRIMARY KEY,
    run_id  TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    ts      REAL NOT NULL,
    kind    TEXT NOT NULL,
    control INTEGER NOT NULL,
    body    BLOB NOT NULL,
    UNIQUE (run_id, seq)
) STRICT;
CREATE TABLE blobs (
    run_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    data   BLOB NOT NULL,
    UNIQUE (run_id, digest)
) STRICT;
CREATE TABLE pruned (run_id TEXT PRIMARY KEY, key TEXT UNIQUE, digest TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE buckets (
    workflow TEXT NOT NULL,
    gate     TEXT NOT NULL,
    level    REAL NOT NULL,
    at       REAL NOT NULL,
    PRIMARY KEY (workflow, gate)
) STRICT, WITHOUT ROWID;
CREATE TABLE tags (tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tag, number)) STRICT, WITHOUT ROWID;
CREATE TABLE cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX cache_expires ON cache (expires);
CREATE TABLE workers (name TEXT PRIMARY KEY, info BLOB NOT NULL, beat REAL NOT NULL) STRICT, WITHOUT ROWID;
"""


def connect(path: Path, *, read_only: bool = False, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open a connection in autocommit mode, to be used by one thread at a time; it waits so long for other processes.

    Raises:
        StoreUnavailable: the file cannot be opened.
    """
    try:
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise unavailable(path, error) from None
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.execute(f"PRAGMA query_only = {read_only:d}")
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(path, error) from None
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or check that those of an old one are ours; another's file is left as it is.

    Raises:
        StoreUnavailable: the file is another program's, newer than this code, or cannot be written.
    """
    try:
        check(connection, path)
        use_wal(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        if check(connection, path):
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("DELETE FROM cache WHERE 0")  # BEGIN IMMEDIATE only reads where nothing can be written
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(path, error) from None


def check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty; if it is not, it must be ours, and of a version that is known here.

    Raises:
        StoreUnavailable: it is not.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID and (tables or application):
        raise StoreUnavailable(f"{path} is another program's database: name another file")
    if version > VERSION:
        raise StoreUnavailable(
            f"{path} has schema {version}, and this greenroom knows up to {VERSION}: "
            "upgrade greenroom, or name another file"
        )
    return not tables


def use_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Switch the file to a write-ahead log. SQLite does not wait for others who do the same: so we do.

    Raises:
        StoreUnavailable: this file system has no shared memory.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreUnavailable(f"{path} cannot have a write-ahead log here: name a file on a disk of this host")
        return


def unavailable(path: Path, error: sqlite3.Error) -> StoreUnavailable:
    """Say what SQLite means, and what to do about it."""
    said = str(error)
    if not os.path.isdir(path.parent):
        return StoreUnavailable(
            f"the folder {path.parent} of the database does not exist: make it, or name another file"
        )
    if os.path.isdir(path):
        return StoreUnavailable(f"{path} is a folder: name a file for the database")
    if "not a database" in said:
        return StoreUnavailable(f"{path} is not a SQLite database: name another file, or move this one away")
    if "readonly" in said or "unable to open" in said:
        return StoreUnavailable(
            f"{path} cannot be opened for writing ({said}): check its permissions and those of its folder"
        )
    if "locked" in said or "busy" in said:
        return StoreUnavailable(f"{path} is locked by another process ({said}): end the program that holds it")
    if "full" in said:
        return StoreUnavailable(
            f"{path} cannot grow, the disk is full ({said}): free some space; nothing was half-written"
        )
    return StoreUnavailable(f"{path} cannot be used ({said}): check the file with 'PRAGMA integrity_check'")
