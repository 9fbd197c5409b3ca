"""A peer: a system that is measured, in a process of its own, so that it disturbs no other and chooses its own loop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
ERLANG = "erlang"
PATIENCE = 60.0
"""Seconds that a process may take to end."""


class Absent(Exception):
    """The peer is not installed; the message says what is missing."""


class Failed(Exception):
    """The peer's process ended in the middle; the message has its last words."""


@dataclass(frozen=True)
class Peer:
    """What is measured, and how to start it.

    Args:
        system: its name in the report.
        module: in this package, or ERLANG.
        package: that has to be installed: what is imported.
        loop: the package that makes its event loop.
        alone: whether it has work for one processor only, and is kept on the one that all such peers have in turns: two
            processors are seldom equally quick.
    """

    system: str
    module: str
    package: str = "asyncio"
    loop: str = "asyncio"
    alone: bool = True

    def command(self, scratch: Path) -> Sequence[str]:
        """Return the command that runs it.

        Raises:
            Absent: something is not installed.
        """
        if self.module != ERLANG:
            for package in (self.package, self.loop):
                if find_spec(package) is None:
                    raise Absent(f"{package} is not installed")
            return sys.executable, "-m", __package__, self.module, self.loop
        if shutil.which("erl") is None or shutil.which("erlc") is None:
            raise Absent("erl and erlc are not on the PATH")
        built = subprocess.run(["erlc", "-o", scratch, HERE / "gen_servers.erl"], capture_output=True, text=True)
        if built.returncode:
            raise Absent(f"erlc failed: {last_line(built.stdout + built.stderr)}")
        return "erl", "+S", "1", "-noshell", "-pa", str(scratch), "-s", "gen_servers"


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep what is started in the block on one processor, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A running peer.

    Attributes:
        system: the peer's name.
        cases: what it can do.

    Raises:
        Absent: the peer is not installed.
        Failed: it did not start.
    """

    def __init__(self, peer: Peer) -> None:
        self.system = peer.system
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-bench-"))
            command = peer.command(Path(scratch))
            self._words = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            self._resources = stack.pop_all()
        with on_one_processor() if peer.alone else nullcontext():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                text=True,
                encoding="utf-8",
                cwd=HERE.parent.parent,
                env={**os.environ, "ERL_CRASH_DUMP_SECONDS": "0"},
            )
        try:
            self.cases: list[str] = json.loads(self._line())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def measure(self, case: str, count: int) -> float:
        """Have it do a case with so many operations, and return operations a second, or the case's own figure.

        Raises:
            Failed: the process ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{count} {case}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._resources.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(PATIENCE)
            raise Failed(self._last_words())
        return line

    def _last_words(self) -> str:
        self._words.seek(0)
        return last_line(self._words.read())


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
