"""Export with the OpenTelemetry SDK. The only file that imports it, and only when something is exported.

Why the SDK's batch processor is not used: it drops what it has no room for and tells nobody what arrived. Here a run's
spans are sent and answered for, so that the exporter knows which runs it still owes. Sampler, resource, headers,
certificates and compression are the SDK's, from the `OTEL_*` variables.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ..errors import ConfigInvalid
from . import names
from .meters import Meters
from .names import Metric
from .settings import Telemetry
from .spans import RunSpans, Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

CLOSING_S = 3.0
"""How long the last metrics may take, seconds."""

LIMITER = 2
"""Threads that send at once."""


class SpanSender:
    """Sends runs' spans.

    Raises:
        ConfigInvalid: the extra is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider
        except ImportError as error:
            raise _missing(error) from None
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint=url)
        self._provider: TracerProvider = TracerProvider(shutdown_on_exit=False)
        self._closed = False
        self._limiter = anyio.CapacityLimiter(LIMITER)

    async def send(self, runs: Iterable[RunSpans], profile: names.Profile) -> bool:
        """Send the spans of some runs; whether they arrived."""
        return await anyio.to_thread.run_sync(self._send, list(runs), profile, limiter=self._limiter)

    def close(self) -> None:
        """Send no more; what is being sent again gives up."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def _send(self, runs: list[RunSpans], profile: names.Profile) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [span for run in runs if self._sampled(run) for span in self._made(run, profile)]
        return not spans or (not self._closed and self._exporter.export(spans) is SpanExportResult.SUCCESS)

    def _sampled(self, run: RunSpans) -> bool:
        """Ask the sampler once for a run. One that another run started goes with its trace."""
        from opentelemetry.sdk.trace.sampling import Decision

        root = run.spans[0]
        child = names.PARENT_RUN in root.attributes
        if child and run.traceparent and not int(run.traceparent.split("-")[3], 16) & 1:
            return False
        result = self._provider.sampler.should_sample(
            None if child or not run.traceparent else _caller(run.traceparent),
            int(run.trace_id, 16),
            root.name,
            attributes=root.attributes,
        )
        return result.decision is not Decision.DROP

    def _made(self, run: RunSpans, profile: names.Profile) -> list[ReadableSpan]:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        scope = InstrumentationScope(names.SCOPE, _version(), profile.value.schema)
        return [_readable(run.trace_id, span, self._provider.resource, scope) for span in run.spans]


def _readable(trace_id: str, span: Span, resource: Any, scope: Any) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: str) -> SpanContext:
        return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))

    failed = span.error is not None
    return ReadableSpan(
        name=span.name,
        context=context(span.id),
        parent=context(span.parent) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        events=[Event(mark.name, mark.attributes, _nanoseconds(mark.ts)) for mark in span.marks],
        links=[Link(context(link)) for link in span.links],
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error or None) if failed else Status(StatusCode.UNSET),
        start_time=_nanoseconds(span.started),
        end_time=_nanoseconds(span.ended),
        instrumentation_scope=scope,
    )


class MeterSender:
    """Sends what is measured, every minute or as `OTEL_METRIC_EXPORT_INTERVAL` says.

    Raises:
        ConfigInvalid: the extra is not installed.
    """

    def __init__(self, url: str, meters: Meters) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        except ImportError as error:
            raise _missing(error) from None
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url))
        self._provider = MeterProvider([reader], shutdown_on_exit=False)
        self._meter = self._provider.get_meter(names.SCOPE, _version())
        self._instruments: dict[Metric, Any] = {}
        self._meters = meters
        meters.sinks.append(self._measure)

    def _measure(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        instrument = self._instruments.get(metric)
        if instrument is None:
            instrument = self._instruments[metric] = self._make(metric)
        if metric.buckets:
            instrument.record(value, labels)
        else:
            instrument.add(value, labels)

    def _make(self, metric: Metric) -> Any:
        if metric.buckets:
            return self._meter.create_histogram(
                metric.name, metric.unit, metric.about, explicit_bucket_boundaries_advisory=metric.buckets
            )
        return self._meter.create_counter(metric.name, metric.unit, metric.about)

    async def close(self) -> None:
        """Send what there is, and no more."""
        self._meters.sinks.remove(self._measure)
        await anyio.to_thread.run_sync(functools.partial(self._provider.shutdown, timeout_millis=CLOSING_S * 1000))


class Senders:
    """What a process exports with: either may be missing."""

    def __init__(self, telemetry: Telemetry, meters: Meters) -> None:
        self.spans = SpanSender(telemetry.traces) if telemetry.traces is not None else None
        self.metrics = MeterSender(telemetry.metrics, meters) if telemetry.metrics is not None else None

    def hush(self) -> None:
        """Send no more spans."""
        if self.spans is not None:
            self.spans.close()

    async def close(self) -> None:
        """Send what has been measured, and no more."""
        self.hush()
        if self.metrics is not None:
            await self.metrics.close()


def _caller(traceparent: str) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _nanoseconds(ts: float) -> int:
    return int(ts * 1e9)


def _version() -> str:
    from importlib.metadata import version

    return version("greenroom")


def _missing(error: ImportError) -> ConfigInvalid:
    return ConfigInvalid(
        f"telemetry is to be exported and {error.name} is not installed: pip install 'greenroom[otel]', "
        "or unset OTEL_EXPORTER_OTLP_ENDPOINT"
    )
