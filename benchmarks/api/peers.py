"""What one would write in an afternoon: `python -m benchmarks.api.peers NAME PORT [ARG]`, served by uvicorn.

- `fanout URL`: Redis pub/sub to server-sent events, a queue for each reader. Nothing is kept, so nobody can resume.
- `rows FILE`: a POST that inserts one row into SQLite (WAL, synchronous=FULL) and commits, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def fanout(url: str) -> Starlette:
    """Every message of the channel `events`, `SEQ JSON`, to every reader of `/events`."""
    queues: set[asyncio.Queue[bytes]] = set()

    async def listen(redis: Redis) -> None:
        subscription = redis.pubsub()
        await subscription.subscribe("events")
        async for message in subscription.listen():
            if message["type"] == "message":
                seq, _, data = message["data"].partition(b" ")
                for queue in queues:
                    queue.put_nowait(b"id: %b\nevent: output.delta\ndata: %b\n\n" % (seq, data))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Redis.from_url(url, socket_timeout=None) as redis, asyncio.TaskGroup() as group:
            listening = group.create_task(listen(redis))
            yield
            listening.cancel()

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            queues.add(queue)
            try:
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def count(request: Request) -> Response:
        return JSONResponse(len(queues))

    return Starlette(routes=[Route("/events", events), Route("/count", count)], lifespan=lifespan)


def rows(file: str) -> Starlette:
    """A row for every POST, committed before the answer."""
    thread = ThreadPoolExecutor(1)

    def connect() -> sqlite3.Connection:
        database = sqlite3.connect(file, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, input TEXT NOT NULL) STRICT")
        return database

    database = thread.submit(connect).result()

    async def create(request: Request) -> Response:
        body = await request.json()
        run = secrets.token_hex(16)
        values = (run, json.dumps(body["input"]))
        await asyncio.get_running_loop().run_in_executor(
            thread, lambda: database.execute("INSERT INTO runs VALUES (?, ?)", values)
        )
        return JSONResponse({"id": run, "status": "queued"}, status_code=202)

    return Starlette(routes=[Route("/runs", create, methods=["POST"])])


if __name__ == "__main__":
    name, port, argument = sys.argv[1:4]
    uvicorn.run(
        {"fanout": fanout, "rows": rows}[name](argument), port=int(port), log_level="error", timeout_graceful_shutdown=1
    )
