"""A store that a run can lean on: calls that may be made again are made again until the store answers.

Why: a store that cannot be reached for a moment is the infrastructure's trouble and not an error of the workflow. What
a run asks of its store besides appending (the time, a child's row, a cached result) must not raise into the code that
it executes, which would fail the run, or catch it. There is no end to the patience here: whoever keeps the run's lease
gives the run up when the lease cannot be kept, and that cancels whoever waits here.

Laws kept here: 1 (an outage delays a run, and does not end it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio

from ..transports import StoreUnavailable, Transport

PAUSE_S = 0.25
"""Between two tries, seconds."""

AGAIN = frozenset(
    {"now", "may_append", "run", "end", "read", "create", "post", "cache_get", "cache_put", "blob_get", "blob_put"}
)
"""Calls that come to the same when made twice: creations have keys here, and what is posted counts once."""


class Steady:
    """A transport whose calls in `AGAIN` wait for the store instead of failing."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        """Return the call as it is, or as one that insists."""
        method = getattr(self._inner, name)
        if name in AGAIN:
            method = insisting(method)
            setattr(self, name, method)  # from now on it is found without coming here
        return method


def insisting(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Make a call one that waits for the store."""

    async def insist(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return await method(*args, **kwargs)
            except StoreUnavailable:
                await anyio.sleep(PAUSE_S)

    return insist


def steady(transport: Transport) -> Transport:
    """Return the transport as runs use it."""
    return cast("Transport", Steady(transport))
