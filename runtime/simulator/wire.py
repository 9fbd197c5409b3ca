"""The providers' JSON: answers, chunks, errors and headers, as each of them writes it.

OpenAI: an error object, `x-ratelimit-*` on every answer, `retry-after` and `retry-after-ms` with a 429.
Gemini: a list of errors with `RetryInfo`, no rate-limit headers, usage in every chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .core import Provider

NOTICE = "This is a simulator: answers are generated text, no provider is called."
MARK = {"server": "greenroom-simulator", "x-greenroom-simulator": NOTICE}
"""It says on every answer what it is."""

STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
TYPES = {**dict.fromkeys((400, 401, 403, 404, 413, 422), "invalid_request_error"), 429: "requests"}
REFUSED_BY_GEMINI = ("logit_bias", "seed", "store", "service_tier")


def headers(provider: Provider, model: str, now: float) -> dict[str, str]:
    """Headers of every answer."""
    told = dict(MARK)
    if provider.plan.name == "openai" and model:
        for what, meter in zip(("requests", "tokens"), provider.meters(model), strict=True):
            if meter.limit is not None:
                level = meter.look(now)
                told[f"x-ratelimit-limit-{what}"] = f"{meter.limit:.0f}"
                told[f"x-ratelimit-remaining-{what}"] = f"{max(0, math.floor(level))}"
                told[f"x-ratelimit-reset-{what}"] = f"{max(0.0, (meter.capacity - level) / meter.rate):.3f}s"
    return told


def error(
    provider: Provider, status: int, message: str, *, code: str | None = None, wait_s: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of an error."""
    extra: dict[str, str] = {}
    body: Any
    if provider.plan.name == "gemini":
        name = STATUS.get(status, "UNAVAILABLE" if status == 503 else "INTERNAL")
        inner: dict[str, Any] = {"code": status, "message": message, "status": name}
        if wait_s is not None:
            retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{max(1, math.ceil(wait_s))}s"}
            inner["details"] = [retry]
        if code == "insufficient_quota":
            violations = [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]
            inner["details"] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}]
        body = [{"error": inner}]
    else:
        kind = code if code == "insufficient_quota" else TYPES.get(status, "server_error")
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        if wait_s is not None:
            extra = {"retry-after": f"{max(1, math.ceil(wait_s))}", "retry-after-ms": f"{math.ceil(wait_s * 1000)}"}
    return msgspec.json.encode(body), extra


def models(owner: str, names: Iterable[str]) -> dict[str, Any]:
    """Return the list of models."""
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in names]}


def completion(
    number: str, model: str, message: Mapping[str, Any], finish: str, usage: tuple[int, int]
) -> dict[str, Any]:
    """Return a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    return {
        "id": number,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "system_fingerprint": "greenroom-simulator",
        "choices": [choice],
        "usage": usage_of(usage),
    }


def pieces(message: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Cut a message into the deltas of a stream, text into pieces of `size` characters."""
    content = message.get("content") or ""
    cut: list[dict[str, Any]] = [{"content": content[at : at + size]} for at in range(0, len(content), size)]
    if "tool_calls" in message:
        cut.append({"tool_calls": [{"index": number, **call} for number, call in enumerate(message["tool_calls"])]})
    return cut


def chunk(
    number: str,
    model: str,
    delta: Mapping[str, Any] | None,
    finish: str | None = None,
    usage: tuple[int, int] | None = None,
) -> bytes:
    """Return an event of a streamed chat completion; no delta: no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body: dict[str, Any] = {
        "id": number,
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "system_fingerprint": "greenroom-simulator",
        "choices": choices,
    }
    if usage is not None:
        body["usage"] = usage_of(usage)
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def usage_of(usage: tuple[int, int]) -> dict[str, int]:
    """Return a usage object."""
    given, made = usage
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
