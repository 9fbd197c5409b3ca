"""What a process of greenroom has that an embedded runtime leaves to its host: an event loop and a collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

R = TypeVar("R")

GARBAGE = 10_000
"""Objects made before the garbage collector looks at the young ones; Python's own default is 700."""


def live(main: Callable[[], Awaitable[R]]) -> R:
    """Run a process that lasts: on uvloop, where it is installed (extra `fast`)."""
    try:
        return anyio.run(main, backend_options={"use_uvloop": find_spec("uvloop") is not None})
    finally:
        gc.freeze()  # the process ends, and its memory with it: Python need not search it for what can be freed


def collect_rarely() -> None:
    """Leave out what is loaded, and look less often: runs and readers come in hundreds, which took much of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 10)
