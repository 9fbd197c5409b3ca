"""What a provider's refusal means: one table for all providers. How each of them says it is in `providers`.

| kind | examples | the call | the deployment |
|---|---|---|---|
| limited | 429 | goes elsewhere, or waits | pauses as long as it says |
| quota | 429 insufficient_quota, a quota per day | goes elsewhere, never back | opens its breaker for long |
| refused | 401, 403, 404 of a model | goes elsewhere, never back | opens its breaker for long |
| unfit | 400 context_length_exceeded, 413, a request larger than the limit | goes elsewhere, never back | is fine |
| unavailable | 408, 409, 5xx, no connection, timeout, not JSON, cut stream | goes elsewhere | counts |
| caller | other 4xx | is answered as it is | is fine |
"""

from __future__ import annotations

import msgspec

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


def kind_of(status: int) -> str:
    """Say what a status means where nothing else is said."""
    if status == 429:
        return "limited"
    if status in (401, 403, 404):
        return "refused"
    if status == 413:
        return "unfit"
    return "unavailable" if status in (408, 409) or status >= 500 else "caller"
