"""A trace is a fold of the log: attempts, lost workers, calls, tokens."""

from __future__ import annotations

import msgspec

from greenroom.runtime import records as r
from greenroom.runtime.records import Event
from greenroom.runtime.trace import fold_trace


def call(model: str, tokens: int, cost: float | None = None) -> r.LLMCall:
    return r.LLMCall(
        step="a",
        attempt=1,
        status="ok",
        deployment="d",
        provider="openai",
        model=model,
        asked_model="smart",
        input_tokens=tokens,
        output_tokens=1,
        cost_usd=cost,
    )


def test_a_trace_tells_what_happened_on_which_worker() -> None:
    boom = r.Failure(type="OSError", message="boom")
    records: list[r.Record] = [
        r.RunQueued(workflow="w", input=msgspec.Raw(b"{}"), run_id="x", trace_id="t"),
        r.LeaseTaken(worker="one", build="b", fence=1),
        r.StepStarted(step="a", name="a", attempt=1),
        call("gpt", 10, 0.5),
        r.StepRetrying(step="a", attempt=1, error=boom, delay_s=1.0),
        r.StepStarted(step="a", name="a", attempt=2),
        r.LeaseTaken(worker="two", build="b", fence=2, takeover=True, recorded=0),
        r.StepStarted(step="a", name="a", attempt=3),
        r.StepStarted(step="b", name="b", attempt=1, scope="a"),
        r.StepCompleted(step="b", attempt=1, result=msgspec.Raw(b"1")),
        call("gpt", 5),
        call("gemini", 7),
        r.StepCompleted(step="a", attempt=3, result=msgspec.Raw(b"1")),
        r.RunCompleted(result=msgspec.Raw(b"1"), replayed=4),
    ]
    trace = fold_trace(Event(n, float(n), record) for n, record in enumerate(records, 1))
    a, b = trace.spans
    assert [(t.number, t.worker, t.outcome) for t in a.attempts] == [
        (1, "one", "failed"),
        (2, "one", "lost"),
        (3, "two", "completed"),
    ]
    assert (a.started, a.ended, a.status) == (3.0, 13.0, "completed")
    assert (b.scope, b.status) == ("a", "completed")
    assert (trace.takeovers, trace.steps_executed, trace.steps_replayed, trace.steps_recorded_twice) == (1, 2, 4, 0)
    assert {model: (t.calls, t.input, t.output, t.cost_usd) for model, t in trace.tokens.items()} == {
        "gpt": (2, 15, 2, 0.5),
        "gemini": (1, 7, 1, None),
    }
    assert (trace.status, trace.created, trace.started, trace.ended) == ("completed", 1.0, 2.0, 14.0)


def test_a_trace_of_a_run_in_flight_is_whole_too() -> None:
    trace = fold_trace([Event(1, 1.0, r.StepStarted(step="a", name="a", attempt=1))])
    assert trace.spans[0].status == "running"
    assert trace.ended is None
