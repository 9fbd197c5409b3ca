"""OpenAI's protocol, as far as a router has to read it: what a call may take, what an answer holds, errors and limits.

Providers speak it with an accent; theirs is in `providers`. Nothing here is one provider's alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

OUTPUT_GUESS = 1024
"""Tokens set aside for an answer whose length the caller did not bound."""

LONGEST_PAUSE_S = 120.0
"""No provider is left alone for longer at its word, seconds."""

LONGEST_WINDOW_S = 120.0
"""Limits that providers tell of longer windows (requests a day) say nothing about a minute."""

WHOLE = {"/chat/completions": "choices", "/embeddings": "data", "/responses": "output"}
"""What an answer must hold to be one."""


class ToldLimit(NamedTuple):
    """A limit a minute as a provider tells it, and what is left of it, if it says so."""

    limit: float
    remaining: float | None


def estimate(path: str, body: Mapping[str, Any], size: int) -> float:
    """Return an upper guess of the tokens that a call takes: its size and the longest answer it allows."""
    if path.endswith("embeddings"):
        return size / 3
    bound = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    choices = body.get("n")
    longest = bound if isinstance(bound, int) and bound > 0 else OUTPUT_GUESS
    return size / 3 + longest * (choices if isinstance(choices, int) and choices > 0 else 1)


def usage_of(found: Any) -> tuple[int, int] | None:
    """Return (input tokens, output tokens) of an answer or chunk, if it tells."""
    usage = found.get("usage") if isinstance(found, dict) else None
    if not isinstance(usage, dict):
        return None
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens"))
    return int(given or 0), int(made or 0)


def is_answer(path: str, found: Any) -> bool:
    """Say whether the JSON that came with status 200 is what was asked for."""
    return isinstance(found, dict) and not found.get("error") and isinstance(found.get(WHOLE.get(path, ""), []), list)


def error_in(found: Any) -> dict[str, Any]:
    """Return the error object of decoded JSON; {} if there is none."""
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {"message": str(error)} if error else {}


def verdict(status: int, error: Mapping[str, Any]) -> str:
    """Return the kind of a failure (see `failures`) where the error says more than its status; "" where it does not."""
    codes = (error.get("code"), error.get("type"))
    if "context_length_exceeded" in codes:
        return "unfit"
    if status == 429 and "insufficient_quota" in codes:
        return "quota"
    return "unfit" if status == 429 and str(error.get("message")).lower().startswith("request too large") else ""


def pause(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Return the seconds that a refusal asks to wait; None: it does not say."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (asked_s := seconds(headers.get(name), scale)) is not None:
            return asked_s
    return None


def seconds(text: str | None, scale: float = 1.0) -> float | None:
    """Read a wait, no longer than anybody is left alone; None: it is no number of 0 or more."""
    try:
        asked_s = float(text or "") * scale
    except ValueError:
        return None
    return min(asked_s, LONGEST_PAUSE_S) if asked_s >= 0 else None


def limit(headers: Mapping[str, str], what: str) -> ToldLimit | None:
    """Read the limit of `requests` or `tokens` from `x-ratelimit-*`; None: nothing is told of a minute."""
    told = _number(headers, f"x-ratelimit-limit-{what}")
    if not told:
        return None
    remaining, reset_s = _number(headers, f"x-ratelimit-remaining-{what}"), _span(headers, f"x-ratelimit-reset-{what}")
    whole_s = 0.0 if not reset_s or remaining is None or remaining >= told else told * reset_s / (told - remaining)
    return None if whole_s > LONGEST_WINDOW_S else ToldLimit(told, remaining)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return max(0.0, float(headers[name]))
    except (KeyError, ValueError):
        return None


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def _span(headers: Mapping[str, str], name: str) -> float | None:
    """Read a duration such as `17ms`, `6m0s` or `1h2m3s`."""
    found = _SPAN.findall(headers.get(name, ""))
    return sum(float(number) * _UNITS[unit] for number, unit in found) if found else None
