"""The router: spreads LLM calls over deployments, within their limits.

Files, from the bottom: `config` (what may be called), `failures`, `bucket`, `breaker`, `providers` (pure), `lane` (a
deployment at work), `scheduler` (who goes where, when), `call` (its account), `stream` and `answer` (what the caller
gets), `router` (one call's way), `transport` and `llm` (the SDK's face).
"""

from __future__ import annotations

from .call import AttemptRecord, CallRecord, observer
from .config import BreakerPolicy, Deployment, Limits, Prices, RouterConfig, Secret, Timeouts
from .errors import MissingKey, NoRouter, RouterConfigInvalid, RouterError
from .router import LaneSnapshot, Router, current_router

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
