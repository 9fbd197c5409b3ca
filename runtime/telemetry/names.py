"""Every name that leaves the process: of spans, attributes and metrics. No other file spells one.

Why: the GenAI conventions are still in development and have moved to a repository of their own, so names change under
whoever uses them. Here a change is one line, and a profile is one value.

`V1_41` are the OpenTelemetry semantic conventions 1.41, the last that held `gen_ai.*`; `GENAI_0_1` is the first release
of the GenAI conventions on their own. `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` asks for the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
NEWEST = "gen_ai_latest_experimental"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a name
ERROR_TYPE = "error.type"

RUN_ID = "greenroom.run.id"
RUN_STATUS = "greenroom.run.status"
RUN_TAGS = "greenroom.run.tags"
RUN_INPUT = "greenroom.run.input"
RUN_RESULT = "greenroom.run.result"
PARENT_RUN = "greenroom.run.parent"
FORKED_FROM = "greenroom.run.forked_from"
STEP_ID = "greenroom.step.id"
COMPONENT = "greenroom.step.component"
SOURCE = "greenroom.step.source"
WAITS_FOR = "greenroom.step.waits_for"
STEP_RESULT = "greenroom.step.result"
ATTEMPT = "greenroom.attempt"
OUTCOME = "greenroom.attempt.outcome"
WORKER = "greenroom.worker"
BUILD = "greenroom.build"
TAKEOVER = "greenroom.takeover"
ROUTE = "greenroom.router.route"
ROUTE_REASON = "greenroom.router.reason"
QUEUED_S = "greenroom.router.queued_s"
COST = "greenroom.cost_usd"
LEASE = "greenroom.lease"

INVOKE_WORKFLOW = "invoke_workflow"
EXECUTE_STEP = "execute_step"

PROVIDERS = {"openai": "openai", "gemini": "gcp.gemini", "compatible": "openai"}
"""From the router's word for a provider to that of the conventions."""

SCOPE = "greenroom"
"""The instrumentation scope."""


@dataclass(frozen=True)
class Conventions:
    """A version of the conventions, where versions differ. `schema` is the URL that says which, if there is one."""

    schema: str
    workflow: str


class Profile(Enum):
    """Which names are used."""

    V1_41 = Conventions(schema="https://opentelemetry.io/schemas/1.41.0", workflow="gen_ai.workflow.name")
    GENAI_0_1 = Conventions(schema="", workflow="gen_ai.agent.name")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Profile:
        """Return what the environment opts in to."""
        wanted = {word.strip() for word in environ.get(OPT_IN, "").split(",")}
        return cls.GENAI_0_1 if NEWEST in wanted else cls.V1_41


SECONDS = tuple(0.01 * 2**n for n in range(14))
"""Buckets of durations: from 10 ms to 81.92 s."""

LONG_SECONDS = (*SECONDS, 300.0, 1800.0, 7200.0, 86400.0)
"""Buckets of what may wait for people."""

TOKENS = tuple(float(4**n) for n in range(14))
"""Buckets of token counts: from 1 to 67 108 864."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A counter, or a histogram if it has buckets. `unit` is OpenTelemetry's: `s`, `{token}`, `{run}`."""

    name: str
    unit: str
    about: str
    buckets: tuple[float, ...] = ()


TOKEN_USAGE = Metric("gen_ai.client.token.usage", "{token}", "Tokens that LLM calls took and gave.", TOKENS)
CALL_SECONDS = Metric("gen_ai.client.operation.duration", "s", "Duration of LLM calls.", SECONDS)
FIRST_CHUNK_SECONDS = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first token of streamed LLM calls.", SECONDS
)
RUNS = Metric("greenroom.runs", "{run}", "Runs that ended.")
RUN_SECONDS = Metric("greenroom.run", "s", "From a run's acceptance to its end.", LONG_SECONDS)
STEPS = Metric("greenroom.steps", "{step}", "Steps that ended.")
STEP_SECONDS = Metric("greenroom.step", "s", "Duration of the attempts that gave steps their results.", LONG_SECONDS)
RETRIES = Metric("greenroom.step.retries", "{attempt}", "Attempts of steps that failed and were followed by another.")
TAKEOVERS = Metric("greenroom.takeovers", "{run}", "Runs taken over from workers that were lost.")
PARKED = Metric("greenroom.runs.parked", "{run}", "Times that a run gave up its worker to wait.")
UNSENT = Metric("greenroom.telemetry.unsent", "{run}", "Runs whose spans were given up.")

METRICS = (
    TOKEN_USAGE, CALL_SECONDS, FIRST_CHUNK_SECONDS, RUNS, RUN_SECONDS, STEPS, STEP_SECONDS, RETRIES, TAKEOVERS, PARKED,
    UNSENT,
)  # fmt: skip
"""What is counted. A run id, a step id or a worker's name is never a label: there is no end to them."""

LIVE = Metric("greenroom.runs.live", "{run}", "Runs that have not ended: at work, or queued or waiting.")
WORKERS = Metric("greenroom.workers", "{worker}", "Workers by their heartbeats.")
AT_WORK = Metric("greenroom.worker.runs", "{run}", "Runs that this worker executes.")
DRAINING = Metric("greenroom.worker.draining", "", "Whether this worker takes no more runs.")
DEPTH = Metric("greenroom.mailbox.depth", "{message}", "Messages that wait in mailboxes, by place in the tree.")
CIRCUIT = Metric(
    "greenroom.provider.circuit.state", "", "The state of each deployment's breaker: 1 is the one it is in."
)
WAITING = Metric("greenroom.router.waiting", "{call}", "LLM calls that wait for room.")
"""Gauges: looked at when they are asked for."""
