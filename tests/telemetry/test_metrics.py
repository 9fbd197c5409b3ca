"""What is counted, and the text that Prometheus reads of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from greenroom import Retry, RouterConfig, RunFailed, Runtime, WorkerSettings, component, workflow
from greenroom.runtime.http import ApiOptions, serve
from greenroom.runtime.http.metrics import metrics_app
from greenroom.runtime.telemetry import Meters
from greenroom.runtime.telemetry import meters as counting
from greenroom.runtime.telemetry.names import METRICS, RUN_SECONDS, RUNS, Metric

LINE = re.compile(r'[a-z_][a-z0-9_]*(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? \S+')
TOKEN = "a-token-of-16-or-more"


@component(retry=Retry(attempts=2, first_s=0.01, jitter=0))
async def fussy(n: int) -> int:
    if n < 0:
        raise ValueError("below 0")
    return n


@workflow
async def fuss(n: int) -> int:
    return await fussy(n)


def read(text: str) -> dict[str, float]:
    """Samples by name and labels; every line must be one, or a comment."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert LINE.fullmatch(line), line
            series, _, value = line.rpartition(" ")
            assert series not in found, "a series stands once"
            found[series] = float(value)
    return found


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    ready, urls = anyio.Event(), []

    def listening(url: str) -> None:
        urls.append(url)
        ready.set()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: serve(app, port=0, ready=listening))
        await ready.wait()
        async with httpx2.AsyncClient(base_url=urls[0], trust_env=False) as client:
            yield client
        group.cancel_scope.cancel()


async def test_runs_steps_retries_and_workers_are_counted_and_no_run_id_is_a_label() -> None:
    runtime = Runtime(fuss, store="memory://", router=RouterConfig(models={}))
    async with runtime, runtime.worker(), serving(runtime.asgi()) as client:
        handles = [await runtime.start(fuss, n=n) for n in (1, 2, -1)]
        for handle in handles[:2]:
            await handle.result()
        with pytest.raises(RunFailed):
            await handles[2].result()
        response = await client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = read(response.text)
    assert found['greenroom_runs_total{workflow="fuss",status="completed"}'] == 2
    assert found['greenroom_runs_total{workflow="fuss",status="failed"}'] == 1
    assert found['greenroom_run_seconds_count{workflow="fuss",status="completed"}'] == 2
    assert found['greenroom_run_seconds_bucket{workflow="fuss",status="completed",le="+Inf"}'] == 2
    assert found['greenroom_steps_total{component="fussy",status="failed"}'] == 1
    assert found['greenroom_step_retries_total{component="fussy"}'] == 1
    assert found['greenroom_workers{state="at_work"}'] == 1
    assert 'greenroom_mailbox_depth{actor="components/fussy"}' in found
    assert not any(handle.run_id in response.text for handle in handles)


async def test_an_api_without_a_worker_counts_what_the_store_knows() -> None:
    runtime = Runtime(fuss, store="memory://")
    async with runtime, serving(runtime.asgi()) as client:
        for n in range(3):
            await runtime.start(fuss, n=n)
        found = read((await client.get("/metrics")).text)
    assert found['greenroom_runs_live{workflow="fuss",state="standing"}'] == 3
    assert found['greenroom_runs_live{workflow="fuss",state="running"}'] == 0
    assert found['greenroom_workers{state="at_work"}'] == 0


async def test_two_workers_in_one_process_are_added_up() -> None:
    runtime = Runtime(fuss, store="memory://", router=RouterConfig(models={}))
    async with runtime, runtime.worker(WorkerSettings(name="a")), runtime.worker(WorkerSettings(name="b")):
        found = read(runtime.meters.text())
        assert found["greenroom_worker_draining"] == 0
        assert 'greenroom_mailbox_depth{actor="claimer"}' in found
    assert "greenroom_worker_runs" not in runtime.meters.text()


async def test_metrics_want_the_token_and_liveness_does_not() -> None:
    options = ApiOptions(token=TOKEN)
    async with serving(metrics_app(Meters(), options=options)) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/v1/runs", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 404


def test_labels_are_escaped_and_histograms_add_up() -> None:
    meters = Meters()
    meters.record(RUNS, labels={"workflow": 'a"b\\c\nd', "status": "completed"})
    for value in (0.01, 0.011, 1e9):
        meters.record(RUN_SECONDS, value, {"workflow": "w", "status": "failed"})
    found = read(meters.text())
    assert found[r'greenroom_runs_total{workflow="a\"b\\c\nd",status="completed"}'] == 1
    buckets = [value for series, value in found.items() if "_bucket" in series]
    assert buckets == sorted(buckets)
    assert buckets[:2] == [1, 2]
    assert buckets[-1] == found['greenroom_run_seconds_count{workflow="w",status="failed"}'] == 3


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_SERIES", 3)
    meters = Meters()
    for n in range(10):
        meters.record(RUNS, labels={"workflow": str(n)})
    found = read(meters.text())
    assert found['greenroom_runs_total{workflow="other"}'] == 7
    assert len(found) == 4


def test_a_measurement_reaches_every_sink() -> None:
    meters, heard = Meters(), []

    def sink(metric: Metric, value: float, labels: Any) -> None:
        heard.append((metric, value, dict(labels)))

    meters.sinks.append(sink)
    meters.record(RUNS, 2, {"workflow": "w"})
    assert heard == [(RUNS, 2, {"workflow": "w"})]


def test_names_of_metrics_are_unique_and_units_are_those_of_opentelemetry() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.unit == "s" or metric.unit.startswith("{") for metric in METRICS)


@pytest.mark.slow
def test_a_program_that_exports_nothing_never_imports_opentelemetry() -> None:
    program = """
import asyncio, sys
from greenroom import Runtime, RouterConfig, workflow
@workflow
async def w() -> int: return 1
async def main():
    runtime = Runtime(w, store="memory://", router=RouterConfig(models={}))
    async with runtime, runtime.worker():
        print(await (await runtime.start(w)).result(), [m for m in sys.modules if m.startswith("opentelemetry")])
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.stdout.startswith("1 []\n"), done.stderr
