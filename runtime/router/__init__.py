"""The router: spreads LLM calls over deployments, within their limits.

Files, from the bottom: `config` (what may be called), `bucket`, `breaker`, `failures`, `providers` (pure), `scheduler`
(who goes where, when), `stream`, `router` (one call's way), `transport` and `llm` (the SDK's face).
"""

from __future__ import annotations

from .config import BreakerPolicy, Deployment, Limits, Prices, RouterConfig, Secret, Timeouts
from .errors import MissingKey, NoRouter, RouterConfigInvalid, RouterError
from .router import AttemptRecord, CallRecord, LaneSnapshot, Router, current_router, observer

__all__ = [
    "AttemptRecord",
    "BreakerPolicy",
    "CallRecord",
    "Deployment",
    "LaneSnapshot",
    "Limits",
    "MissingKey",
    "NoRouter",
    "Prices",
    "Router",
    "RouterConfig",
    "RouterConfigInvalid",
    "RouterError",
    "Secret",
    "Timeouts",
    "current_router",
    "observer",
]
