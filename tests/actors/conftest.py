"""Every kernel test runs on virtual time and fails if a task outlives it (law 7); and both ways that a question may go.

Inline, where the kernel finds that possible, and by the queue: nothing that a test can see may differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.actors import supervise
from greenroom.runtime.testing.clock import virtual_backend


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


@pytest.fixture(autouse=True, params=["inline", "queued"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "queued":
        monkeypatch.setitem(supervise.__wrapped__.__kwdefaults__, "inline", 0)  # type: ignore[attr-defined]
    return str(request.param)


@pytest.fixture(autouse=True)
async def no_task_outlives_the_test(anyio_backend: object) -> AsyncIterator[None]:
    yield
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())]
    assert left == []
