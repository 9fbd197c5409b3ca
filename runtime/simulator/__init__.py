"""The provider simulator: a real HTTP server that stands in for OpenAI and Gemini where no key is set.

Files: `plan` (frozen configuration), `windows` (what was seen when), `core` (who is admitted, which fault strikes:
pure), `text` and `reply` (what a model says), `wire` (the providers' JSON), `desk` (a request in, an answer out),
`server` (on a socket), `inprocess` (without one).
"""

from __future__ import annotations

from .core import Seen, Simulator
from .desk import NOTICE
from .inprocess import IN_PROCESS, SimulatorTransport
from .plan import Fault, FaultKind, Latency, Limits, PlanInvalid, ProviderPlan, default_plans, tier_plans
from .server import SimulatorAddress, serve_simulator, simulator_app

__all__ = [
    "IN_PROCESS",
    "NOTICE",
    "Fault",
    "FaultKind",
    "Latency",
    "Limits",
    "PlanInvalid",
    "ProviderPlan",
    "Seen",
    "Simulator",
    "SimulatorAddress",
    "SimulatorTransport",
    "default_plans",
    "serve_simulator",
    "simulator_app",
    "tier_plans",
]
