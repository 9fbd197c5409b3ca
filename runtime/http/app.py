"""The HTTP API as one ASGI app over `Runs`: it appends and reads, and never talks to a worker.

Why: whatever is durable is in the store, so any number of these apps answer for any number of workers, and both
restart alone. The app can be served by itself or mounted under any prefix; its routes begin with `/v1`, and the
dashboard is at `/dashboard`.

    client -> Shield (problems) -> Guard (host, token, origin) -> scope -> routes -> Runs [of a tenant] -> transport
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

from ...transports import of_tenant
from ..errors import GreenroomError
from ..runs import Runs
from ..telemetry import Meters
from . import dashboard, gensx, openapi, views
from .access import NEEDS, Endpoint, access_of, needing
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
    streams = Streams(options.max_streams) if streams is None else streams
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
            _route("POST /v1/workflows/{workflow}/runs", run.create),
            _route("GET /v1/runs", run.list),
            _route("POST /v1/runs/cancel", bulk.cancel),
            _route("POST /v1/runs/retry", bulk.retry),
            _route("GET /v1/runs/{run_id}", run.show),
            _route("GET /v1/runs/{run_id}/result", run.result),
            _route("GET /v1/runs/{run_id}/events", run.events),
            _route("GET /v1/runs/{run_id}/output", run.output),
            _route("GET /v1/runs/{run_id}/trace", run.trace),
            _route("POST /v1/runs/{run_id}/cancel", run.cancel),
            _route("POST /v1/runs/{run_id}/fork", run.fork),
            _route("POST /v1/runs/{run_id}/retry", run.retry),
            _route("POST /v1/runs/{run_id}/signals/{name}", inlet.signal),
            _route("GET /v1/runs/{run_id}/approvals", inlet.approvals),
            _route("POST /v1/runs/{run_id}/approvals/{approval}", inlet.decide),
            _route("POST /v1/chat/{workflow}", chat.answer),
            _route("GET /v1/chat/{workflow}/{chat_id}/stream", chat.stream),
            _route("POST /v1/chat/{workflow}/{chat_id}/stop", chat.stop),
            _route("GET /v1/workflows", system.workflows),
            _route("GET /v1/token", system.token),
            _route("GET /v1/system/workers", system.workers),
            _route("GET /v1/system/tree", fleet.tree),
            _route("GET /v1/system/providers", fleet.providers),
            _route("GET /livez", system.live),
            _route("GET /readyz", system.ready),
            _route("GET /metrics", metrics.show),
            _route("GET /openapi.json", system.schema),
            *dashboard.routes(),
            *(gensx.routes(supply, options, streams) if options.gensx else ()),
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

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions, streams: Streams) -> None:
        self._runs = runs
        self._options = options
        self._streams = streams

    async def workflows(self, request: Request) -> Response:
        """List the workflows that can be started here, with the schemas of their inputs and results."""
        root = views.root_of(request)
        return views.reply(
            {"data": [openapi.describe(root, workflow) for workflow in self._runs(request).workflows.values()]}
        )

    async def workers(self, request: Request) -> Response:
        """List the workers that beat lately."""
        workers = await self._runs(request).transport.workers()
        return views.reply(views.WorkerList(tuple(map(views.worker_object, workers))))

    async def token(self, request: Request) -> Response:
        """Say what the request's token may do."""
        access = access_of(request)
        return views.reply(views.TokenObject(access.name, access.scopes, access.tenant or None))

    async def live(self, request: Request) -> Response:
        """Say that the process answers."""
        return views.reply({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Say whether to send requests here: the store answers and the server is not shutting down."""
        if self._streams.draining:
            raise Refusal(Kind.DRAINING, "the server is shutting down: send requests elsewhere")
        await self._runs(request).transport.now()
        return views.reply({"status": "ok"})

    async def schema(self, request: Request) -> Response:
        """Describe all of this as OpenAPI 3.1."""
        root = views.root_of(request)
        secured = self._options.secured
        return views.reply(openapi.document(root, self._runs(request).workflows, secured=secured))


def _route(operation: str, endpoint: Endpoint) -> Route:
    """Make the route of an operation; what it needs has to stand in `NEEDS`."""
    method, path = operation.split(" ")
    return Route(path, needing(NEEDS[operation], endpoint), methods=[method])


def _supplier(runs: Runs | Callable[[], Runs]) -> Callable[[Request], Runs]:
    """Give each request the runs that it may see: all, or those of its token's tenant."""

    def supply(request: Request) -> Runs:
        try:
            found = runs if isinstance(runs, Runs) else runs()
        except GreenroomError as error:
            raise Refusal(Kind.NOT_STARTED, str(error)) from None
        tenant = access_of(request).tenant
        return Runs(of_tenant(found.transport, tenant), found.workflows, tenant=tenant) if tenant else found

    return supply


async def _answer_http(request: Request, error: Exception) -> Response:
    return answer(error)
