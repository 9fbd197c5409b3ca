"""greenroom inside a Litestar app.

    uvicorn --app-dir examples embedded_litestar:app
    curl --json '{"topic": "tea"}' localhost:8000/articles

Without a provider's key, start `greenroom simulate` and export what it prints.
"""

from __future__ import annotations

from typing import Any, cast

from litestar import Litestar, Response, asgi, get, post
from litestar.types import Receive, Scope, Send
from newsroom import Article, newsroom
from pydantic import BaseModel

from greenroom import Runtime

runtime = Runtime(newsroom, store="sqlite:///greenroom.db")
api = runtime.asgi()
PREFIX = "/greenroom"


class Wish(BaseModel):
    """What a reader would like to read about."""

    topic: str


@asgi(PREFIX, is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request on. Litestar takes the prefix off a mounted path; ASGI keeps it, and says where it ends."""
    here = {**scope, "root_path": PREFIX, "path": PREFIX + scope["path"].rstrip("/")}
    await api(here, cast(Any, receive), cast(Any, send))


@post("/articles", status_code=202)
async def create(data: Wish) -> Response[dict[str, str]]:
    """Have an article made; answer at once with where it can be followed."""
    run = await runtime.start(newsroom, topic=data.topic)
    where = f"{PREFIX}/v1/runs/{run.run_id}"
    return Response({"run": run.run_id, "events": f"{where}/events"}, headers={"location": where})


@get("/articles/{run_id:str}")
async def read(run_id: str) -> Article:
    """Wait for an article."""
    return await runtime.handle(newsroom, run_id).result()


app = Litestar([create, read, mounted], lifespan=[runtime.lifespan])
