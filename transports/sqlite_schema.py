"""The SQLite file: what it is, bringing it up to date, and opening it with errors that say what to do.

Laws kept here: 9 (a file is another program's, too new, or up to date: never half of it).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path

from .errors import StoreUnavailable
from .sqlite_migrations import MIGRATIONS, VERSION

APPLICATION_ID = 0x67726E72
"""Marks the file as greenroom's ("grnr")."""

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

log = logging.getLogger("greenroom.sqlite")


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
    """Bring a file to the schema of this code, from nothing or from an older one; another's is left as it is.

    Each migration is one transaction; of processes that open a file at once one does it, and the others wait.

    Raises:
        StoreUnavailable: the file is another program's, newer than this code, or cannot be written.
    """
    try:
        before = version(connection, path)
        use_wal(connection, path)
        migrating = True
        while migrating:
            connection.execute("BEGIN IMMEDIATE")
            known = version(connection, path)
            if migrating := known < VERSION:
                migrate(connection, known)
                if before:
                    log.warning("%s is brought from schema %d to %d: older versions refuse it", path, known, known + 1)
            connection.execute("DELETE FROM cache WHERE 0")  # BEGIN IMMEDIATE only reads where nothing can be written
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(path, error) from None


def migrate(connection: sqlite3.Connection, known: int) -> None:
    """Do the next migration, within a transaction."""
    for statement in MIGRATIONS[known].split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {known + 1}")


def version(connection: sqlite3.Connection, path: Path) -> int:
    """Return a file's schema; 0 of an empty one.

    Raises:
        StoreUnavailable: it is not ours, or of a version that is not known here.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (known,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID and (tables or application):
        raise StoreUnavailable(f"{path} is another program's database: name another file")
    if known > VERSION:
        raise StoreUnavailable(
            f"{path} has schema {known}, and this greenroom knows up to {VERSION}: "
            "upgrade greenroom, or name another file"
        )
    return int(known) if tables else 0


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
