"""What the environment asks for, and what is said when it cannot be done."""

from __future__ import annotations

import importlib.util

import pytest
from structlog.testing import capture_logs

from greenroom import ConfigInvalid, Telemetry
from greenroom.runtime.telemetry import Profile, settings

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}


def test_nothing_is_exported_unless_asked() -> None:
    assert Telemetry.from_env({}) == Telemetry()


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, Telemetry(traces="http://collector:4318/v1/traces", metrics="http://collector:4318/v1/metrics")),
        ({"OTEL_SDK_DISABLED": "true"}, Telemetry()),
        ({"OTEL_METRICS_EXPORTER": "none"}, Telemetry(traces="http://collector:4318/v1/traces")),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other/t", "OTEL_METRICS_EXPORTER": "none"},
            Telemetry(traces="http://other/t"),
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
            },
            Telemetry(metrics="http://collector:4318/v1/metrics", content=True, profile=Profile.GENAI_0_1),
        ),
    ],
)
def test_the_standard_variables_are_honoured(more: dict[str, str], wanted: Telemetry) -> None:
    assert Telemetry.from_env(BASE | more) == wanted


def test_grpc_is_not_spoken_and_that_is_said() -> None:
    with capture_logs() as lines:
        assert Telemetry.from_env(BASE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == Telemetry()
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in lines[0]["event"]


def test_without_the_extra_the_environment_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(settings, "find_spec", lambda name: None if "opentelemetry" in name else find(name))
    with capture_logs() as lines:
        assert Telemetry.from_env(BASE) == Telemetry()
    assert "pip install 'greenroom[otel]'" in lines[0]["event"]


def test_a_password_in_a_url_is_in_no_repr_and_no_error() -> None:
    assert "hunter2" not in repr(Telemetry(traces="https://me:hunter2@collector/v1/traces"))
    with pytest.raises(ConfigInvalid) as caught:
        Telemetry(metrics="ftp://me:hunter2@collector")
    assert "hunter2" not in str(caught.value)


def test_what_is_no_url_is_refused_by_name() -> None:
    with pytest.raises(ConfigInvalid, match=r"Telemetry\.traces is 'collector:4318'"):
        Telemetry(traces="collector:4318")
