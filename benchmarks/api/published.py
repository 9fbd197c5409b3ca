"""The peer's side of the fan-out: messages published to Redis, with the same text in each."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import msgspec
from redis.asyncio import Redis

from .fanout import TEXT, followed
from .processes import Server
from .wire import Reader, Story, caller, get


class Publisher:
    """Publishes to the peer's readers."""

    def __init__(self, url: str) -> None:
        self.story = Story()
        self._redis = Redis.from_url(url)
        self._seq = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def assembled(self, server: Server, readers: int) -> list[Reader]:
        """Connect readers, and wait until the server counts them."""
        crowd = await followed(server.port, "/events", self.story, readers)
        asking = await caller(server.port)
        async with asyncio.timeout(60):
            while (await asking.call(get("/count")))[1] != b"%d" % readers:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)
        asking.close()
        return crowd

    async def say(self, number: int) -> None:
        """Publish a few words."""
        self._seq += 1
        self.story.appended[self._seq] = time.perf_counter()
        data = {
            "v": 1,
            "seq": self._seq,
            "ts": time.time(),
            "type": "output.delta",
            "data": {"text": TEXT, "attempt": 1},
        }
        await self._redis.publish("events", b"%d %b" % (self._seq, msgspec.json.encode(data)))
