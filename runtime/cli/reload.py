"""`greenroom dev`: run the command in a child process, and start it again when a file changes.

A process of its own is the only reload that leaves nothing behind. The child drains: its runs go on in the next one.
It is in a process group of its own, so that Ctrl-C reaches it once, through here; and it ends with this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from ..config import TYPES, flag
from .output import say

LOOK_S = 0.5
"""How often files are looked at, seconds."""

END_S = 15.0
"""How long the child may take to end, seconds."""

SKIPPED = {"__pycache__", "node_modules", "build", "dist", "venv"}


def dev(options: Namespace) -> int:
    """Serve the API and a worker, and start again when a file changes, until interrupted or ended by itself."""
    if options.no_reload or options.child_of is not None:
        from .execute import dev

        return dev(options)
    folder = Path(options.target.rpartition(":")[0] or options.target).parent if ".py" in options.target else Path()
    numbers = [signal.SIGINT, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])]
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        return _watch(child_command(options), folder)
    except KeyboardInterrupt:
        return 0
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def child_command(options: Namespace) -> list[str]:
    """Return the command that does the work: the one that was typed, without the watching."""
    command = [sys.executable, "-m", "greenroom", "dev", f"--child-of={os.getpid()}"]
    for name in TYPES:
        value = getattr(options, name)
        if value is not None:
            command.append(f"{flag(name)}={value}")
    command += [f"--{name}" for name in ("insecure", "quiet") if getattr(options, name)]
    return [*command, "--", options.target]


def _watch(command: list[str], folder: Path) -> int:
    first = True
    while True:
        seen = snapshot(folder)
        child = subprocess.Popen(command, process_group=None if sys.platform == "win32" else 0)  # noqa: S603 - ours
        try:
            while child.poll() is None and snapshot(folder) == seen:
                time.sleep(LOOK_S)
            if child.poll() is not None and snapshot(folder) == seen:
                if first or child.returncode == 0:
                    return child.returncode
                say("greenroom: waiting for a change")
                while snapshot(folder) == seen:
                    time.sleep(LOOK_S)
        finally:
            _end(child)
        first = False
        say("greenroom: a file changed, starting again")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Stop the child in order; a second signal is passed on, and makes it stop at once."""
    for _ in range(2):
        if child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(END_S)
        except KeyboardInterrupt:
            continue
        except subprocess.TimeoutExpired:
            break
    if child.poll() is None:
        child.kill()
        child.wait()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def snapshot(folder: Path) -> dict[str, int]:
    """Return when each Python file and configuration below a folder was changed; hidden and built ones do not count."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith(".")]
        for name in files:
            if name.endswith((".py", ".toml")):
                path = os.path.join(place, name)
                try:
                    found[path] = os.stat(path).st_mtime_ns
                except OSError:
                    continue
    return found
