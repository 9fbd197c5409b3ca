"""The SQLite transport: the conformance suite, then what is SQLite's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from greenroom.runtime.testing import TransportSuite
from greenroom.transports import Transport, open_transport


class TestSqlite(TransportSuite):
    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        return open_transport(f"sqlite:///{folder / 'runs.db'}", clock=clock)
