"""The testing kit: virtual time, crashes everywhere, and the suite that every transport must pass.

Names are imported when first used: the suite needs pytest, the rest does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditor import Audit, audit
    from .clock import Deadlock, OutsideWorld, VirtualLoop, virtual_backend
    from .conformance import TransportSuite
    from .crash import Severed, Trial, crash_everywhere, crash_twice_everywhere
    from .endurance import Endured, endure
    from .faults import Fault, FaultKind, FaultPlan, draw_faults
    from .laws import Finding
    from .nodes import outside

__all__ = [
    "Audit",
    "Deadlock",
    "Endured",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Finding",
    "OutsideWorld",
    "Severed",
    "TransportSuite",
    "Trial",
    "VirtualLoop",
    "audit",
    "crash_everywhere",
    "crash_twice_everywhere",
    "draw_faults",
    "endure",
    "outside",
    "virtual_backend",
]

_HOME = {
    "auditor": ("Audit", "audit"),
    "clock": ("Deadlock", "OutsideWorld", "VirtualLoop", "virtual_backend"),
    "conformance": ("TransportSuite",),
    "crash": ("Severed", "Trial", "crash_everywhere", "crash_twice_everywhere"),
    "endurance": ("Endured", "endure"),
    "faults": ("Fault", "FaultKind", "FaultPlan", "draw_faults"),
    "laws": ("Finding",),
    "nodes": ("outside",),
}
_MODULE = {name: f"{__name__}.{home}" for home, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name on its first use."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "TransportSuite":
        _explain_asserts()
    return getattr(import_module(_MODULE[name]), name)


def _explain_asserts() -> None:
    """Have pytest say what differed in the suite, as in a test module."""
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.conformance{part}" for part in ("", "_log", "_model")))
