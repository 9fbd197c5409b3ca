"""Links and the map of the house lead to what is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, anchors, links, mapped, named, named_tests


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_inside_the_checkout_leads_somewhere(page: Path) -> None:
    lost = []
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        inside = there.exists() and there.is_relative_to(ROOT)
        if not inside or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert not lost, f"{named(page)} links to what is not there: {', '.join(lost)}"


def test_every_path_on_the_map_is_there() -> None:
    assert len(mapped()) > 10
    assert [path for path in mapped() if not (ROOT / path).exists()] == []


def test_every_folder_of_the_house_is_on_the_map() -> None:
    folders = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and list(path.glob("[!_]*.py"))}
    packages = {f"runtime/{path.parent.name}/" for path in ROOT.glob("runtime/*/__init__.py")}
    drawn = {path if path.endswith("/") else path.rpartition("/")[0] + "/" for path in mapped()}
    assert sorted((folders | packages) - drawn) == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    pages = [page for page in PAGES if page.parent == ROOT / "docs"]
    assert [named(page) for page in pages if page not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    lost = []
    for file, test in named_tests(page):
        bodies = [ast.parse(path.read_text(encoding="utf-8")).body for path in (ROOT / "tests").rglob(file)]
        functions = [one for body in bodies for one in body if isinstance(one, ast.AsyncFunctionDef | ast.FunctionDef)]
        if test not in {function.name for function in functions}:
            lost.append(f"{file}::{test}")
    assert not lost, f"{named(page)} names tests that are not there: {', '.join(lost)}"


def test_the_guides_name_tests() -> None:
    assert sum(len(named_tests(page)) for page in PAGES) > 45
