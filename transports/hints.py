"""Hints: who watches which topic, within one process. Shared by the transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager


class Hint:
    """Hints on some topics, gathered since the watch was opened."""

    def __init__(self) -> None:
        self._came = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint since the last call, at most `timeout` seconds. True if there was one."""
        if not self._came and timeout > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        came, self._came = self._came, False
        return came

    def give(self) -> None:
        """Hint."""
        self._came = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Board:
    """All watches of one transport."""

    def __init__(self) -> None:
        self._topics: dict[str, set[Hint]] = {}

    @property
    def watched(self) -> bool:
        """Whether anybody watches anything."""
        return bool(self._topics)

    @asynccontextmanager
    async def watch(self, *topics: str) -> AsyncIterator[Hint]:
        """Gather hints on topics."""
        hint = Hint()
        for topic in topics:
            self._topics.setdefault(topic, set()).add(hint)
        try:
            yield hint
        finally:
            for topic in topics:
                hints = self._topics[topic]
                hints.discard(hint)
                if not hints:
                    del self._topics[topic]

    def hint(self, topics: Iterable[str]) -> None:
        """Hint everybody who watches one of these."""
        for topic in topics:
            for hint in self._topics.get(topic, ()):
                hint.give()
