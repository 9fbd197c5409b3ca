"""What can be said of a store by its URL alone, before it is opened: opening a database that is not there makes it."""

from __future__ import annotations

from pathlib import Path

from ...transports import StoreUnavailable
from ..errors import ConfigInvalid


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite store."""
    found, _, path = url.partition(":///")
    return Path(path) if found == "sqlite" and path else None


def must_be_shared(url: str) -> None:
    """Refuse a store that other processes cannot see.

    Raises:
        ConfigInvalid: it lives in this process alone.
    """
    if url.startswith("memory:"):
        raise ConfigInvalid(
            f"the store is {url}, which no other process can see: give --store sqlite:///greenroom.db, or use 'dev'"
        )


def must_exist(url: str) -> None:
    """Refuse a store that nothing was written to, so that reading leaves nothing behind.

    Raises:
        StoreUnavailable: there is no such file.
        ConfigInvalid: it lives in this process alone.
    """
    must_be_shared(url)
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise StoreUnavailable(f"there is no database {file}: start a run first, or name another with --store")
