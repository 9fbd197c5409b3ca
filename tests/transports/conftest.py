"""The suite's random histories take their time: on SQLite each call of each history is an fsync."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.name == "test_any_history_agrees_with_the_model":
        item.add_marker("slow")
        item.add_marker(pytest.mark.timeout(300))
