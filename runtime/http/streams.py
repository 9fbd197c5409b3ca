"""The open streams and waits of one API: counted, left when their client leaves, ended when the server drains.

Why: a server that is told to stop waits for its responses to finish, and an event stream never does. So on
SIGTERM and SIGINT the streams are ended first, and then whatever handled the signal before is called.

Laws kept here: 7 (no stream outlives its client or its server), 11 (their number is bounded).
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import anyio
from anyio.abc import TaskGroup
from starlette.types import Receive

from .problems import Kind, Refusal


class Connection:
    """A client that listens. `gone`: it has left. `group` holds what goes on beside the response's own task."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.gone = False

    async def watch(self, receive: Receive) -> None:
        """Cancel the group as soon as the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.group.cancel_scope.cancel()


class Streams:
    """All that is open. Belongs to one event loop.

    Args:
        limit: how many may be open at once.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self.draining = False
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        """Count the open ones."""
        return len(self._open)

    @property
    def room(self) -> bool:
        """Whether another one may open."""
        return not self.draining and len(self._open) < self.limit

    def require_room(self) -> None:
        """Check that another one may open.

        Raises:
            Refusal: draining or full (503).
        """
        if self.draining:
            raise Refusal(Kind.DRAINING, "the server is shutting down: connect again, another one will answer")
        if len(self._open) >= self.limit:
            raise Refusal(
                Kind.BUSY, f"{self.limit} streams are open, the most that ApiOptions.max_streams allows: try again soon"
            )

    @asynccontextmanager
    async def open(self, receive: Receive) -> AsyncIterator[Connection]:
        """Do something for a client that listens: the block is canceled when it leaves or the server drains.

        The block's end tells nothing of why it ended; look at `gone` and `draining`.

        Raises:
            Refusal: draining or full (503).
        """
        self.require_room()
        connection: Connection | None = None
        try:
            async with anyio.create_task_group() as group:
                connection = Connection(group)
                self._open.add(connection)
                group.start_soon(connection.watch, receive)
                yield connection
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        finally:
            if connection is not None:
                self._open.discard(connection)

    def drain(self) -> None:
        """End all that is open, and open nothing any more."""
        self.draining = True
        for connection in self._open:
            connection.group.cancel_scope.cancel()

    @contextmanager
    def drained_by_signals(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGINT drain first and then do what they did before.

        Only the main thread can do this; on another one it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def act(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.drain)
            previous = before[signal.Signals(number)]
            if callable(previous):
                previous(number, frame)
            elif previous == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        for number in before:
            signal.signal(number, act)
        try:
            yield
        finally:
            for number, previous in before.items():
                if signal.getsignal(number) is act:
                    signal.signal(number, previous)
