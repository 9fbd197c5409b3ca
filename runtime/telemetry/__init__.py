"""Telemetry: spans, metrics and what Prometheus reads, all of them readings of the log or of the live tree.

Files: `names` (every name), `settings` (what is exported), `spans` (a log folded into spans: pure), `meters` (what is
counted, as text), `watched` (the store, overheard), `gauges` (what is looked at), `exporter` (ended runs, once each),
`otlp` (the OpenTelemetry SDK, of the extra `otel`).
"""

from __future__ import annotations

from .meters import CONTENT_TYPE, Meters
from .names import Profile
from .settings import Telemetry

__all__ = ["CONTENT_TYPE", "Meters", "Profile", "Telemetry"]
