"""A real OTLP/HTTP collector on a socket, and what it was sent."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from greenroom.runtime.http import ApiOptions, serve
from greenroom.runtime.http.streams import Streams


class Collector:
    """Takes what is posted to it, or refuses it with `status`."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.refused = 0
        self.raw = b""
        self.spans: list[Span] = []
        self.resources: list[Any] = []
        self.scopes: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.arrived = anyio.Event()

    @property
    def traces_url(self) -> str:
        return f"{self.url}/v1/traces"

    @property
    def metrics_url(self) -> str:
        return f"{self.url}/v1/metrics"

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.status != 200:
            self.refused += 1
            self._notice()
            return Response(status_code=self.status)
        self.raw += body
        if request.url.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(resource.resource)
                for scope in resource.scope_spans:
                    self.scopes.append(scope)
                    self.spans += scope.spans
        else:
            for resources in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scopes in resources.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scopes.metrics}
        self._notice()
        return Response(b"", media_type="application/x-protobuf")

    def _notice(self) -> None:
        self.arrived.set()
        self.arrived = anyio.Event()

    async def until(self, there: Any) -> None:
        """Wait until a condition holds, looked at whenever something has arrived."""
        with anyio.fail_after(30):
            while not there():
                await self.arrived.wait()

    @property
    def by_name(self) -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: span.start_time_unix_nano):
            found.setdefault(span.name, []).append(span)
        return found


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a data point, as plain values."""
    return {pair.key: plain(pair.value) for pair in span.attributes}


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found, ready = Collector(), anyio.Event()
    app = Starlette(routes=[Route("/v1/{signal}", found.take, methods=["POST"])])
    app.state.options, app.state.streams = ApiOptions(), Streams(1)

    def listening(url: str) -> None:
        found.url = url
        ready.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: serve(app, port=0, ready=listening))
        await ready.wait()
        yield found
        group.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
