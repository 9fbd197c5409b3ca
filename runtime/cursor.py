"""Where a reader goes on in a log: behind a record; and where that matters, behind this very record.

Why: a seq says which record a reader has read last as long as a log only grows. A store that can lose what it had
acknowledged (`Transport.forgets`) can lose the tail of a log and let others be written in its place: then the same seq
is another record, and whoever reads on behind it has a history that never was. So there a cursor also has a mark of the
record that it stands behind. Logs have one history: if that record is the same, all before it are.

Law kept here: 2 (a reader sees one log without gap, or is told).
"""

from __future__ import annotations

import hashlib

import msgspec

from ..transports import Stored

MARK_BYTES = 4
"""Of another record by chance: one in 2**32."""


LAST_SEQ = 10**15 - 1
"""The highest: 15 digits."""


class Cursor(msgspec.Struct, frozen=True):
    """The last record that a reader has: its seq (0: none), and its mark ("": not known)."""

    seq: int = 0
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.seq}-{self.mark}" if self.mark else str(self.seq)

    def behind(self, stored: Stored) -> bool:
        """Whether this is the record that the reader has, as far as the cursor tells."""
        return stored.seq == self.seq and self.mark in ("", mark_of(stored))


def cursor_at(stored: Stored, *, marked: bool) -> Cursor:
    """Return the cursor of a reader that has this record."""
    return Cursor(stored.seq, mark_of(stored) if marked else "")


def read_cursor(text: str) -> Cursor | None:
    """Read what `str` makes of a cursor; None if it is nothing of that kind."""
    seq, dash, mark = text.partition("-")
    if not (seq.isascii() and seq.isdecimal() and len(seq) <= 15):
        return None
    if dash and not (len(mark) == 2 * MARK_BYTES and set(mark) <= set("0123456789abcdef")):
        return None
    return Cursor(int(seq), mark)


def mark_of(stored: Stored) -> str:
    """Return what tells a record from another one that might stand in its place: of its time, kind and body."""
    digest = hashlib.blake2b(repr(stored.ts).encode(), digest_size=MARK_BYTES)
    digest.update(stored.kind.encode())
    digest.update(stored.body)
    return digest.hexdigest()
