"""On whose behalf a call is made, how urgent it is, and until when its caller waits: what the line goes by.

Why a context variable: the code that asks is far from the code that knows. A worker sets it around each attempt, so
that a call inherits its run's tenant, priority and deadline; a call's own headers or arguments come before it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import anyio
import msgspec


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call that waits stands.

    Attributes:
        model: what it asked for.
        ahead: calls that go before it.
        expected_s: seconds until it is sent, if all goes well.
        waited_s: seconds that it has waited.
        why: how the deployments fare that it waits for.
    """

    model: str
    ahead: int
    expected_s: float
    waited_s: float
    why: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a call inherits from where it is made.

    Attributes:
        tenant: tenants of one priority take turns.
        priority: higher goes first.
        deadline: by the event loop's clock; a call that cannot be sent by then is shed at once.
        patience: waits in the call's stead while its deployments are down: (why, seconds). Inside a run it parks the
            run. None: the call waits in line until its deadline.
        tell: is told of the call's position while it waits in line.
    """

    tenant: str = ""
    priority: int = 0
    deadline: float = math.inf
    patience: Callable[[str, float], Awaitable[None]] | None = None
    tell: Callable[[Position], None] | None = None


NOBODY = Standing()
standing: ContextVar[Standing] = ContextVar("greenroom_llm_standing", default=NOBODY)
"""The standing of calls made here."""


def inherited_deadline(found: Standing) -> float:
    """Return when whoever makes a call now gives up: what is set, or the nearest cancel scope's deadline."""
    return min(found.deadline, anyio.current_effective_deadline())
