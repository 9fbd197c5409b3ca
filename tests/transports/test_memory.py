"""The memory transport: the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from greenroom.runtime.testing import TransportSuite
from greenroom.transports import Transport, open_transport


class TestMemory(TransportSuite):
    shared = False
    examples = 100

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        return open_transport("memory://", clock=clock)
