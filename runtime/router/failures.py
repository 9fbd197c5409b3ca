"""What a provider's refusal means: one table for all providers.

| kind | examples | the call | the deployment |
|---|---|---|---|
| limited | 429 | goes elsewhere, or waits | pauses as long as it says |
| quota | 429 insufficient_quota, a quota per day | goes elsewhere, never back | opens its breaker for long |
| refused | 401, 403, 404 of a model | goes elsewhere, never back | opens its breaker for long |
| unfit | 400 context_length_exceeded, 413, a request larger than the limit | goes elsewhere, never back | is fine |
| unavailable | 408, 409, 5xx, no connection, timeout, not JSON, cut stream | goes elsewhere | counts |
| caller | other 4xx | is answered as it is | is fine |

Source: the error tables of both providers; OpenAI: type/code in `error`, `retry-after-ms`; Gemini: a list of errors,
`RetryInfo.retryDelay`, `QuotaFailure.violations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

LONGEST_PAUSE_S = 120.0
MESSAGE_CHARS = 300


class Refusal(msgspec.Struct, frozen=True):
    """A classified failure.

    Attributes:
        kind: limited, quota, refused, unfit, unavailable or caller.
        status: the HTTP status that says it best.
        retry_after_s: how long the provider asks to wait.
    """

    kind: str
    message: str
    status: int = 503
    retry_after_s: float | None = None


class Broken(Exception):
    """An attempt failed; `refusal` says how."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal

    @classmethod
    def unavailable(cls, message: str) -> Broken:
        """Make the failure of a deployment that did not answer as it should."""
        return cls(Refusal("unavailable", message))


def classify(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Say what an error answer means."""
    error = error_of(body)
    text = str(error.get("message") or "no message")[:MESSAGE_CHARS]
    message = f"{status} {text}"
    codes = (error.get("code"), error.get("type"))
    if status == 429:
        if "insufficient_quota" in codes or _used_up_for_the_day(error):
            return Refusal("quota", message, status)
        if text.lower().startswith("request too large"):
            return Refusal("unfit", message, status)
        return Refusal("limited", message, status, retry_after(headers, error))
    if status in (401, 403, 404):
        return Refusal("refused", message, status)
    if status == 413 or "context_length_exceeded" in codes:
        return Refusal("unfit", message, status)
    if status in (408, 409) or status >= 500:
        return Refusal("unavailable", message, status, retry_after(headers, error))
    return Refusal("caller", message, status)


def error_of(body: bytes) -> dict[str, Any]:
    """Return the error object of a body, whatever its shape; {} if there is none."""
    try:
        return error_in(msgspec.json.decode(body))
    except msgspec.DecodeError:
        return {}


def error_in(found: Any) -> dict[str, Any]:
    """Return the error object of decoded JSON; {} if there is none."""
    if isinstance(found, list) and found:
        found = found[0]
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {"message": str(error)} if error else {}


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Return the seconds that an answer asks to wait."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := _seconds(headers.get(name), scale)) is not None:
            return seconds
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (seconds := _seconds(delay.removesuffix("s"), 1.0)) is not None:
            return seconds
    return None


def _used_up_for_the_day(error: Mapping[str, Any]) -> bool:
    return any("PerDay" in str(detail.get("violations")) for detail in _details(error))


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def _seconds(text: str | None, scale: float) -> float | None:
    try:
        seconds = float(text or "") * scale
    except ValueError:
        return None
    return min(seconds, LONGEST_PAUSE_S) if seconds >= 0 else None
