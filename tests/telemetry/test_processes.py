"""Workers as processes, set up by the standard variables alone, one of them killed by the kernel."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx2
import msgspec
import pytest

from greenroom.runtime.records import decode
from greenroom.transports import open_transport

from .conftest import Collector, attributes

TARGET = """
import asyncio
from pathlib import Path

import structlog

from greenroom import Runtime, component, workflow


@component
async def gate() -> str:
    structlog.get_logger("mine").info("at the gate")
    while not Path("open").exists():
        await asyncio.sleep(0.02)
    return "through"


@workflow
async def patient() -> str:
    structlog.get_logger("mine").info("on the way")
    return await gate()


runtime = Runtime(patient)
"""


class Process:
    """A worker and what it has written to standard error."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.written = ""
        self.wrote = anyio.Event()

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for piece in self.process.stderr:
            self.written += piece.decode()
            self.wrote.set()
            self.wrote = anyio.Event()

    async def said(self, text: str) -> str:
        """Wait until a text stands there; the line that it stands in."""
        with anyio.fail_after(40):
            while not any(text in line for line in self.written.splitlines(keepends=True) if line.endswith("\n")):
                await self.wrote.wait()
        return next(line for line in self.written.splitlines() if text in line)


@asynccontextmanager
async def worker(folder: Path, collector: Collector, name: str, *options: str) -> AsyncIterator[Process]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "OTEL_"))}
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "newsroom"}
    command = [sys.executable, "-m", "greenroom", "worker", "target.py", "--name", name, "--lease-s", "0.5", *options]
    process = await anyio.open_process(command, cwd=folder, env=env, stdout=None)
    async with anyio.create_task_group() as group:
        made = Process(process)
        group.start_soon(made.read)
        try:
            yield made
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                group.cancel_scope.cancel()
    await process.aclose()


@pytest.mark.slow
async def test_a_killed_worker_s_run_is_one_trace_and_lines_and_metrics_say_where(
    tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "target.py").write_text(TARGET, encoding="utf-8")
    async with open_transport(f"sqlite:///{tmp_path / 'greenroom.db'}") as store:
        from greenroom import workflow
        from greenroom.runtime.runs import Runs

        @workflow
        async def patient() -> str:
            return ""

        runs = Runs(store, {"patient": patient})
        run, _ = await runs.start("patient", b"{}")
        async with worker(tmp_path, collector, "first") as first:
            line = msgspec.json.decode(await first.said("at the gate"))
            with anyio.fail_after(40):
                while "step.started" not in [one.kind for one in await store.read(run.run_id)]:  # noqa: ASYNC110 - written by another process
                    await anyio.sleep(0.01)
            first.process.send_signal(signal.SIGKILL)
            await first.process.wait()
        assert collector.spans == []
        async with worker(tmp_path, collector, "second", "--metrics-port", "0") as second:
            await second.said("at the gate")
            url = (await second.said("metrics    ")).split()[-1]
            (tmp_path / "open").touch()
            view = await runs.wait(run.run_id, 40)
            async with httpx2.AsyncClient(trust_env=False) as client:
                text = (await client.get(url)).text
            second.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(40):
                assert await second.process.wait() == 0
        log = [decode(stored) for stored in await store.read(run.run_id)]

    lost, done = collector.by_name["execute_step gate"]
    (root,) = collector.by_name["invoke_workflow patient"]
    assert len(collector.spans) == 3
    assert {span.trace_id.hex() for span in collector.spans} == {view.trace_id}
    assert [link.span_id for link in done.links] == [lost.span_id]
    assert [attributes(span)["greenroom.worker"] for span in (lost, done)] == ["first", "second"]
    assert [attributes(event)["greenroom.worker"] for event in root.events] == ["first", "second"]
    assert {attributes(resource)["service.name"] for resource in collector.resources} == {"newsroom"}
    assert "greenroom.runs" in collector.metrics, "the last metrics are sent on leaving"

    assert 'greenroom_takeovers_total{workflow="patient"} 1' in text
    assert 'greenroom_runs_total{workflow="patient",status="completed"} 1' in text
    assert run.run_id not in text

    started = next(event.record for event in log if event.kind == "step.started")
    assert line["run_id"] == run.run_id
    assert line["trace_id"] == view.trace_id
    assert line["step_id"] == getattr(started, "step", None)
    assert line["attempt"] == 1
    assert line["actor"] == "worker/components/gate/1"
    body = msgspec.json.decode(next(line for line in first.written.splitlines() if "on the way" in line))
    assert body["run_id"] == run.run_id
    assert "step_id" not in body
