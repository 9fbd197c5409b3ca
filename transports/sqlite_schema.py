"""The SQLite file: its tables, its version, and opening it with errors that say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .contract import StoreUnavailable

APPLICATION_ID = 0x67726E72
"""Marks the file as greenroom's ("grnr")."""

VERSION = 1
"""The schema this code writes; kept in `PRAGMA user_version`."""

BUSY_MS = 10_000
"""How long a write waits for another process's write, milliseconds."""

TABLES = """
CREATE TABLE runs (
    number      INTEGER PRIMARY KEY,
    run_id      TEXT NOT NULL UNIQUE,
    workflow    TEXT NOT NULL,
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
    digest      TEXT NOT NULL
) STRICT;
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
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
CREATE TABLE tags (tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tag, number)) STRICT, WITHOUT ROWID;
CREATE TABLE cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX cache_expires ON cache (expires);
CREATE TABLE workers (name TEXT PRIMARY KEY, info BLOB NOT NULL, beat REAL NOT NULL) STRICT, WITHOUT ROWID;
"""


def connect(path: Path, *, timeout_s: float = BUSY_MS / 1000) -> sqlite3.Connection:
    """Open a connection in autocommit mode, to be used by one thread.

    Raises:
        StoreUnavailable: the file cannot be opened or is not ours.
    """
    try:
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise unavailable(path, error) from error
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(path, error) from error
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or check that those of an old one are ours.

    Raises:
        StoreUnavailable: the file is another program's, newer than this code, or cannot be written.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == APPLICATION_ID and version > VERSION:
            connection.execute("ROLLBACK")
            raise StoreUnavailable(
                f"{path} has schema {version}, and this greenroom knows up to {VERSION}: "
                "upgrade greenroom, or name another file"
            )
        if application != APPLICATION_ID and tables:
            connection.execute("ROLLBACK")
            raise StoreUnavailable(f"{path} is another program's database: name another file")
        if not tables:
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(path, error) from error


def unavailable(path: Path, error: sqlite3.Error) -> StoreUnavailable:
    """Say what SQLite means, and what to do about it."""
    said = str(error)
    if not path.parent.is_dir():
        return StoreUnavailable(
            f"the folder {path.parent} of the database does not exist: make it, or name another file"
        )
    if path.is_dir():
        return StoreUnavailable(f"{path} is a folder: name a file for the database")
    if "not a database" in said:
        return StoreUnavailable(f"{path} is not a SQLite database: name another file, or move this one away")
    if "readonly" in said or "unable to open" in said:
        return StoreUnavailable(f"{path} cannot be written ({said}): check its permissions and those of its folder")
    if "locked" in said or "busy" in said:
        return StoreUnavailable(f"{path} is locked by another process ({said}): end the program that holds it")
    if "full" in said:
        return StoreUnavailable(
            f"{path} cannot grow, the disk is full ({said}): free some space; nothing was half-written"
        )
    return StoreUnavailable(f"{path} cannot be used ({said}): check the file with 'PRAGMA integrity_check'")
