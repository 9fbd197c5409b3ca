"""`greenroom dev`: run the command in a child process, and start it again when a Python file changes.

A process of its own is the only reload that leaves nothing behind. The child drains: its runs go on in the next one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

LOOK_S = 0.5
SKIPPED = {"__pycache__", "node_modules", "build", "dist"}


def watch(options: Namespace) -> int:
    """Keep the child running until interrupted, or until it ends by itself."""
    command = [sys.executable, "-m", "greenroom", "dev", options.target, "--no-reload"]
    for name in ("store", "log_level", "host", "port", "lease_s", "capacity"):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    if options.insecure:
        command.append("--insecure")
    folder = Path(options.target.partition(":")[0]).parent if ".py" in options.target else Path()
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    while True:
        seen = snapshot(folder)
        child = subprocess.Popen(command)  # noqa: S603 - the command that is running already
        try:
            while child.poll() is None and not stopped and snapshot(folder) == seen:
                time.sleep(LOOK_S)
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(40)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        if stopped:
            return 0
        if snapshot(folder) == seen:
            if child.returncode in (0, 2, 3, 4):
                return child.returncode
            while snapshot(folder) == seen and not stopped:
                time.sleep(LOOK_S)
            if stopped:
                return 0
        print("greenroom: a file changed, starting again", file=sys.stderr, flush=True)


def snapshot(folder: Path) -> dict[str, int]:
    """Return when each Python file and configuration below a folder was changed."""
    found = {}
    for path in (*folder.rglob("*.py"), *folder.glob("*.toml")):
        if not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(folder).parts[:-1]):
            try:
                found[str(path)] = path.stat().st_mtime_ns
            except OSError:
                continue
    return found
