"""Promises of SECURITY.md that no layer's own tests hold."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path

import pytest

from greenroom import workflow
from greenroom.runtime.router import Secret
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-0123456789abcdef"


@workflow
async def nothing() -> None:
    """Do nothing."""


def test_a_key_is_shown_by_no_text_and_written_nowhere() -> None:
    secret = Secret(CANARY)
    assert CANARY not in f"{secret!r} {secret!s} {secret} {[secret]}"
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not written"):
            write(secret)
    assert secret.reveal() == CANARY


def test_nothing_is_unpickled_or_evaluated() -> None:
    unsafe = {"dill", "marshal", "pickle", "shelve", "eval", "exec"}
    found = []
    for folder in ("actors", "runtime", "transports", "src/greenroom"):
        for file in (ROOT / folder).glob("**/*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                names += [node.func.id] if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else []
                found += [f"{file.relative_to(ROOT)}:{node.lineno} {name}" for name in names if name in unsafe]  # type: ignore[attr-defined]
    assert found == []


async def test_run_ids_have_128_random_bits() -> None:
    async with open_transport("memory://") as store:
        runs = Runs(store, {nothing.name: nothing})
        made = [(await runs.start(nothing.name, b"{}"))[0].run_id for _ in range(50)]
    assert len(set(made)) == 50
    assert {len(bytes.fromhex(run_id)) for run_id in made} == {16}
