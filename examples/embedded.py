"""greenroom inside a Starlette app: its own route starts runs, the mounted API follows them, a worker executes them.

    uvicorn --app-dir examples embedded:app
    curl -X POST localhost:8000/articles -H 'content-type: application/json' -d '{"topic": "tea"}'
    curl -N localhost:8000/greenroom/v1/runs/RUN/events

Without a provider's key, start `greenroom simulate` and export what it prints. `embedded_fastapi.py` and
`embedded_litestar.py` do the same.
"""

from __future__ import annotations

from newsroom import newsroom
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from greenroom import Runtime

runtime = Runtime(newsroom, store="sqlite:///greenroom.db")


class Wish(BaseModel):
    """What a reader would like to read about."""

    topic: str


async def create(request: Request) -> JSONResponse:
    """Have an article made; answer at once with where it can be followed."""
    try:
        wish = Wish.model_validate_json(await request.body())
    except ValidationError as error:
        return JSONResponse({"error": f"give a JSON object with a topic: {error.errors()[0]['msg']}"}, 422)
    run = await runtime.start(newsroom, topic=wish.topic)
    where = f"/greenroom/v1/runs/{run.run_id}"
    return JSONResponse({"run": run.run_id, "events": f"{where}/events"}, 202, {"location": where})


app = Starlette(
    routes=[Route("/articles", create, methods=["POST"]), Mount("/greenroom", runtime.asgi())],
    lifespan=runtime.lifespan,
)
