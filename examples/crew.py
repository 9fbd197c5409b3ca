"""The demo's crew: real worker processes over one store, each with a file for what it says.

What holds: a worker that ends on its own is noticed; none of them outlives the crew, however the crew ends (law 7).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

GRACE_S = 3.0
"""How long a worker may take to leave when asked to, seconds."""


class WorkerEnded(Exception):
    """A worker ended that nobody had killed; the message says what its last words were."""


class Crew:
    """Worker processes by name. Made by `open_crew`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self._killed: set[str] = set()
        self._leaving = False

    def kill(self, name: str) -> int:
        """Kill a worker as nothing can be caught or cleaned up after; return its process id."""
        process = self.processes[name]
        self._killed.add(name)
        process.kill()
        return process.pid

    async def look_after(self, name: str) -> None:
        """Wait for a worker's end.

        Raises:
            WorkerEnded: nobody had killed it, and the crew was not leaving.
        """
        code = await self.processes[name].wait()
        if name not in self._killed and not self._leaving:
            log = self.folder / f"{name}.log"
            said = log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
            raise WorkerEnded(f"{name} ended with code {code} ({last}): see {log}")

    async def leave(self) -> None:
        """Ask all that are left to go, and kill those that take too long."""
        self._leaving = True
        for process in self._left():
            process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(GRACE_S):
            for process in self._left():
                await process.wait()
        for process in self._left():
            process.kill()
        for process in self.processes.values():
            await process.wait()

    def _left(self) -> list[Process]:
        return [process for process in self.processes.values() if process.returncode is None]


@asynccontextmanager
async def open_crew(
    names: Sequence[str], target: str, store: str, folder: Path, env: Mapping[str, str], *, lease_s: float
) -> AsyncIterator[Crew]:
    """Have a worker process at work for each name while the block runs.

    Args:
        names: of the workers.
        target: what they run, as for `greenroom worker`.
        store: the store's URL.
        folder: where they run, and write what they say.
        env: their environment.
        lease_s: how long a worker that is not heard of keeps a run, seconds.

    Raises:
        WorkerEnded: one ended that nobody had killed.
    """
    crew = Crew(folder)
    try:
        async with anyio.create_task_group() as group:
            for name in names:
                command = [sys.executable, "-m", "greenroom", "worker", target, "--store", store, "--name", name]
                with (folder / f"{name}.log").open("wb") as log:
                    crew.processes[name] = await anyio.open_process(
                        [*command, "--lease-s", str(lease_s)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=folder,
                        env=env,
                    )
                group.start_soon(crew.look_after, name)
            yield crew
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await crew.leave()
