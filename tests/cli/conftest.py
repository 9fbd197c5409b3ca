"""A folder with a target in it; the command in this process (`shell`), and as a process of its own (`spawn`)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from greenroom.runtime.cli import main

TARGET = '''
import asyncio
from pathlib import Path

from greenroom import Runtime, component, emit, status, workflow


@component
async def shout(text: str) -> str:
    await emit(text.upper() + "\\n")
    return text.upper()


@workflow
async def greet(name: str, times: int = 1) -> str:
    """Greet somebody."""
    await status(f"greeting {name}")
    return " ".join([await shout(f"{name} {number}") for number in range(times)])


@component
async def gate() -> str:
    while not Path("open").exists():
        await asyncio.sleep(0.02)
    return "through"


@workflow
async def patient() -> str:
    return await gate()


runtime = Runtime(greet, patient)
'''


TALK = """
from greenroom import component, llm, workflow


@component
async def ask(question: str) -> str:
    answer = await llm.chat.completions.create(model="smart", messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


@workflow
async def talk(question: str) -> str:
    return await ask(question)
"""
"""Apart from the other target, because importing the SDK takes a while."""


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


Shell = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `app.py` and `talk.py` in it; no key and no setting is in the environment."""
    (tmp_path / "app.py").write_text(TARGET)
    (tmp_path / "talk.py").write_text(TALK)
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("GREENROOM_", "OPENAI_", "GEMINI_")) or name in (
            "NO_COLOR",
            "FORCE_COLOR",
            "PYTHONUNBUFFERED",
        ):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def shell(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Runs a command in this process; what it set for the whole process is taken back."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules, root = set(sys.modules), logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as left:
            code = int(left.code or 0)
        return Done(code, *capsys.readouterr())

    yield run
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name not in modules and str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


class Program:
    """`greenroom ...` as a process. A test that waits in vain for its words is ended by the time limit of tests."""

    def __init__(self, *arguments: str, stderr: int = subprocess.PIPE, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "greenroom", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | env,
        )
        self.heard = ""

    def hear(self, words: str) -> str:
        """Read its progress up to the line with these words; that line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.heard += line
            if words in line:
                return line
        raise AssertionError(f"it ended without {words!r}: {self.heard}")

    def read(self) -> str:
        """Read a line of its data."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, number: int | None = None) -> Done:
        """Signal it if asked to, and wait for its end."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=50)
        return Done(self.process.returncode, out, self.heard + (err or ""))


@pytest.fixture
def spawn(folder: Path) -> Iterator[Callable[..., Program]]:
    """Starts processes, which end with the test."""
    started: list[Program] = []

    def start(*arguments: str, **options: object) -> Program:
        started.append(Program(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()
