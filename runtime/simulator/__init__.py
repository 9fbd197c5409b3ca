"""The provider simulator: a real HTTP server that stands in for OpenAI and Gemini where no key is set.

Files: `plan` (frozen configuration), `core` (who is admitted, which fault strikes: pure), `text` (generated answers),
`wire` (the providers' JSON), `server` (sockets).
"""

from __future__ import annotations

from .core import Seen, Simulator
from .plan import Fault, FaultKind, Latency, Limits, PlanInvalid, ProviderPlan, default_plans
from .server import NOTICE, SimulatorAddress, serve_simulator, simulator_app

__all__ = [
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
    "default_plans",
    "serve_simulator",
    "simulator_app",
]
