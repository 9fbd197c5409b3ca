"""`pyproject.toml`, the tree and the lock say the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import greenroom

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
OPTIONAL = {"pytest", "sniffio"}
"""Used where it is there: pytest by the transports' suite, sniffio by libraries that ask which loop they are on."""
FLOORS = ("actors", "runtime", "transports")


def dev_requirements() -> set[str]:
    """What the lock is made of: the project's dependencies and those of its tests."""
    return {name_of(requirement) for requirement in PROJECT["dependencies"] + PYPROJECT["dependency-groups"]["dev"]}


def name_of(requirement: str) -> str:
    """A distribution's name as `import` and locks spell it apart from its version."""
    return re.split(r"[<>=~!\[; ]", requirement)[0].lower()


def sources() -> list[Path]:
    """Every module of the three floors and the facade."""
    return [
        *(file for floor in FLOORS for file in (ROOT / floor).rglob("*.py")),
        *(ROOT / "src/greenroom").glob("*.py"),
    ]


def test_the_packages_to_build_are_those_of_the_tree() -> None:
    tree = [".".join(("greenroom", *file.parent.relative_to(ROOT).parts)) for file in sources()[::-1]]
    tree = ["greenroom" if name.startswith("greenroom.src") else name for name in tree]
    assert sorted(set(tree)) == PYPROJECT["tool"]["setuptools"]["packages"]


def test_the_floors_are_relative_links() -> None:
    for floor in FLOORS:
        assert (ROOT / "src/greenroom" / floor).readlink() == Path("../..") / floor


def test_python_versions_agree() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert [f'"python{version}"' for version in reversed(versions)] == re.findall(
        r'"python3\.\d+"', (ROOT / "tasks.py").read_text(encoding="utf-8")
    )[: len(versions)]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{versions[0].replace('.', '')}"
    assert ".".join(map(str, sys.version_info[:2])) in versions


def test_the_installed_version_is_that_of_the_project() -> None:
    assert greenroom.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_is_imported_is_what_is_depended_on() -> None:
    imported = set()
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = {name.replace("_", "-") for name in imported - sys.stdlib_module_names - {"greenroom"}}
    assert foreign - OPTIONAL == {name_of(requirement) for requirement in PROJECT["dependencies"]}


def test_every_dependency_has_its_reason_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in map(name_of, PROJECT["dependencies"]) if f"| `{name}` |" not in text] == []


def test_the_lock_pins_what_the_project_asks_for_with_hashes_and_names_no_host() -> None:
    pins = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE))
    assert dev_requirements() - pins == set()
    assert LOCK.count("--hash=sha256:") >= len(pins)
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK


def test_the_lock_has_nothing_that_nobody_asked_for() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    stray = [name_of(entry) for entry in entries if "# via" not in entry and name_of(entry) not in dev_requirements()]
    assert stray == []
