"""The HTTP API as one ASGI app over `Runs`: it appends and reads, and never talks to a worker.

Why: whatever is durable is in the store, so any number of these apps answer for any number of workers, and both
restart alone. The app can be served by itself or mounted under any prefix; its routes begin with `/v1`, and the
dashboard is at `/dashboard`.

    client -> Shield (problems) -> Guard (host, token, origin) -> routes -> Runs -> transport
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import GreenroomError
from ..runs import Runs
from ..telemetry import Meters
from . import dashboard, openapi, views
from .bulk import BulkResource
from .chat import ChatResource
from .fleet import FleetResource
from .guard import Guard
from .inlets import InletResource
from .metrics import MetricsResource
from .options import ApiOptions
from .problems import Kind, Refusal, Shield, answer
from .resources import RunResource
from .streams import Streams


def api(
    runs: Runs | Callable[[], Runs],
    *,
    options: ApiOptions | None = None,
    streams: Streams | None = None,
    meters: Meters | None = None,
) -> Starlette:
    """Make the app.

    Args:
        runs: the runs to serve, or what gives them once the runtime is open; until then requests get a 503
            problem that names the fix.
        options: how it guards itself, and its limits.
        streams: where its open streams are kept; give one to drain a mounted app from the host's lifespan
            (`with streams.drained_by_signals(): ...`). Served alone, the app drains itself.
        meters: what this process has counted, for `/metrics` beside what the store knows.

    `app.state.options` and `app.state.streams` are what it was made with.
    """
    options = options or ApiOptions()
    streams = Streams(options.max_streams, options.max_client_streams) if streams is None else streams
    supply = _supplier(runs)
    run, system = RunResource(supply, options, streams), SystemResource(supply, options, streams)
    inlet, chat = InletResource(supply, options), ChatResource(supply, options, streams)
    bulk = BulkResource(supply, options)
    fleet, metrics = FleetResource(supply), MetricsResource(supply, meters or Meters())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with streams.drained_by_signals():
            yield

    app = Starlette(
        routes=[
            Route("/v1/workflows/{workflow}/runs", run.create, methods=["POST"]),
            Route("/v1/runs", run.list),
            Route("/v1/runs/cancel", bulk.cancel, methods=["POST"]),
            Route("/v1/runs/retry", bulk.retry, methods=["POST"]),
            Route("/v1/runs/{run_id}", run.show),
            Route("/v1/runs/{run_id}/result", run.result),
            Route("/v1/runs/{run_id}/events", run.events),
            Route("/v1/runs/{run_id}/output", run.output),
            Route("/v1/runs/{run_id}/trace", run.trace),
            Route("/v1/runs/{run_id}/cancel", run.cancel, methods=["POST"]),
            Route("/v1/runs/{run_id}/fork", run.fork, methods=["POST"]),
            Route("/v1/runs/{run_id}/retry", run.retry, methods=["POST"]),
            Route("/v1/runs/{run_id}/signals/{name}", inlet.signal, methods=["POST"]),
            Route("/v1/runs/{run_id}/approvals", inlet.approvals),
            Route("/v1/runs/{run_id}/approvals/{approval}", inlet.decide, methods=["POST"]),
            Route("/v1/chat/{workflow}", chat.answer, methods=["POST"]),
            Route("/v1/chat/{workflow}/{chat_id}/stream", chat.stream),
            Route("/v1/chat/{workflow}/{chat_id}/stop", chat.stop, methods=["POST"]),
            Route("/v1/workflows", system.workflows),
            Route("/v1/system/workers", system.workers),
            Route("/v1/system/tree", fleet.tree),
            Route("/v1/system/providers", fleet.providers),
            Route("/livez", system.live),
            Route("/readyz", system.ready),
            Route("/metrics", metrics.show),
            Route("/openapi.json", system.schema),
            *dashboard.routes(),
        ],
        middleware=[Middleware(Shield), Middleware(Guard, options=options)],
        exception_handlers={HTTPException: _answer_http},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.options = options
    app.state.streams = streams
    return app


class SystemResource:
    """The endpoints that are about the service and not about one run."""

    def __init__(self, runs: Callable[[], Runs], options: ApiOptions, streams: Streams) -> None:
        self._runs = runs
        self._options = options
        self._streams = streams

    async def workflows(self, request: Request) -> Response:
        """List the workflows that can be started here, with the schemas of their inputs and results."""
        root = views.root_of(request)
        return views.reply({"data": [openapi.describe(root, workflow) for workflow in self._runs().workflows.values()]})

    async def workers(self, request: Request) -> Response:
        """List the workers that beat lately."""
        workers = await self._runs().transport.workers()
        return views.reply(views.WorkerList(tuple(map(views.worker_object, workers))))

    async def live(self, request: Request) -> Response:
        """Say that the process answers."""
        return views.reply({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Say whether to send requests here: the store answers and the server is not shutting down."""
        if self._streams.draining:
            raise Refusal(Kind.DRAINING, "the server is shutting down: send requests elsewhere")
        await self._runs().transport.now()
        return views.reply({"status": "ok"})

    async def schema(self, request: Request) -> Response:
        """Describe all of this as OpenAPI 3.1."""
        root = views.root_of(request)
        secured = self._options.token is not None
        return views.reply(openapi.document(root, self._runs().workflows, secured=secured))


def _supplier(runs: Runs | Callable[[], Runs]) -> Callable[[], Runs]:
    if isinstance(runs, Runs):
        return lambda: runs

    def supply() -> Runs:
        try:
            return runs()
        except GreenroomError as error:
            raise Refusal(Kind.NOT_STARTED, str(error)) from None

    return supply


async def _answer_http(request: Request, error: Exception) -> Response:
    return answer(error)
