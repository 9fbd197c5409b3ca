"""Spans that arrive at a real collector: one trace per run, over workers that are cut off, each span once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from greenroom import (
    Retry,
    RouterConfig,
    RunFailed,
    Runtime,
    StepFailed,
    Telemetry,
    WorkerSettings,
    child,
    component,
    llm,
    sleep,
    traceparent,
    workflow,
)
from greenroom.runtime import worker as working_hours
from greenroom.runtime.runs import Runs
from greenroom.runtime.simulator import Latency, Simulator, default_plans, serve_simulator
from greenroom.runtime.telemetry import exporter as exporting
from greenroom.runtime.testing.crash import Severed
from greenroom.runtime.worker import open_worker
from greenroom.transports import Append, Finish, Transport, TransportError, WorkerInfo, open_transport

from .conftest import Collector, attributes

PROMPT = [
    msgspec.structs.replace(plan, latency=Latency(first_token_s=0.01, tokens_per_s=0, jitter=0))
    for plan in default_plans()
]
CANARY = "canary-4c1d-do-not-tell"


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAUSE_S", 0.01)
    monkeypatch.setattr(exporting, "LONGEST_PAUSE_S", 0.05)


@component
async def ask(question: str) -> str:
    answer = await llm.chat.completions.create(model="smart", messages=[{"role": "user", "content": question}])
    return str(answer.choices[0].message.content)


@component
async def inner(n: int) -> int:
    return n + 1


@component
async def outer(n: int) -> int:
    return await inner(n) + await inner(n + 1)


@component(retry=Retry(attempts=2, first_s=0.01, jitter=0))
async def shaky(secret: str) -> str:
    raise ValueError(f"cannot do with {secret}")


@workflow
async def research(question: str) -> str:
    await outer(1)
    return await ask(question)


@workflow
async def failing(secret: str) -> str:
    return await shaky(secret)


@workflow
async def tolerant() -> str:
    try:
        return await shaky("x")
    except StepFailed:
        return "never mind"


def of(collector: Collector, name: str) -> Span:
    (span,) = collector.by_name[name]
    return span


@asynccontextmanager
async def working(collector: Collector, *workflows: Any, **more: Any) -> AsyncIterator[Runtime]:
    async with serve_simulator(Simulator(PROMPT)) as at:
        runtime = Runtime(
            *workflows,
            store="memory://",
            router=RouterConfig.from_env(at.env),
            telemetry=Telemetry(traces=collector.traces_url, **more),
        )
        async with runtime, runtime.worker():
            yield runtime


async def test_a_run_is_one_trace_of_its_steps_and_calls(collector: Collector) -> None:
    async with working(collector, research) as runtime:
        handle = await runtime.start(research, question="Why is the sky blue?")
        await handle.result()
        view = await handle.view()
    names = Counter(span.name for span in collector.spans)
    assert names == {
        "invoke_workflow research": 1,
        "execute_step outer": 1,
        "execute_step inner": 2,
        "execute_step ask": 1,
        "chat smart": 1,
    }
    assert {span.trace_id.hex() for span in collector.spans} == {view.trace_id}
    root, asked, called = (
        of(collector, name) for name in ("invoke_workflow research", "execute_step ask", "chat smart")
    )
    assert root.parent_span_id == b""
    assert asked.parent_span_id == of(collector, "execute_step outer").parent_span_id == root.span_id
    assert {one.parent_span_id for one in collector.by_name["execute_step inner"]} == {
        of(collector, "execute_step outer").span_id
    }
    assert called.parent_span_id == asked.span_id
    assert called.kind == Span.SPAN_KIND_CLIENT
    assert root.start_time_unix_nano <= asked.start_time_unix_nano <= called.start_time_unix_nano
    assert called.end_time_unix_nano <= asked.end_time_unix_nano <= root.end_time_unix_nano
    said = attributes(called)
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] in ("openai", "gcp.gemini")
    assert said["gen_ai.request.model"] == "smart"
    assert said["gen_ai.response.model"]
    assert said["gen_ai.usage.input_tokens"] > 0
    assert said["gen_ai.usage.output_tokens"] > 0
    assert said["gen_ai.response.id"]
    assert said["gen_ai.response.finish_reasons"] == ["stop"]
    assert said["greenroom.run.id"] == handle.run_id
    assert attributes(root)["gen_ai.workflow.name"] == "research"
    assert attributes(root)["greenroom.run.status"] == "completed"
    assert {scope.schema_url for scope in collector.scopes} == {"https://opentelemetry.io/schemas/1.41.0"}


class EndLost(Severed):
    """A line that is cut when the end of a run has been appended."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, after=0)

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        if any(isinstance(one.to, Finish) for one in appends):
            self._left = 1
        return await super().append_all(appends)


async def cut_off(line: Any, runs: Runs, run_id: str, settings: WorkerSettings, telemetry: Telemetry) -> bool:
    """Let a worker go on until its line is cut, and be gone; False if the run ended before."""
    async with anyio.create_task_group() as group:

        async def work() -> None:
            async with open_worker(line, runs.workflows, settings, RouterConfig(models={}), telemetry=telemetry):
                await runs.wait(run_id)
            group.cancel_scope.cancel()

        group.start_soon(work)
        await line.cut.wait()
        group.cancel_scope.cancel()
    return bool(line.cut.is_set())


@workflow
async def counted(n: int) -> int:
    return await outer(n)


@pytest.mark.slow
async def test_a_run_that_loses_its_worker_is_one_trace_with_every_span_once(collector: Collector) -> None:
    telemetry, settings = Telemetry(traces=collector.traces_url), WorkerSettings(lease_s=0.5)
    async with open_transport("memory://") as store:
        runs = Runs(store, {"counted": counted})
        run, _ = await runs.start("counted", b'{"n": 1}')
        assert await cut_off(Severed(store, after=3), runs, run.run_id, settings, telemetry)
        assert collector.spans == []
        async with open_worker(store, runs.workflows, settings, RouterConfig(models={}), telemetry=telemetry):
            view = await runs.wait(run.run_id)
    assert set(Counter(span.span_id for span in collector.spans).values()) == {1}
    assert {span.trace_id.hex() for span in collector.spans} == {view.trace_id}
    leases = [attributes(event) for event in of(collector, "invoke_workflow counted").events]
    assert [lease["greenroom.takeover"] for lease in leases] == [False, True]
    lost, done = collector.by_name["execute_step outer"]
    assert attributes(lost)["greenroom.attempt.outcome"] == "lost"
    assert attributes(lost)["error.type"] == "WorkerLost"
    assert lost.status.code == Status.STATUS_CODE_ERROR
    assert [link.span_id for link in done.links] == [lost.span_id]
    assert attributes(done)["greenroom.attempt.outcome"] == "completed"


class Looked:
    """A store that knows how often lost workers were looked for."""

    def __init__(self, store: Transport) -> None:
        self._store = store
        self._looks = 0
        self._looked = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def workers(self) -> list[WorkerInfo]:
        found = await self._store.workers()
        self._looks += 1
        self._looked.set()
        self._looked = anyio.Event()
        return found

    async def times(self, looks: int) -> None:
        with anyio.fail_after(30):
            while self._looks <= looks:
                await self._looked.wait()


@pytest.mark.slow
async def test_a_run_that_another_worker_ended_and_could_not_send_is_sent_once_by_the_next(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "LOOK_S", 0.05)
    monkeypatch.setattr(exporting, "SILENT_S", 0.0)
    telemetry, settings = Telemetry(traces=collector.traces_url), WorkerSettings(lease_s=0.5)
    async with open_transport("memory://") as store:
        runs = Runs(store, {"counted": counted})
        run, _ = await runs.start("counted", b'{"n": 1}')
        assert await cut_off(EndLost(store), runs, run.run_id, settings, telemetry)
        assert (await runs.view(run.run_id)).run.state.terminal, "the last append was the run's end"
        assert collector.spans == []
        async with open_worker(store, runs.workflows, settings, RouterConfig(models={}), telemetry=telemetry):
            await collector.until(lambda: collector.spans)
        line: Any = Looked(store)
        async with open_worker(line, runs.workflows, settings, RouterConfig(models={}), telemetry=telemetry):
            other, _ = await runs.start("counted", b'{"n": 5}')
            await runs.wait(other.run_id)
            await line.times(2)
    assert [attributes(span)["greenroom.run.id"] for span in collector.by_name["invoke_workflow counted"]] == [
        run.run_id,
        other.run_id,
    ]


async def test_a_collector_that_refuses_holds_up_no_run_and_gets_the_spans_later(collector: Collector) -> None:
    collector.status = 400
    async with working(collector, counted) as runtime:
        handles = [await runtime.start(counted, n=n) for n in range(3)]
        for handle in handles:
            await handle.result()
        await collector.until(lambda: collector.refused)
        collector.status = 200
        await collector.until(lambda: len(collector.by_name.get("invoke_workflow counted", ())) == 3)
    assert set(Counter(span.span_id for span in collector.spans).values()) == {1}


async def test_a_worker_that_leaves_owing_spans_is_remembered_so_that_another_sends_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_hours, "SETTLE_S", 0.05)
    monkeypatch.setattr(working_hours, "HAND_OVER_S", 0.05)
    collector.status = 400
    telemetry = Telemetry(traces=collector.traces_url)
    async with open_transport("memory://") as store:
        runs = Runs(store, {"counted": counted})
        run, _ = await runs.start("counted", b'{"n": 1}')
        settings = WorkerSettings(name="owing")
        async with open_worker(store, runs.workflows, settings, RouterConfig(models={}), telemetry=telemetry):
            await runs.wait(run.run_id)
        assert [worker.name for worker in await store.workers()] == ["owing"]


async def test_failures_say_their_type_and_nothing_of_what_was_said(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", f"sk-{CANARY}")
    async with working(collector, failing, research) as runtime:
        handle = await runtime.start(failing, secret=CANARY)
        with pytest.raises(RunFailed):
            await handle.result()
        await (await runtime.start(research, question=f"What of {CANARY}?")).result()
    first, second = collector.by_name["execute_step shaky"]
    assert [link.span_id for link in second.links] == [first.span_id]
    assert {attributes(span)["error.type"] for span in (first, second)} == {"ValueError"}
    root = of(collector, "invoke_workflow failing")
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert root.status.message == ""
    assert CANARY.encode() not in collector.raw


async def test_captured_content_is_exported_without_secrets(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", f"sk-{CANARY}")
    async with working(collector, failing, content=True) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(failing, secret=f"a plum and sk-{CANARY}")).result()
    root = of(collector, "invoke_workflow failing")
    assert attributes(root)["greenroom.run.input"] == '{"secret":"a plum and ***"}'
    assert "cannot do with a plum" in root.status.message
    assert CANARY.encode() not in collector.raw


async def test_a_caller_s_trace_goes_on_through_a_run_its_children_and_its_requests(collector: Collector) -> None:
    trace, caller, seen = "ab" * 16, "cd" * 8, []

    @component
    async def request() -> None:
        seen.append(traceparent())

    @workflow
    async def small() -> None:
        await request()

    @workflow
    async def large() -> None:
        await child(small)

    async with working(collector, small, large) as runtime:
        run, _ = await runtime.runs.start("large", b"{}", traceparent=f"00-{trace}-{caller}-01")
        await runtime.runs.result(run.run_id)
    assert {span.trace_id.hex() for span in collector.spans} == {trace}
    assert of(collector, "invoke_workflow large").parent_span_id.hex() == caller
    assert of(collector, "invoke_workflow small").parent_span_id == of(collector, "execute_step small").span_id
    assert seen == [f"00-{trace}-{of(collector, 'execute_step request').span_id.hex()}-01"]


async def test_what_the_caller_does_not_sample_is_not_sent(collector: Collector) -> None:
    async with working(collector, counted) as runtime:
        for flags in ("00", "01"):
            run, _ = await runtime.runs.start("counted", b'{"n": 1}', traceparent=f"00-{'ab' * 16}-{'cd' * 8}-{flags}")
            await runtime.runs.result(run.run_id)
    assert attributes(of(collector, "invoke_workflow counted"))["greenroom.run.id"] == run.run_id


async def test_embeddings_are_called_by_their_name(collector: Collector) -> None:
    @workflow
    async def embed() -> int:
        return len((await llm.embeddings.create(model="embed", input="tea")).data)

    async with working(collector, embed) as runtime:
        assert await (await runtime.start(embed)).result() == 1
    called = of(collector, "embeddings embed")
    assert attributes(called)["gen_ai.operation.name"] == "embeddings"
    assert called.parent_span_id == of(collector, "invoke_workflow embed").span_id, "the body called it"


async def test_a_wait_over_a_parked_run_is_one_span_and_no_failure(collector: Collector) -> None:
    @workflow
    async def patient() -> None:
        await inner(1)
        await sleep(0.3)

    runtime = Runtime(
        patient,
        store="memory://",
        router=RouterConfig(models={}),
        settings=WorkerSettings(park_after_s=0.01),
        telemetry=Telemetry(traces=collector.traces_url),
    )
    async with runtime, runtime.worker():
        handle = await runtime.start(patient)
        await handle.result()
        kinds = [event.kind async for event in handle.events()]
    assert "run.parked" in kinds
    (waited,) = [span for span in collector.spans if "greenroom.step.waits_for" in attributes(span)]
    assert attributes(waited)["greenroom.attempt.outcome"] == "completed"
    assert waited.status.code == Status.STATUS_CODE_UNSET
    assert waited.end_time_unix_nano - waited.start_time_unix_nano >= 0.3e9
    assert len(of(collector, "invoke_workflow patient").events) == 2


async def test_metrics_arrive_with_the_conventions_buckets(collector: Collector) -> None:
    async with serve_simulator(Simulator(PROMPT)) as at:
        runtime = Runtime(
            research,
            store="memory://",
            router=RouterConfig.from_env(at.env),
            telemetry=Telemetry(metrics=collector.metrics_url),
        )
        async with runtime, runtime.worker():
            await (await runtime.start(research, question="Why?")).result()
    assert {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "greenroom.runs",
    } <= collector.metrics.keys()
    points = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert {attributes(point)["gen_ai.token.type"] for point in points} == {"input", "output"}
    assert list(points[0].explicit_bounds) == [4.0**n for n in range(14)]
    (duration,) = collector.metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert duration.count == 1
    assert list(duration.explicit_bounds) == pytest.approx([0.01 * 2**n for n in range(14)])
