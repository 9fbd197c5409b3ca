"""docs/actors.md: its blocks run, and the tests that its table names are there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "actors.md"
HERE = Path(__file__).parent


def test_the_guide_s_blocks_run_one_after_the_other() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) > 8
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert "divider  actor, running, 1 restart" in run.stdout


@pytest.mark.parametrize("named", re.findall(r"`(test_\w+\.py::test_\w+)`", GUIDE.read_text(encoding="utf-8")))
def test_the_tests_that_the_guide_names_exist(named: str) -> None:
    file, test = named.split("::")
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
