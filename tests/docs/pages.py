"""The documentation as tests see it: its pages, the code in them, and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[be]*s/**/*.md")])

_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code: what the fence says of it, and the line it begins on, from 1."""

    info: str
    code: str
    line: int


def named(page: Path) -> str:
    """A page's path in the checkout, as the id of a test."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(found["info"].strip(), found["code"], text.count("\n", 0, found.start("code")) + 1)


def script(page: Path) -> str:
    """The page's ```python blocks as one script, each on the lines it has in the page."""
    lines: list[str] = []
    for block in blocks(page):
        if block.info == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines)


def links(page: Path) -> list[str]:
    """Targets of the page's links, those in code left out."""
    return [found["target"] for found in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8")))]


def named_tests(page: Path) -> list[tuple[str, str]]:
    """Return (file, function) of the tests that a page names as `file.py::function`."""
    return re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: the page's headings, as forges turn them into anchors."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def mapped() -> list[str]:
    """Paths in README's map of the house."""
    _, begin, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- map -->")
    table, end, _ = rest.partition("<!-- /map -->")
    assert begin, "README.md has lost the mark before its map"
    assert end, "README.md has lost the mark after its map"
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
