"""The router: spreads LLM calls over deployments, within their limits.

Files, from the bottom: `failures` and `protocol` (pure), `providers` (one file for each), `deployment` and `config`
(what may be called), `bucket`, `pace`, `breaker`, `retries`, `hedging` (pure), `holding` and `lane` (a deployment at
work), `shares` (with other workers), `scheduler` (who goes where, when), `budget`, `cache` and `standing` (on whose
behalf), `call` (its account), `watch` (what may happen in line), `stream` and `answer` (what the caller gets),
`connections` (to providers), `sender` and `race` (attempts), `router` (one call's way), `transport` and `llm` (the
SDK's face).
"""

from __future__ import annotations

from .budget import Budget, Purse, Tenant, budget
from .cache import CachePolicy
from .call import AttemptRecord, CallRecord, observer
from .config import RouterConfig
from .deployment import BreakerPolicy, Deployment, Limits, Prices, Secret, Timeouts
from .errors import MissingKey, NoRouter, RouterConfigInvalid, RouterError
from .hedging import HedgePolicy
from .providers import Provider
from .remarks import Remarks
from .router import Router, current_router
from .snapshot import LaneSnapshot, LineSnapshot
from .standing import Position, Standing, standing

__all__ = [
    "AttemptRecord",
    "BreakerPolicy",
    "Budget",
    "CachePolicy",
    "CallRecord",
    "Deployment",
    "HedgePolicy",
    "LaneSnapshot",
    "Limits",
    "LineSnapshot",
    "MissingKey",
    "NoRouter",
    "Position",
    "Prices",
    "Provider",
    "Purse",
    "Remarks",
    "Router",
    "RouterConfig",
    "RouterConfigInvalid",
    "RouterError",
    "Secret",
    "Standing",
    "Tenant",
    "Timeouts",
    "budget",
    "current_router",
    "observer",
    "standing",
]
