"""greenroom: an asyncio actor runtime for long-running LLM workflows.

Everything public is a name of this package, of `greenroom.actors`, `greenroom.client`, `greenroom.transports`,
`greenroom.testing`, or in the `__all__` of `greenroom.runtime.http`, `.router` and `.simulator`. Names are imported
when first used, so that importing greenroom costs little.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.definitions import Component, Workflow, component, workflow
    from .runtime.errors import (
        ConfigInvalid,
        Crash,
        DefinitionInvalid,
        GreenroomError,
        InputInvalid,
        RunCanceled,
        RunFailed,
        RunTimedOut,
        StepFailed,
        StepTimedOut,
        UnknownWorkflow,
        WaitTimedOut,
    )
    from .runtime.facade import RunHandle, Runtime, lifespan
    from .runtime.policies import Cache, Rate, Retry, Timeout
    from .runtime.router import Router, RouterConfig
    from .runtime.router.llm import llm
    from .runtime.schedules import Cron, Every
    from .runtime.scope import (
        child,
        emit,
        fan_out,
        idempotency_key,
        now,
        random,
        run_id,
        sleep,
        status,
        traceparent,
        uuid,
    )
    from .runtime.settings import WorkerSettings
    from .runtime.signals import Approval, Decision, Signal
    from .runtime.telemetry import Telemetry
    from .runtime.upkeep import Retention
    from .runtime.worker import Worker

__version__ = version("greenroom")

__all__ = [
    "Approval",
    "Cache",
    "Component",
    "ConfigInvalid",
    "Crash",
    "Cron",
    "Decision",
    "DefinitionInvalid",
    "Every",
    "GreenroomError",
    "InputInvalid",
    "Rate",
    "Retention",
    "Retry",
    "Router",
    "RouterConfig",
    "RunCanceled",
    "RunFailed",
    "RunHandle",
    "RunTimedOut",
    "Runtime",
    "Signal",
    "StepFailed",
    "StepTimedOut",
    "Telemetry",
    "Timeout",
    "UnknownWorkflow",
    "WaitTimedOut",
    "Worker",
    "WorkerSettings",
    "Workflow",
    "__version__",
    "child",
    "component",
    "emit",
    "fan_out",
    "idempotency_key",
    "lifespan",
    "llm",
    "now",
    "random",
    "run_id",
    "sleep",
    "status",
    "traceparent",
    "uuid",
    "workflow",
]

_HOME = {
    "definitions": ("Component", "Workflow", "component", "workflow"),
    "errors": (
        "ConfigInvalid",
        "Crash",
        "DefinitionInvalid",
        "GreenroomError",
        "InputInvalid",
        "RunCanceled",
        "RunFailed",
        "RunTimedOut",
        "StepFailed",
        "StepTimedOut",
        "UnknownWorkflow",
        "WaitTimedOut",
    ),
    "facade": ("RunHandle", "Runtime", "lifespan"),
    "policies": ("Cache", "Rate", "Retry", "Timeout"),
    "router": ("Router", "RouterConfig"),
    "router.llm": ("llm",),
    "schedules": ("Cron", "Every"),
    "scope": (
        "child",
        "emit",
        "fan_out",
        "idempotency_key",
        "now",
        "random",
        "run_id",
        "sleep",
        "status",
        "traceparent",
        "uuid",
    ),
    "signals": ("Approval", "Decision", "Signal"),
    "telemetry": ("Telemetry",),
    "upkeep": ("Retention",),
    "settings": ("WorkerSettings",),
    "worker": ("Worker",),
}
_MODULE = {name: f"greenroom.runtime.{home}" for home, names in _HOME.items() for name in names}


if not TYPE_CHECKING:  # or a type checker would take every name for one that exists

    def __getattr__(name: str) -> Any:
        """Import a public name on its first use."""
        if name not in _MODULE:
            raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULE[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
