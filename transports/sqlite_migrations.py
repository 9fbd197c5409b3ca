"""What a SQLite file of ours has in it, as the history of how it came to that.

Why: runs outlive versions of greenroom. A new file goes through the same steps as an old one, so both end up alike.

The rules:
- A migration that has been released is never changed; what is new is a new one, at the end.
- It only adds (tables, indexes, columns with a default): processes of the version before it, which have the file open
  while it is done, go on. Once they have closed the file they cannot open it again.
- It is one transaction, during which nobody writes: no longer than others wait (`BUSY_S`), however many runs there are.
"""

from __future__ import annotations

MIGRATIONS = (
    """
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
""",
    """
CREATE INDEX records_control ON records (run_id, seq) WHERE control = 1;
CREATE INDEX runs_tenant ON runs (tenant, number) WHERE tenant != '';
""",
    """
CREATE TABLE reservoirs (name TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT, WITHOUT ROWID;
""",
)
"""From no file to the first schema, from the first to the second ... Statements end with a semicolon, and have none
within. The second one: control records of a long log, and runs of a tenant, are found without looking at the others.
The third: limits that workers share."""

VERSION = len(MIGRATIONS)
"""The schema this code writes; kept in `PRAGMA user_version`."""
