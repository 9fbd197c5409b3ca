"""Gemini, through its OpenAI-compatible endpoint.

It refuses some of OpenAI's parameters, serves no responses, tells no limits, and writes errors as Google does: in a
list, with the wait in `RetryInfo.retryDelay` and a used up quota in `QuotaFailure.violations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import protocol
from .provider import Provider


def _error_in(found: Any) -> dict[str, Any]:
    return protocol.error_in(found[0] if isinstance(found, list) and found else found)


def _verdict(status: int, error: Mapping[str, Any]) -> str:
    if status == 429 and any("PerDay" in str(detail.get("violations")) for detail in _details(error)):
        return "quota"
    if status == 400 and "exceeds the maximum number of tokens" in str(error.get("message")):
        return "unfit"
    return protocol.verdict(status, error)


def _pause(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    if (asked_s := protocol.pause(headers, error)) is not None:
        return asked_s
    delays = (str(detail.get("retryDelay", "")).removesuffix("s") for detail in _details(error))
    return next((asked_s for delay in delays if (asked_s := protocol.seconds(delay)) is not None), None)


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


GEMINI = Provider(
    name="gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_env="GEMINI_API_KEY",
    key_beginnings=("AIza", "AQ."),
    models={"smart": "gemini-3-pro", "fast": "gemini-3-flash", "embed": "gemini-embedding-001"},
    refused=frozenset(
        {"logit_bias", "seed", "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"}
    ),
    paths=("/chat/completions", "/embeddings"),
    error_in=_error_in,
    verdict=_verdict,
    pause=_pause,
)
