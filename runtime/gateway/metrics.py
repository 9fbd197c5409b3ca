"""What Prometheus reads: calls, tokens, durations, the line and the breakers. Labels are bounded: no ids, no texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ..router import CallRecord, Router

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STATES = {"closed": 0, "half_open": 1, "open": 2}
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts since the start."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._calls: Counter[tuple[str, str, str]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, Histogram] = {name: Histogram() for name in ("call", "queue", "first_token")}

    def answered(self, key: str, status: int) -> None:
        """Count a request of a key."""
        self._requests[key, str(status)] += 1

    def called(self, record: CallRecord) -> None:
        """Count a call that is over."""
        self._calls[record.asked_model, record.deployment, record.status] += 1
        self._tokens[record.asked_model, "input"] += record.input_tokens
        self._tokens[record.asked_model, "output"] += record.output_tokens
        self._seconds["call"].add(record.latency_s)
        self._seconds["queue"].add(record.queued_s)
        if record.first_token_s is not None:
            self._seconds["first_token"].add(record.first_token_s)

    def text(self, router: Router) -> str:
        """Write all of it down."""
        return "\n".join(self._lines(router)) + "\n"

    def _lines(self, router: Router) -> Iterator[str]:
        yield "# TYPE greenroom_gateway_requests_total counter"
        for (key, status), count in sorted(self._requests.items()):
            yield _line("greenroom_gateway_requests_total", {"key": key, "status": status}, count)
        yield "# TYPE greenroom_llm_calls_total counter"
        for (model, deployment, status), count in sorted(self._calls.items()):
            labels = {"model": model, "deployment": deployment, "status": status}
            yield _line("greenroom_llm_calls_total", labels, count)
        yield "# TYPE greenroom_llm_tokens_total counter"
        for (model, kind), count in sorted(self._tokens.items()):
            yield _line("greenroom_llm_tokens_total", {"model": model, "type": kind}, count)
        for name, histogram in self._seconds.items():
            yield from histogram.lines(f"greenroom_llm_{name}_seconds")
        yield "# TYPE greenroom_llm_waiting gauge"
        yield _line("greenroom_llm_waiting", {}, router.waiting)
        yield "# TYPE greenroom_provider_circuit_state gauge"
        for lane in router.snapshot():
            yield _line("greenroom_provider_circuit_state", {"deployment": lane.deployment}, STATES[lane.breaker])
        yield "# TYPE greenroom_provider_in_flight gauge"
        for lane in router.snapshot():
            yield _line("greenroom_provider_in_flight", {"deployment": lane.deployment}, lane.in_flight)


class Histogram:
    """Durations, seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[sum(seconds > bound for bound in BOUNDS)] += 1
        self._sum += seconds

    def lines(self, name: str) -> Iterator[str]:
        """Write it down."""
        yield f"# TYPE {name} histogram"
        below = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            below += count
            yield _line(f"{name}_bucket", {"le": bound}, below)
        yield _line(f"{name}_sum", {}, self._sum)
        yield _line(f"{name}_count", {}, below)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value:g}" if told else f"{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
