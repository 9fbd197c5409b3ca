"""What Prometheus reads: of the store and of this process from the API, of one worker from its own small app.

Why a worker has an app of its own: the API never talks to a worker, so what only a worker knows is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..runs import Runs
from ..telemetry import CONTENT_TYPE, Meters
from ..telemetry.gauges import look_at_store
from . import views
from .access import Need, needing
from .guard import Guard
from .options import ApiOptions
from .problems import SECURITY, Shield, answer
from .streams import Streams


class MetricsResource:
    """The endpoint of metrics. `runs` gives the runs of the store to look at; None: only this process is."""

    def __init__(self, runs: Callable[[Request], Runs] | None, meters: Meters) -> None:
        self._runs = runs
        self._meters = meters

    async def show(self, request: Request) -> Response:
        """Give all metrics as text."""
        stored = await look_at_store(self._runs(request).transport) if self._runs is not None else ()
        return Response(self._meters.text(stored), headers={"content-type": CONTENT_TYPE, **SECURITY})


def metrics_app(meters: Meters, *, options: ApiOptions | None = None) -> Starlette:
    """Make the app of a worker's metrics: `/metrics` and `/livez`, guarded like the API."""
    options = options or ApiOptions()

    async def live(request: Request) -> Response:
        return views.reply({"status": "ok"})

    async def refuse(request: Request, error: Exception) -> Response:
        return answer(error)

    app = Starlette(
        routes=[Route("/metrics", needing(Need.READ_ALL, MetricsResource(None, meters).show)), Route("/livez", live)],
        middleware=[Middleware(Shield), Middleware(Guard, options=options)],
        exception_handlers={HTTPException: refuse},
    )
    app.state.options = options
    app.state.streams = Streams(options.max_streams)
    return app
