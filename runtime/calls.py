"""LLM calls as a run sees them: what they find where they are made, and how they are recorded.

Why: the router knows nothing of runs, and a run nothing of deployments. Here a call inherits its run's tenant,
priority and deadline, waits as a part of its run, and leaves its account in the run's log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import msgspec

from .components import Setting
from .definitions import current_caller
from .portraits import Decisions
from .records import LLMAttempt, LLMCall
from .router import CallRecord, Position, Router, Standing, current_router, observer, standing
from .router.budget import purses
from .step import Attempt


@contextmanager
def routed(router: Router) -> Iterator[None]:
    """Have LLM calls find this router: those of all that is started in the block."""
    token = current_router.set(router)
    try:
        yield
    finally:
        current_router.reset(token)


def surround(decisions: Decisions, attempt: Attempt) -> list[Setting]:
    """Return what LLM calls in an attempt find besides the router: on whose behalf they are, who records, who pays."""

    def observe(call: CallRecord) -> None:
        decisions.note(attempt.run_id, attempt.step, call)
        attempt.observe(llm_record(call))

    deadline = attempt.deadline
    if attempt.timeout_s is not None:
        deadline = min(deadline, anyio.current_time() + attempt.timeout_s)
    found = Standing(
        tenant=attempt.lane.tenant,
        priority=attempt.lane.priority,
        deadline=deadline,
        patience=attempt.patience,
        tell=lambda position: attempt.note(waiting(position), msgspec.structs.asdict(position)),
    )
    settings: list[Setting] = [(current_caller, attempt), (observer, observe), (standing, found)]
    if spending := purses.get():
        settings.append((purses, spending))
    return settings


def waiting(position: Position) -> str:
    """Say in one line where a call stands that waits for room."""
    return f"waiting for {position.model}: {position.ahead} ahead, about {position.expected_s:.0f} s"


def llm_record(call: CallRecord) -> LLMCall:
    """Put the router's account of a call into the log's words; the attempt fills in its step."""
    return LLMCall(
        step="",
        attempt=0,
        status=call.status,
        deployment=call.deployment,
        provider=call.provider,
        model=call.model,
        asked_model=call.asked_model,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cost_usd=call.cost_usd,
        seconds=call.latency_s,
        first_token_s=call.first_token_s,
        queued_s=call.queued_s,
        stream=call.stream,
        reason=call.reason,
        operation="embeddings" if call.path == "/embeddings" else "chat",
        cached_tokens=call.remarks.cached_tokens,
        reasoning_tokens=call.remarks.reasoning_tokens,
        response_id=call.remarks.response_id,
        finish_reasons=call.remarks.finish_reasons,
        attempts=tuple(
            LLMAttempt(deployment=a.deployment, outcome=a.outcome, seconds=a.latency_s, error=a.error or "")
            for a in call.attempts
        ),
    )
