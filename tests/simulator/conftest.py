from __future__ import annotations

from typing import Any

import pytest

from greenroom.runtime.testing.clock import virtual_backend


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()
