"""A client that listens: who sees it leave, how it is woken, and how it is cut.

Why: a response that waits for news must also hear that its client has left, that it should break its silence, and that
the server stops. ASGI tells of the first only to who waits in `receive`, so that is the one task beside the response's
own; the rest is a word to the future that the response naps on.

Law kept here: 7 (whatever goes on for a client is in its group, and ends with it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from starlette.types import Receive, Send

PING_S = 15.0
"""Silence after which a comment is sent, so that proxies keep the connection, seconds."""

STALL_S = 60.0
"""How long a client may take nothing of what is sent to it, seconds."""

SLICE = 100
"""Connections that are roused in one turn of the loop: others want their turn too."""


class Connection:
    """A client that listens.

    Args:
        life: of the block that listens; `cut` ends it.
        group: what goes on for the client beside the response's own task.

    Attributes:
        gone: the client has left.
        stalled: it was cut because it took nothing.
    """

    def __init__(self, life: asyncio.Timeout, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.gone = False
        self.stalled = False
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._nap: asyncio.Future[None] | None = None
        self._speaking = False
        self._spoke = self._loop.time()

    async def watch(self, receive: Receive) -> None:
        """Cut the connection as soon as the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.cut()

    def cut(self) -> None:
        """Cancel what goes on for the client."""
        if self._life.when() is None:
            self._life.reschedule(self._loop.time())

    async def say(self, send: Send, body: bytes) -> None:
        """Send some of the response; wait while the client does not take it."""
        self._spoke, self._speaking = self._loop.time(), True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._speaking = False

    async def nap(self) -> None:
        """Wait to be nudged."""
        self._nap = self._loop.create_future()
        try:
            await self._nap
        finally:
            self._nap = None

    def nudge(self) -> bool:
        """Wake the connection if it naps; whether it did."""
        if self._nap is None:
            return False
        if not self._nap.done():
            self._nap.set_result(None)
        return True

    @property
    def silent(self) -> bool:
        """Whether it is time for a comment."""
        return self._loop.time() - self._spoke >= PING_S

    def check(self) -> bool:
        """Look after it from time to time: a client that takes nothing is cut. Whether it should be nudged."""
        if not self._speaking:
            return self.silent
        if self._loop.time() - self._spoke >= STALL_S:
            self.stalled = True
            self.cut()
        return False


def rouse(connections: Iterable[Connection]) -> None:
    """Nudge them all, some in each turn of the loop."""
    _rouse(iter(connections))


def _rouse(connections: Iterator[Connection]) -> None:
    for nudged, connection in enumerate(connections, 1):
        connection.nudge()
        if nudged == SLICE:
            asyncio.get_running_loop().call_soon(_rouse, connections)
            return
