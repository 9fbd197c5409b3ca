"""A storm of readers who come, read some, hang up and come back, while runs go on and the API is killed once.

Law 2 for everybody, and law 7 and 11 for the API: when they have gone, nothing of them is left in its process.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

from .conftest import Hand, newsroom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

PROGRAM = """
import asyncio, gc, json, os, pathlib, resource, signal, sys
import anyio
from greenroom import workflow
from greenroom.runtime.http import api, serve
from greenroom.runtime.logs import configure_logs
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

@workflow
async def newsroom(topic: str, posts: int = 3) -> str:
    return topic

async def main() -> None:
    configure_logs("error")
    async with open_transport(sys.argv[1]) as store:
        app = api(Runs(store, {"newsroom": newsroom}))

        def report() -> None:
            gc.collect()
            streams = app.state.streams
            print(json.dumps({
                "streams": len(streams),
                "readers": streams.channels.statistics().readers,
                "channels": streams.channels.statistics().runs,
                "tasks": len(asyncio.all_tasks()),
                "files": len(os.listdir("/dev/fd")),
                "pages": int(pathlib.Path("/proc/self/statm").read_text().split()[1]),
            }), flush=True)

        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)
        await serve(app, port=int(sys.argv[2]), ready=lambda url: print(url, flush=True))

anyio.run(main)
"""

READERS = 200
RUNS = 5
RECORDS = 100
DEADLINE_S = 60
SLACK_PAGES = 8 * 1024 * 1024 // 4096


class Held(msgspec.Struct, frozen=True):
    """What the API's process holds."""

    streams: int
    readers: int
    channels: int
    tasks: int
    files: int
    pages: int


class Api:
    """The API's process, which can be killed and started again on its port."""

    def __init__(self, program: Path, store: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._command = (str(program), store, str(self.port))
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(sys.executable, *self._command, stdout=PIPE)
        await self._line()

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()

    async def held(self) -> Held:
        """Ask it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        return msgspec.json.decode(await self._line(), type=Held)

    async def alone(self) -> Held:
        """What it holds once nobody follows any more and every connection is closed."""
        async with asyncio.timeout(DEADLINE_S):
            before: Held | None = None
            while True:
                now = await self.held()
                if now.streams == 0 and before is not None and (now.tasks, now.files) == (before.tasks, before.files):
                    return now
                before = now
                await asyncio.sleep(0.3)

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S)


@asynccontextmanager
async def opened(folder: Path, store: str) -> AsyncIterator[Api]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    api = Api(program, store)
    await api.start()
    try:
        yield api
    finally:
        await api.kill()


class Reader:
    """Somebody who follows a run to its end, and hangs up every now and then."""

    def __init__(self, port: int, run_id: str, chance: random.Random) -> None:
        self.cursor = 0
        self.connections = 0
        self.ended = False
        self.faults: list[str] = []
        self._port = port
        self._run_id = run_id
        self._chance = chance

    async def follow(self) -> None:
        while not self.ended:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            self.connections += 1
            try:
                await self._read(reader, writer)
            except OSError:
                pass  # the API was killed
            finally:
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"GET /v1/runs/{self._run_id}/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n"
        writer.write(f"{head}last-event-id: {self.cursor}\r\n\r\n".encode())
        stays = self._chance.randint(1, 60)
        rest = b""
        while stays > 0 and not self.ended:
            data = await reader.read(65536)
            if not data:
                return
            if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
                self.faults.append(data[:60].decode())
                self.ended = True
            rest += data
            whole = rest.rfind(b"\n\n") + 2 if b"\n\n" in rest else 0
            for seq, event in re.findall(rb"^id: (\d+)\nevent: (\S+)$", rest[:whole], re.MULTILINE):
                if int(seq) != self.cursor + 1:
                    self.faults.append(f"{int(seq)} came after {self.cursor}")
                self.cursor, stays = int(seq), stays - 1
                self.ended = self.ended or event == b"run.completed"
            rest = rest[whole:]
            if self._chance.random() < 0.05:
                await asyncio.sleep(0.2)  # some are slow


async def storm(api: Api, store: Any, seed: int, *, killed: bool) -> list[Reader]:
    """Start runs, have them followed while they go on, and end them."""
    runs, hand = Runs(store, {"newsroom": newsroom}), Hand(store, "newsroom")
    ids = []
    for _ in range(RUNS):
        run, _ = await runs.start("newsroom", b'{"topic": "tea"}')
        await hand.claim(run.run_id)
        ids.append(run.run_id)
    readers = [Reader(api.port, ids[n % RUNS], random.Random(seed * READERS + n)) for n in range(READERS)]
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.follow())
        for record in range(RECORDS):
            for run_id in ids:
                await hand.say(run_id, f"word {record}")
            if killed and record == RECORDS // 2:
                await api.kill()
                await api.start()
            await asyncio.sleep(0.02)
        for run_id in ids:
            await hand.complete(run_id)
    return readers


async def test_in_a_storm_of_readers_each_gets_every_record_once_and_the_api_keeps_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/storm.db"
    async with open_transport(url) as store, opened(tmp_path, url) as api:
        readers = await storm(api, store, 1, killed=True)
        before = await api.alone()
        readers += await storm(api, store, 2, killed=False)
        after = await api.alone()
    assert [fault for reader in readers for fault in reader.faults] == []
    assert {reader.cursor for reader in readers} == {3 + RECORDS + 1}
    assert sum(reader.connections for reader in readers) > 3 * len(readers)
    assert (after.tasks, after.files) == (before.tasks, before.files)
    assert (after.streams, after.readers, after.channels) == (0, 0, 0)
    assert after.pages < before.pages + SLACK_PAGES
