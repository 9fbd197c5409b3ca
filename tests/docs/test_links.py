"""Links and the map of the house lead to what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import PAGES, ROOT, anchors, links, mapped, named


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
