"""docs/actors.md: the tests that its table names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMED = re.findall(r"`(test_\w+\.py::test_\w+)`", (HERE.parents[1] / "docs" / "actors.md").read_text(encoding="utf-8"))


def test_the_guide_names_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize("named", NAMED)
def test_the_tests_that_the_guide_names_exist(named: str) -> None:
    file, test = named.split("::")
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
