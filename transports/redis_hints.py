"""Hints of other processes: one subscription for all watches of this one.

Why: a blocking read for every reader would cost a connection each. The scripts publish a topic when they write; here
one connection listens to those that somebody in this process watches (sharded pub/sub: in a cluster only the node that
has the store carries them). What is published while the connection is down is lost: after it is up again everybody is
hinted, and reads.

Laws kept here: 7 (the connection ends with the ear's task).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection

from .errors import StoreUnavailable
from .hints import Board, Hint
from .redis_line import company, pack
from .redis_server import UNREACHED, Elsewhere, Server, hang_up, said

PING_S = 5.0
"""How often a silent connection is asked whether it lives, seconds."""

HEARD_S = 1.0
"""How long a watch waits to be heard of by the server before it begins without, seconds."""

log = logging.getLogger("greenroom.redis")


class Ear:
    """What this process listens to. `run` is its task.

    Args:
        server: who publishes.
        board: who is hinted.
    """

    def __init__(self, server: Server, board: Board) -> None:
        self._server = server
        self._board = board
        self._base = f"{server.settings.base}hint:".encode()
        self._watches: Counter[str] = Counter()
        self._heard: dict[str, asyncio.Event] = {}
        self._late: set[str] = set()
        self._says: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    @asynccontextmanager
    async def watch(self, *topics: str) -> AsyncIterator[Hint]:
        """Gather hints on topics, from the moment that this is entered."""
        async with self._board.watch(*topics) as hint:
            for topic in topics:
                self._watches[topic] += 1
                if self._watches[topic] == 1:
                    self._heard[topic] = asyncio.Event()
                    self._says.put_nowait((b"SSUBSCRIBE", self._base + topic.encode()))
            try:
                try:
                    async with asyncio.timeout(HEARD_S):
                        for topic in topics:
                            await self._heard[topic].wait()
                except TimeoutError:
                    self._late.update(topics)
                yield hint
            finally:
                for topic in topics:
                    self._watches[topic] -= 1
                    if not self._watches[topic]:
                        del self._watches[topic], self._heard[topic]
                        self._says.put_nowait((b"SUNSUBSCRIBE", self._base + topic.encode()))

    async def run(self) -> None:
        """Listen until canceled; connect again whenever that breaks."""
        pause = 0.05
        while True:
            try:
                connection = await self._server.dial()
            except (*UNREACHED, Elsewhere, StoreUnavailable) as error:
                log.warning("hints are late, every reader polls: %s", said(error))
            else:
                try:
                    pause = 0.05
                    await self._attend(connection)
                finally:
                    await hang_up(connection)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)

    async def _attend(self, connection: AbstractConnection) -> None:
        """Listen on this connection until it breaks."""
        self._says = asyncio.Queue()
        self._late = {topic for topic, heard in self._heard.items() if heard.is_set()}
        for topic, heard in self._heard.items():
            heard.clear()
            self._says.put_nowait((b"SSUBSCRIBE", self._base + topic.encode()))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._speak(connection))
                group.create_task(self._listen(connection))
        except* (*UNREACHED, Elsewhere) as broken:
            log.warning("hints are late, every reader polls until they are back: %s", said(broken.exceptions[0]))

    async def _speak(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    packed = pack(await self._says.get())
            except TimeoutError:
                packed = pack([b"PING"])
            await company(loop)
            while not self._says.empty():
                packed += pack(self._says.get_nowait())
            await connection.send_packed_command([b"".join(packed)], check_health=False)

    async def _listen(self, connection: AbstractConnection) -> None:
        loop, patience_s = asyncio.get_running_loop(), 2 * PING_S + self._server.settings.timeout_s
        heard = loop.time()
        async with asyncio.timeout(patience_s) as limited:
            while True:
                got = await connection.read_response()
                if (now := loop.time()) > heard + 1.0:
                    heard = now
                    limited.reschedule(now + patience_s)
                if not isinstance(got, list) or got[0] == b"pong":
                    continue
                topic = got[1].removeprefix(self._base).decode()
                if got[0] == b"smessage":
                    self._board.hint((topic,))
                elif got[0] == b"ssubscribe" and topic in self._heard:
                    self._heard[topic].set()
                    if topic in self._late:
                        self._late.discard(topic)
                        self._board.hint((topic,))
                elif got[0] == b"sunsubscribe" and topic in self._heard and self._heard[topic].is_set():
                    raise Elsewhere("the server has given the store away")
