"""Restate as it comes, one node, under the load: `python -m benchmarks.runs.restate_server SERVER FOLDER ROUNDS`.

The server is a process of its own, which syncs its log; its service and the client are this one, as elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from .load import FLOWS, PAYLOAD, STEPS, began, gaps, loaded, report

PATIENCE_S = 60.0
times: list[float] = []
bench = restate.Service("bench")
count = itertools.count()


async def step(name: str, n: int) -> str:
    """Note the time."""
    if n == 0:
        began.setdefault(name, time.perf_counter())
    elif name == "sequence":
        times.append(time.perf_counter())
    return PAYLOAD


@bench.handler()
async def ten(ctx: restate.Context, name: str) -> int:
    """STEPS steps."""
    return sum([len(await ctx.run_typed("step", step, name=name, n=n)) for n in range(STEPS)])


@bench.handler()
async def sequence(ctx: restate.Context, steps: int) -> int:
    """As many steps."""
    return sum([len(await ctx.run_typed("step", step, name="sequence", n=n + 1)) for n in range(steps)])


@asynccontextmanager
async def running(server: str, folder: Path, ports: dict[str, int]) -> AsyncIterator[None]:
    """Run the server for as long as the block lasts; what it says is in a file of the folder."""
    env = os.environ | {
        "RESTATE_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_LOG_FILTER": "error",
        "RESTATE_BASE_DIR": str(folder),
        **{name: f"127.0.0.1:{port}" for name, port in ports.items()},
    }
    with (folder / "said").open("wb") as said:
        process = await anyio.open_process([server, "--no-logo"], stdout=said, stderr=said, env=env)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def main(server: str, folder: Path, rounds: int) -> None:
    """Measure."""
    names = ("RESTATE_BIND_ADDRESS", "RESTATE_INGRESS__BIND_ADDRESS", "RESTATE_ADMIN__BIND_ADDRESS", "service")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    own = ports.pop("service")
    ingress = f"http://127.0.0.1:{ports['RESTATE_INGRESS__BIND_ADDRESS']}"
    admin = f"http://127.0.0.1:{ports['RESTATE_ADMIN__BIND_ADDRESS']}"
    over = asyncio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{own}"]
    config.loglevel = "ERROR"
    limits = httpx2.Limits(max_connections=FLOWS, max_keepalive_connections=FLOWS)
    async with (
        running(server, folder, ports),
        anyio.create_task_group() as group,
        httpx2.AsyncClient(base_url=ingress, timeout=PATIENCE_S, limits=limits) as client,
    ):
        group.start_soon(lambda: serve(restate.app([bench]), config, shutdown_trigger=over.wait))
        await registered(client, admin, own)

        async def call(handler: str, body: object) -> None:
            (await client.post(f"/bench/{handler}", json=body)).raise_for_status()

        async def flow(name: str) -> None:
            await call("ten", name)

        async def steps(count: int) -> list[float]:
            times.clear()
            await call("sequence", count)
            return gaps(times)

        report(await loaded(flow, steps, rounds))
        over.set()


async def registered(client: httpx2.AsyncClient, admin: str, own: int) -> None:
    """Tell the server of the service, once it is there."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                told = await client.post(f"{admin}/deployments", json={"uri": f"http://127.0.0.1:{own}"})
                if told.is_success and (await client.post("/bench/ten", json="ready")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await anyio.sleep(0.2)


def free_ports(number: int) -> list[int]:
    """Return ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
