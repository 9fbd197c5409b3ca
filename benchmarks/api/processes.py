"""The processes of this suite: APIs and workers as the command line starts them, and peers; what they use.

Why processes: what a server costs is measured from outside, by what the kernel says that its process has used.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = "benchmarks/api/target.py:runtime"
PATIENCE_S = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server's process, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu_s(self) -> float:
        """CPU time that it has used so far, all threads, kernel's share included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Memory that it has resident, MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process for the life of the block."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "GREENROOM_LOG_LEVEL": "error", **(env or {})},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def listening(command: Sequence[str], port: int) -> Iterator[Server]:
    """Run a server for the life of the block, from when it listens."""
    with process(*command) as running:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} does not listen") from None
                time.sleep(0.05)
        yield Server(running, port)


@contextmanager
def api(store: str) -> Iterator[Server]:
    """`greenroom serve` over a store."""
    port = free_port()
    with listening(("-m", "greenroom", "serve", TARGET, "--store", store, "--port", str(port), "-q"), port) as server:
        yield server


@contextmanager
def peer(name: str, *args: str) -> Iterator[Server]:
    """A server of `peers.py`."""
    port = free_port()
    with listening(("-m", f"{__package__}.peers", name, str(port), *args), port) as server:
        yield server


@contextmanager
def worker(store: str) -> Iterator[int]:
    """`greenroom worker` over a store; its process."""
    with process("-m", "greenroom", "worker", TARGET, "--store", store, "-q") as running:
        yield running.pid
