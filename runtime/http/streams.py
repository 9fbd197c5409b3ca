"""The open streams and waits of one API: counted, looked after, and ended when the server drains.

Why: a server that is told to stop waits for its responses to finish, and an event stream never does. So on
SIGTERM and SIGINT the streams are ended first, and then whatever handled the signal before is called.

Laws kept here: 7 (no stream outlives its client or its server), 11 (their number is bounded, and each client's share
of it). One timer looks after them all.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType

from starlette.requests import Request
from starlette.types import Scope

from .channel import Channels
from .connection import AT_ONCE, Connection, in_turns
from .problems import Kind, Refusal

CLIENT = "greenroom.client"
"""Where the guard leaves who asks in the ASGI scope, if it knows."""

LOOK_S = 2.5
"""How often silent and stalled connections are looked for, seconds."""


class Streams:
    """All that is open. Belongs to one event loop.

    Args:
        limit: how many may be open at once.
        client_limit: how many of them for one client; by default as many.

    Attributes:
        channels: the runs that are followed.
    """

    def __init__(self, limit: int = 10_000, client_limit: int | None = None) -> None:
        self.limit = limit
        self.client_limit = limit if client_limit is None else client_limit
        self.draining = False
        self.channels = Channels()
        self._open: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count the open ones."""
        return len(self._open)

    def room(self, scope: Scope) -> bool:
        """Whether this client may open another one."""
        return self._refusal(client_of(scope)) is None

    def require_room(self, scope: Scope) -> None:
        """Check that this client may open another one.

        Raises:
            Refusal: draining or full (503), or the client has its share (429).
        """
        refusal = self._refusal(client_of(scope))
        if refusal is not None:
            raise refusal

    def _refusal(self, client: str) -> Refusal | None:
        if self.draining:
            return Refusal(Kind.DRAINING, "the server is shutting down: connect again, another one will answer")
        if len(self._open) >= self.limit:
            return Refusal(
                Kind.BUSY, f"{self.limit} streams are open, the most that ApiOptions.max_streams allows: try again soon"
            )
        if self._clients[client] >= self.client_limit:
            return Refusal(
                Kind.TOO_MANY_STREAMS,
                f"you have {self.client_limit} streams open, the most that ApiOptions.max_client_streams allows: "
                "close one first",
                headers={"retry-after": "2"},
            )
        return None

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Connection]:
        """Do something for a client that listens: the block is canceled when it leaves or the server drains.

        The block's end tells nothing of why it ended; look at `gone` and `draining`.

        Raises:
            Refusal: draining or full (503), or the client has its share (429).
        """
        self.require_room(request.scope)
        client, connection = client_of(request.scope), None
        try:
            async with asyncio.timeout(None) as life, asyncio.TaskGroup() as group:
                connection = Connection(life, group, request.scope.get(AT_ONCE))
                self._add(connection, client)
                watching = group.create_task(connection.watch(request.receive))
                yield connection
                watching.cancel()
        except TimeoutError:
            if not life.expired():
                raise
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        finally:
            if connection is not None:
                self._remove(connection, client)

    def _add(self, connection: Connection, client: str) -> None:
        self._open.add(connection)
        self._clients[client] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _remove(self, connection: Connection, client: str) -> None:
        self._open.discard(connection)
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        in_turns(partial(Connection.check, now=loop.time()), tuple(self._open))
        self._timer = loop.call_later(LOOK_S, self._look)

    def drain(self) -> None:
        """End all that is open, and open nothing any more."""
        self.draining = True
        for connection in tuple(self._open):
            if not connection.nudge():
                connection.cut()

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


def client_of(scope: Scope) -> str:
    """Say whom a request counts for: who the guard knows it to be, else its address."""
    address = scope.get("client")
    known: str = scope.get(CLIENT) or (f"address {address[0]}" if address else "")
    return known
