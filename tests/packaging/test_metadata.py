"""`pyproject.toml`, the tree and the lock say the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import greenroom
from greenroom.runtime.cli.doctor import PACKAGES

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
FLOORS = ("actors", "runtime", "transports")


def dev_requirements() -> set[str]:
    """What the lock is made of: the project's dependencies and those of its tests."""
    return dependencies() | {name_of(requirement) for requirement in PYPROJECT["dependency-groups"]["dev"]}


def dependencies() -> set[str]:
    """What a user has to have."""
    return {name_of(requirement) for requirement in PROJECT["dependencies"]}


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
    extras = {name_of(one) for extra in PROJECT["optional-dependencies"].values() for one in extra}
    extras |= {name.partition("-")[0] for name in extras}
    assert foreign - extras - {"sniffio"} == dependencies(), "sniffio is told of the event loop where it is there"


def test_the_doctor_looks_at_every_dependency_and_nothing_else() -> None:
    assert sorted(PACKAGES) == sorted(dependencies() - {"typing-extensions"})


def test_every_dependency_has_its_reason_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in sorted(dependencies()) if f"| `{name}` |" not in text] == []


def test_the_lock_pins_what_the_project_asks_for_and_what_that_needs_alone() -> None:
    assert dev_requirements() - pins(LOCK).keys() == set()
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    unasked = [name_of(entry) for entry in entries if "# via" not in entry and name_of(entry) not in dev_requirements()]
    assert unasked == []


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements-*.txt")), ids=lambda path: path.name)
def test_a_lock_has_hashes_names_no_host_and_agrees_with_the_others(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry
    for word in ("://", "--index", "--extra-index", "--find-links"):
        assert word not in text
    both = pins(text).keys() & pins(LOCK).keys()
    assert {name: pins(text)[name] for name in both} == {name: pins(LOCK)[name] for name in both}


def pins(lock: str) -> dict[str, str]:
    """Name -> version."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock, re.MULTILINE))
