"""Logs folded into spans: whatever a run went through, one tree, every span once, nothing open. On virtual time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from greenroom import Retry, component, emit, sleep, workflow
from greenroom.runtime import records as r
from greenroom.runtime.records import Event
from greenroom.runtime.telemetry.names import Profile
from greenroom.runtime.telemetry.spans import RunSpans, fold_spans
from greenroom.runtime.testing.clock import virtual_backend
from greenroom.runtime.testing.crash import crash_everywhere
from greenroom.runtime.trace import span_id


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@component
async def part(n: int) -> int:
    await emit(f"part {n}")
    return n


@component(retry=Retry(attempts=2, first_s=5, jitter=0))
async def whole(n: int) -> int:
    return await part(n) + await part(n + 1)


@workflow
async def assembled() -> int:
    await sleep(10)
    return await whole(1) + await whole(3)


def checked(spans: RunSpans | None) -> RunSpans:
    """The laws of every trace."""
    assert spans is not None
    ids = [span.id for span in spans.spans]
    assert len(set(ids)) == len(ids)
    assert [span.parent for span in spans.spans].count("") == 1
    assert {span.parent for span in spans.spans} - {""} <= set(ids)
    assert all(span.ended >= span.started >= 0 for span in spans.spans)
    assert {link for span in spans.spans for link in span.links} <= set(ids)
    return spans


@pytest.mark.slow
async def test_wherever_a_worker_is_lost_the_spans_are_one_tree_with_links_to_lost_attempts() -> None:
    trials = await crash_everywhere(assembled)
    assert len(trials) > 10
    clean = checked(fold_spans(trials[0].events))
    lost_somewhere = False
    for trial in trials[1:]:
        spans = checked(fold_spans(trial.events))
        tries: dict[Any, list[Any]] = {}
        for span in spans.spans[1:]:
            tries.setdefault(span.attributes["greenroom.step.id"], []).append(span)
        counted = [span for span in spans.spans[1:] if span.attributes["greenroom.attempt.outcome"] == "completed"]
        assert len(counted) == len(clean.spans) - 1
        for attempts in tries.values():
            for before, after in pairwise(attempts):
                lost_somewhere = True
                assert after.links == [before.id]
                assert before.attributes["greenroom.attempt.outcome"] == "lost"
                assert before.error is not None
    assert lost_somewhere


def at(*log: r.Record) -> list[Event]:
    return [Event(n, 100.0 + n, record) for n, record in enumerate(log, 1)]


def queued(**fields: Any) -> r.RunQueued:
    return r.RunQueued(workflow="w", input=msgspec.Raw(b'{"a":"plum"}'), run_id="x", trace_id="ab" * 16, **fields)


LEASE = r.LeaseTaken(worker="a", build="b", fence=1)
START = r.StepStarted(step="s", name="c", attempt=1)
DONE = r.RunCompleted(result=msgspec.Raw(b"1"))


def test_a_run_that_goes_on_has_no_spans_yet() -> None:
    assert fold_spans(at(queued(), LEASE, START)) is None
    assert fold_spans([]) is None


def test_an_attempt_that_was_handed_over_did_not_fail() -> None:
    again = r.StepStarted(step="s", name="c", attempt=2)
    log = at(queued(), LEASE, START, r.RunHandedOver(worker="a"), LEASE, again, DONE)
    _, first, second = checked(fold_spans(log)).spans
    assert first.attributes["greenroom.attempt.outcome"] == "handed_over"
    assert first.error is None
    assert second.attributes["greenroom.attempt.outcome"] == "unfinished"
    assert second.links == [first.id]


def call(**fields: Any) -> r.LLMCall:
    defaults: dict[str, Any] = {
        "step": "s", "attempt": 1, "status": "ok", "deployment": "gemini/g", "provider": "gemini", "model": "g",
        "asked_model": "fast", "input_tokens": 3, "output_tokens": 5, "seconds": 0.5,
    }  # fmt: skip
    return r.LLMCall(**{**defaults, **fields})


def test_calls_of_one_attempt_are_told_apart_and_named_by_the_conventions() -> None:
    failed = call(
        status="failed", attempts=(r.LLMAttempt(deployment="d", outcome="quota", seconds=0.1, error="key plum"),)
    )
    log = at(queued(metadata={"conversation_id": "talk"}), LEASE, START, call(first_token_s=0.2), failed, DONE)
    _, _, good, bad = checked(fold_spans(log)).spans
    assert good.name == "chat fast"
    assert good.client
    assert (good.started, good.ended) == (103.5, 104.0)
    assert good.attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert good.attributes["gen_ai.response.time_to_first_chunk"] == 0.2
    assert good.attributes["gen_ai.conversation.id"] == "talk"
    assert bad.attributes["error.type"] == "quota"
    assert bad.error == ""
    absent = ("cache_read.input_tokens", "reasoning.output_tokens")
    assert not [name for name in good.attributes if name.endswith((*absent, "response.id", "finish_reasons"))]
    remarked = call(cached_tokens=2, reasoning_tokens=4, response_id="resp_7", finish_reasons=("stop",))
    told = checked(fold_spans(at(queued(), LEASE, START, remarked, DONE))).spans[-1].attributes
    assert told["gen_ai.usage.cache_read.input_tokens"] == 2
    assert told["gen_ai.usage.reasoning.output_tokens"] == 4
    assert told["gen_ai.response.id"] == "resp_7"
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    embedded = checked(fold_spans(at(queued(), LEASE, START, call(operation="embeddings"), DONE))).spans[-1]
    assert embedded.name == "embeddings fast"


def test_a_step_begins_no_later_than_what_happened_in_it() -> None:
    """A start is written behind, with what follows it; its record may be younger than what it tells the start of."""
    inner = r.StepStarted(step="inner", name="inner", attempt=1, scope=START.step)
    asked = call(step="inner", seconds=0.5)
    log = [queued(), LEASE, START, inner, asked, r.StepCompleted(step="inner", attempt=1, result=r.NULL), DONE]
    times = [1.0, 2.0, 9.0, 9.0, 9.2, 9.9, 10.0]
    spans = checked(fold_spans(Event(n, ts, record) for n, (ts, record) in enumerate(zip(times, log, strict=True), 1)))
    _, outer, within, called = spans.spans
    assert (outer.started, within.started, called.started) == (8.7, 8.7, 8.7)


def test_texts_stay_here_unless_content_is_captured() -> None:
    error = r.Failure(type="ValueError", message="plum")
    log = at(queued(), LEASE, START, r.StepFailed(step="s", attempt=1, error=error), r.RunFailed(error=error))
    assert "plum" not in repr(checked(fold_spans(log)))
    assert "plum" in repr(checked(fold_spans(log, content=True)))


def test_a_profile_changes_the_names_that_differ() -> None:
    log = at(queued(), LEASE, DONE)
    old, new = (checked(fold_spans(log, profile)).spans[0].attributes for profile in Profile)
    assert old["gen_ai.workflow.name"] == new["gen_ai.agent.name"] == "w"
    assert old["gen_ai.operation.name"] == new["gen_ai.operation.name"] == "invoke_workflow"


def test_an_id_depends_on_what_it_is_about_and_on_nothing_else() -> None:
    assert span_id("x", "s", 1) == span_id("x", "s", 1) != span_id("x", "s", 2)
    assert span_id("x") == span_id("x", "", 2), "a body's attempts are one span"
    assert span_id("x", "", 1, 1) != span_id("x", "", 2, 1)
