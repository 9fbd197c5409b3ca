"""greenroom inside a FastAPI app that has a lifespan of its own.

    uvicorn --app-dir examples embedded_fastapi:app
    curl --json '{"topic": "tea"}' localhost:8000/articles

Without a provider's key, start `greenroom simulate` and export what it prints.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from newsroom import Article, newsroom
from pydantic import BaseModel

from greenroom import Runtime, lifespan
from greenroom.transports import RunNotFound

runtime = Runtime(newsroom, store="sqlite:///greenroom.db")


class Wish(BaseModel):
    """What a reader would like to read about."""

    topic: str


class Started(BaseModel):
    """The run that makes an article, and where to follow it."""

    run: str
    events: str


@asynccontextmanager
async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    """Stand for what the app opens for itself, such as a database."""
    yield {"greeting": "good morning"}


app = FastAPI(title="Articles", lifespan=lifespan(runtime, wrap=own))
app.mount("/greenroom", runtime.asgi())


@app.post("/articles", status_code=202)
async def create(wish: Wish, response: Response) -> Started:
    """Have an article made; answer at once with where it can be followed."""
    run = await runtime.start(newsroom, topic=wish.topic)
    response.headers["location"] = where = f"/greenroom/v1/runs/{run.run_id}"
    return Started(run=run.run_id, events=f"{where}/events")


@app.get("/articles/{run_id}")
async def read(run_id: str, request: Request) -> Article:
    """Wait for an article."""
    try:
        return await runtime.handle(newsroom, run_id).result()
    except RunNotFound:
        raise HTTPException(404, f"{request.state.greeting}, there is no article {run_id}") from None
