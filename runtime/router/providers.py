"""How providers differ, behind one protocol that is OpenAI's.

Gemini's OpenAI-compatible endpoint refuses some of OpenAI's parameters with 400; they are left out of what it is sent.
They tune or label a call and do not change what it asks for.
"""

from __future__ import annotations

from typing import Any

from .deployment import Deployment

DROPPED = {
    "gemini": frozenset(
        {"logit_bias", "seed", "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"}
    )
}
SPOKEN = {"gemini": ("/chat/completions", "/embeddings")}
"""Paths that a provider serves where it does not serve all of OpenAI's."""

OUTPUT_GUESS = 1024
"""Tokens set aside for an answer whose length the caller did not bound."""


def speaks(deployment: Deployment, path: str) -> bool:
    """Say whether a deployment serves a path."""
    return path in SPOKEN.get(deployment.provider, (path,))


def prepare(deployment: Deployment, path: str, body: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """Return the body as this deployment wants it."""
    dropped = DROPPED.get(deployment.provider, frozenset())
    sent = {name: value for name, value in body.items() if name not in dropped}
    sent["model"] = deployment.model
    if stream and path.endswith("chat/completions"):
        sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    return sent


def estimate(path: str, body: dict[str, Any], size: int) -> float:
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


WHOLE = {"/chat/completions": "choices", "/embeddings": "data", "/responses": "output"}
"""What an answer must hold to be one."""


def is_answer(path: str, found: Any) -> bool:
    """Say whether the JSON that came with status 200 is what was asked for."""
    return isinstance(found, dict) and not found.get("error") and isinstance(found.get(WHOLE.get(path, ""), []), list)
