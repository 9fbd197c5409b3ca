"""What is counted in this process, and the text that Prometheus reads. Needs nothing but itself.

Laws kept here: 11 (a metric has at most `MOST_SERIES` sets of labels; what is beyond them is counted as `other`).
A gauge is not kept: it is looked at by whoever asks for the text, and added up over the workers of the process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias

from .names import Metric

MOST_SERIES = 1000
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels: TypeAlias = Mapping[str, str]
Sample: TypeAlias = tuple[Metric, Labels, float]
"""A gauge as it stands."""

Sink: TypeAlias = Callable[[Metric, float, Labels], None]
"""Is told of every measurement."""

NONE: Labels = MappingProxyType({})

_Key: TypeAlias = tuple[tuple[str, str], ...]


class Counter:
    """What one metric comes to with one set of labels: a sum."""

    __slots__ = ("_labels", "_metric", "_sinks", "value")

    def __init__(self, metric: Metric, labels: Labels, sinks: list[Sink]) -> None:
        self._metric = metric
        self._labels = labels
        self._sinks = sinks
        self.value = 0.0

    def record(self, value: float = 1.0) -> None:
        """Add to it."""
        self.value += value
        for sink in self._sinks:
            sink(self._metric, value, self._labels)


class Histogram(Counter):
    """The same, and how many values lay below each bound."""

    __slots__ = ("_bounds", "counts")

    def __init__(self, metric: Metric, labels: Labels, sinks: list[Sink]) -> None:
        super().__init__(metric, labels, sinks)
        self._bounds = metric.buckets
        self.counts = [0] * (len(metric.buckets) + 1)

    def record(self, value: float = 1.0) -> None:
        """Measure into it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        super().record(value)


class Meters:
    """Counters and histograms by metric and labels. For one event loop."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.gauges: list[Callable[[], Iterable[Sample]]] = []
        self._series: dict[Metric, dict[_Key, Counter]] = {}

    def record(self, metric: Metric, value: float = 1.0, labels: Labels = NONE) -> None:
        """Add to a counter, or measure into a histogram. A metric's labels come in the same order every time."""
        self.series(metric, labels).record(value)

    def series(self, metric: Metric, labels: Labels = NONE) -> Counter:
        """Return what measures this metric with these labels; to be kept where it is needed often."""
        key, known = tuple(labels.items()), self._series.setdefault(metric, {})
        found = known.get(key)
        if found is None:
            key = _bounded(key, known)
            kind = Histogram if metric.buckets else Counter
            found = known.setdefault(key, kind(metric, dict(key), self.sinks))
        return found

    def text(self, gauges: Iterable[Sample] = ()) -> str:
        """Return all of it, and some gauges, in Prometheus' text format."""
        lines: list[str] = []
        for metric, known in self._series.items():
            lines += _head(metric, "histogram" if metric.buckets else "counter")
            for key, series in known.items():
                if isinstance(series, Histogram):
                    lines += _histogram(metric, key, series)
                else:
                    lines.append(f"{_name(metric)}_total{_labels(key)} {_number(series.value)}")
        looked: dict[Metric, dict[_Key, float]] = {}
        for metric, labels, value in chain(gauges, *(look() for look in self.gauges)):
            samples, key = looked.setdefault(metric, {}), tuple(labels.items())
            samples[key] = samples.get(key, 0.0) + value
        for metric, samples in looked.items():
            lines += _head(metric, "gauge")
            lines += [f"{_name(metric)}{_labels(key)} {_number(value)}" for key, value in samples.items()]
        return "\n".join([*lines, ""])


def _bounded(key: _Key, known: Mapping[_Key, object]) -> _Key:
    if len(known) < MOST_SERIES:
        return key
    return tuple((name, "other") for name, _ in key)


def _name(metric: Metric) -> str:
    name = metric.name.replace(".", "_")
    return f"{name}_seconds" if metric.unit == "s" else name


def _head(metric: Metric, kind: str) -> Iterator[str]:
    name = f"{_name(metric)}_total" if kind == "counter" else _name(metric)
    yield f"# HELP {name} {metric.about}"
    yield f"# TYPE {name} {kind}"


def _histogram(metric: Metric, key: _Key, histogram: Histogram) -> Iterator[str]:
    name, total = _name(metric), 0
    for bound, count in zip((*metric.buckets, None), histogram.counts, strict=True):
        total += count
        edge = "+Inf" if bound is None else _number(bound)
        yield f"{name}_bucket{_labels((*key, ('le', edge)))} {total}"
    yield f"{name}_sum{_labels(key)} {_number(histogram.value)}"
    yield f"{name}_count{_labels(key)} {total}"


def _labels(key: _Key) -> str:
    if not key:
        return ""
    return "{" + ",".join(f'{name.replace(".", "_")}="{_escaped(value)}"' for name, value in key) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.12g}"
