"""The store that a command reads and writes: what its URL tells before it is opened, and opening it.

Why: opening a database that is not there makes it, and a command that only looks should leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from ...transports import StoreUnavailable, open_transport
from ..definitions import Workflow
from ..errors import ConfigInvalid
from ..runs import Runs


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


def with_runs(
    url: str, act: Callable[[Runs], Awaitable[None]], workflows: Mapping[str, Workflow[..., Any]] | None = None
) -> int:
    """Do something with the runs of a store that is there, and return 0."""
    must_exist(url)

    async def main() -> None:
        async with open_transport(url) as transport:
            await act(Runs(transport, workflows or {}))

    anyio.run(main)
    return 0
