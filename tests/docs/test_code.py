"""The code in the documentation runs, and the commands in it exist.

A page's ```python blocks are one script, run in an empty folder; a traceback's line numbers are the page's. A block
marked ```python no-run needs what tests do not have (FastAPI, a key), and is compiled.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.runtime.cli.parser import parse

from .pages import PAGES, ROOT, blocks, named, script

COMMANDS = re.compile(r"^\$ (?:\w+=\S+ )*((?:greenroom|python3 tasks\.py) .*)$", re.MULTILINE)


def test_blocks_that_are_python_say_whether_they_run() -> None:
    odd = {block.info for page in PAGES for block in blocks(page) if block.info.startswith("py")}
    assert odd <= {"python", "python no-run"}


@pytest.mark.parametrize("page", [page for page in PAGES if script(page)], ids=named)
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_page_s_code_runs(page: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{page.stem.replace('-', '_').lower()}_page.py"
    file.write_text(script(page), encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "GEMINI_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{named(page)} (lines are the page's):\n{done.stderr[-4000:]}"


def test_code_that_does_not_run_here_compiles() -> None:
    left_out = [(page, block) for page in PAGES for block in blocks(page) if block.info == "python no-run"]
    assert left_out
    for page, block in left_out:
        compile("\n" * (block.line - 1) + block.code, named(page), "exec")


def test_commands_in_the_documentation_exist() -> None:
    tasks = subprocess.run([sys.executable, ROOT / "tasks.py", "--help"], capture_output=True, text=True, check=True)
    seen = 0
    for page in PAGES:
        for block in blocks(page):
            for line in COMMANDS.findall(block.code):
                words = shlex.split(re.split(r" [|>&]|\\$", line)[0], comments=True)
                seen += 1
                if words[0] == "python3":
                    assert f"\n  {words[2]} " in tasks.stdout, f"{named(page)}: {line}"
                elif words[1:] not in (["--help"], ["--version"]):
                    try:
                        parse(words[1:])
                    except SystemExit as refused:
                        raise AssertionError(f"{named(page)}: greenroom does not take: {line}") from refused
    assert seen > 2
