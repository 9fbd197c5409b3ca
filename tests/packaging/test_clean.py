"""The project is clean: nothing of a developer's machine, nothing left for later, files that can be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "benchmarks", "examples", "runtime", "tests", "transports")
CODE = [*(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")), *(ROOT / "src/greenroom").glob("*.py")]
CODE += [ROOT / "tasks.py"]
PROSE = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("requirements*.txt")]

HOME = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/\w")
LATER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
LONGEST = 500
WHOLE = {"runtime/testing/conformance.py"}
"""Longer, because it cannot be cut: one suite, which others inherit as one class."""


def marked(files: list[Path], pattern: re.Pattern[str]) -> list[str]:
    """Where a pattern stands: file:line."""
    return [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_path_of_a_developer_s_machine() -> None:
    assert marked([*CODE, *PROSE], HOME) == []


def test_nothing_is_left_for_later() -> None:
    assert marked(CODE, LATER) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [file for file in CODE if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))]
    bare = [str(file.relative_to(ROOT)) for file in silent if file.read_text(encoding="utf-8").strip()]
    assert [name for name in bare if not name.endswith("conftest.py")] == []


def test_no_file_of_the_packages_is_too_long_to_be_read() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in CODE
        if not file.is_relative_to(ROOT / "tests") and str(file.relative_to(ROOT)) not in WHOLE
    }
    near = {name: length for name, length in lengths.items() if length > LONGEST * 0.8}
    assert [name for name, length in lengths.items() if length > LONGEST] == [], f"near the limit of {LONGEST}: {near}"
