"""What an answer says of itself beside its tokens: its id, why it ended, what was cached, what was thought.

It comes from outside, so nothing of it is relied on: what has another shape than providers promise is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

WORD_CHARS = 200
"""A longer id or reason is cut."""

REASONS = 16
"""Choices of one answer whose reasons are kept."""


class Remarks(msgspec.Struct, frozen=True, kw_only=True):
    """Of one answer.

    Attributes:
        response_id: the provider's name for it.
        finish_reasons: of each choice, in the provider's word: stop, length, tool_calls ...; of a Response its
            status, or why it is incomplete.
        cached_tokens: input tokens that the provider had in its cache; they are among the input tokens.
        reasoning_tokens: output tokens that nobody sees; they are among the output tokens.
    """

    response_id: str = ""
    finish_reasons: tuple[str, ...] = ()
    cached_tokens: int = 0
    reasoning_tokens: int = 0


NONE = Remarks()


def remarks_of(found: Any, before: Remarks = NONE) -> Remarks:
    """Return what an answer, or a stream up to this chunk of it, has said of itself."""
    if not isinstance(found, dict):
        return before
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Remarks(
        response_id=before.response_id or _word(found.get("id")),
        finish_reasons=(*before.finish_reasons, *_reasons(found))[:REASONS],
        cached_tokens=_detail(usage, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        or before.cached_tokens,
        reasoning_tokens=_detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        or before.reasoning_tokens,
    )


def _reasons(found: dict[str, Any]) -> list[str]:
    choices = found.get("choices")
    if isinstance(choices, list):
        said = [_word(choice.get("finish_reason")) for choice in choices if isinstance(choice, dict)]
        return [word for word in said if word]
    details = found.get("incomplete_details")
    why = _word(details.get("reason")) if isinstance(details, dict) else ""
    status = why or _word(found.get("status"))
    return [status] if status else []


def _detail(usage: dict[str, Any], places: tuple[str, ...], name: str) -> int:
    for place in places:
        details = usage.get(place)
        value = details.get(name) if isinstance(details, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return 0


def _word(value: Any) -> str:
    return value[:WORD_CHARS] if isinstance(value, str) else ""
