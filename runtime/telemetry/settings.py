"""What of a runtime's telemetry is exported, and where to. Off unless it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import structlog

from ..errors import ConfigInvalid
from ..redaction import redact
from .names import CAPTURE, Profile

log = structlog.get_logger("greenroom.telemetry")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Export over OTLP/HTTP. Headers, certificates, time-outs, resource and sampler are as `OTEL_*` variables say.

    Attributes:
        traces: the URL that runs' spans are posted to, such as `http://localhost:4318/v1/traces`; None: none are.
        metrics: the URL that metrics are posted to; None: none are.
        content: export what runs were given and gave, and the messages of errors, too.
        profile: which version of the conventions names are from.

    Raises:
        ConfigInvalid: a URL is none.
    """

    traces: str | None = field(default=None, repr=False)
    metrics: str | None = field(default=None, repr=False)
    content: bool = False
    profile: Profile = Profile.V1_41

    def __post_init__(self) -> None:
        for name, url in (("traces", self.traces), ("metrics", self.metrics)):
            if url is not None and not url.startswith(("http://", "https://")):
                raise ConfigInvalid(
                    f"Telemetry.{name} is {redact(url)!r}: give a URL such as http://localhost:4318/v1/{name}"
                )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Telemetry:
        """Return what the standard variables of OpenTelemetry ask for."""

        def url(variable: str, signal: str) -> str | None:
            if environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") != "otlp":
                return None
            base = environ.get(ENDPOINT, "").rstrip("/")
            return environ.get(variable) or (f"{base}/v1/{signal}" if base else None)

        traces, metrics = url(TRACES_ENDPOINT, "traces"), url(METRICS_ENDPOINT, "metrics")
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not (traces or metrics):
            return cls()
        if (hindrance := _hindrance(environ)) is not None:
            log.warning(f"OTLP variables are set, and nothing is exported: {hindrance}")
            return cls()
        return cls(
            traces=traces,
            metrics=metrics,
            content=environ.get(CAPTURE, "").strip().lower() in _CONTENT,
            profile=Profile.from_env(environ),
        )


def _hindrance(environ: Mapping[str, str]) -> str | None:
    """Why what the environment asks for cannot be done; it may have been set for other programs."""
    if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
        return "the protocol is grpc: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the endpoint of that"
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return "pip install 'greenroom[otel]'"
    return None


_CONTENT = frozenset({"true", "span_only", "span_and_event"})
"""Values of the variable that ask for content in spans."""
