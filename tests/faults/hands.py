"""The processes of the fault tests: workers, APIs and their clients over one store, forked from one that knows all.

    python hands.py ROLE FOLDER [ARGUMENT ...]

The store is the one that `FOLDER/url` names, or else a SQLite file in the folder.

What steps do to the outside world is a line in `FOLDER/effects`: the step's idempotency key, and who did it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from greenroom import Retry, WorkerSettings, component, emit, fan_out, idempotency_key, sleep, status, workflow
from greenroom.client import Client, RemoteRun
from greenroom.runtime.http import api, serve
from greenroom.runtime.logs import configure_logs
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.worker import open_worker
from greenroom.transports import RunFilter, Transport, open_transport

LEASE_S = 1.0
MIN_KILLS = 3
"""How many of each kind a storm kills at least, however slow the machine is."""
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 and __name__ == "__main__" else Path()


def effect(name: str) -> None:
    """Do something outside that cannot be taken back."""
    line = f"{name} {idempotency_key()} {os.getpid()}\n".encode()
    out = os.open(FOLDER / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line)
    os.close(out)


@component(retry=Retry(attempts=3, first_s=0.01))
async def part(number: int) -> int:
    await emit(f"part {number}.")
    effect("part")
    await anyio.sleep(0.1)
    return number


@component
async def charge(amount: int) -> int:
    effect("charge")
    await status("charged")
    await anyio.sleep(0.01)
    return amount


@workflow
async def order(number: int) -> int:
    parts = await fan_out(part, [number, number + 1, number + 2], concurrency=3)
    paid = await charge(sum(parts))
    await sleep(0.1)
    await emit("sent")
    return paid


@component
async def hold() -> str:
    effect("hold")
    while not (FOLDER / "open").exists():  # noqa: ASYNC110 - the test that makes the file is another process
        await anyio.sleep(0.02)
    return "through"


@component
async def stick() -> str:
    effect("stick")
    if not (FOLDER / "open").exists():
        while not (FOLDER / "over").exists():
            time.sleep(0.02)  # noqa: ASYNC251 - the fault
    return "through"


@component
async def after(said: str) -> str:
    effect("after")
    return said


@workflow
async def gated() -> str:
    return await after(await hold())


@workflow
async def stuck() -> str:
    return await after(await stick())


@component
async def gate(name: str) -> str:
    effect(name)
    while not (FOLDER / name).exists():  # noqa: ASYNC110 - the test that makes the file is another process
        await anyio.sleep(0.02)
    return name


@workflow
async def gates() -> str:
    return await gate("one") + await gate("two")


WORKFLOWS = {one.name: one for one in (order, gated, stuck, gates)}


class Deadly:
    """A transport that kills its process, right after so many appends were acknowledged."""

    def __init__(self, inner: Transport, after: int) -> None:
        self._inner = inner
        self._left = after

    async def append_all(self, appends: Any) -> Any:
        """Append, and perhaps die."""
        done = await self._inner.append_all(appends)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    def __getattr__(self, name: str) -> Any:
        """Everything else is harmless."""
        return getattr(self._inner, name)


def url(name: str = "store") -> str:
    """The store's URL."""
    named = FOLDER / "url"
    return named.read_text() if named.exists() else f"sqlite:///{FOLDER}/{name}.db"


def settings(name: str) -> WorkerSettings:
    """How workers work here."""
    return WorkerSettings(name=name, lease_s=LEASE_S, park_after_s=0.05, build="hands", drain_s=5.0)


async def work(name: str) -> None:
    """Be a worker until told to leave."""
    with anyio.open_signal_receiver(signal.SIGTERM) as told:
        async with (
            open_transport(url()) as store,
            open_worker(store, WORKFLOWS, settings(name), RouterConfig(models={})),
        ):
            be_ready()
            async for _ in told:
                break


async def work_until(store_name: str, run_id: str, dies_after: int) -> None:
    """Start a run if it is new, and be a worker until it has ended, or until so many appends (0: never)."""
    async with open_transport(url(store_name)) as store:
        seen: Any = Deadly(store, dies_after) if dies_after else store
        runs = Runs(store, WORKFLOWS)
        await runs.start("order", b'{"number": 1}', key=run_id, run_id=run_id)
        async with open_worker(seen, WORKFLOWS, settings(f"w{os.getpid()}"), RouterConfig(models={})):
            await runs.wait(run_id)


async def end_all() -> None:
    """Be a worker until every run of the store has ended."""
    async with (
        open_transport(url()) as store,
        open_worker(store, WORKFLOWS, settings("heir"), RouterConfig(models={})),
    ):
        runs = Runs(store, WORKFLOWS)
        for run in [run async for run in runs.matching(RunFilter())]:
            await runs.wait(run.run_id)


async def answer(port: int) -> None:
    """Be an API until told to leave."""
    async with open_transport(url()) as store:
        await serve(api(Runs(store, WORKFLOWS)), port=port, ready=lambda _: be_ready())


def be_ready() -> None:
    """Say that this process does its part."""
    (FOLDER / f"ready-{os.getpid()}").touch()


async def call(name: str, address: str) -> None:
    """Be a client: start runs, each twice, and read each log to its end; write down what was accepted, and read."""
    async with Client(address, patience_s=60.0) as client, anyio.create_task_group() as group:

        async def follow(run: RemoteRun) -> None:
            seen = [event.seq async for event in run.events()]
            assert seen == list(range(1, len(seen) + 1)), f"{run.id}: {seen}"
            with (FOLDER / "read").open("a") as out:
                out.write(f"{run.id}\n")

        for number in itertools.count():
            if (FOLDER / "enough").exists():
                return
            run, same = [await client.start("order", {"number": number}, key=f"{name}-{number}") for _ in range(2)]
            assert run.id == same.id
            with (FOLDER / "accepted").open("a") as out:
                out.write(f"{run.id}\n")
            group.start_soon(follow, run)
            await anyio.sleep(0.2)


def fork(main: Callable[[], Awaitable[None]]) -> int:
    """Run this in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        anyio.run(main)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def boundaries() -> None:
    """Kill a worker after each append of its run, each in a store of its own; then let another one end them all."""
    for cut in itertools.count(1):
        end = os.waitpid(fork(partial(work_until, f"cut-{cut}", f"run-{cut}", cut)), 0)[1]
        if os.WIFEXITED(end):
            assert os.WEXITSTATUS(end) == 0
            break
        assert os.WTERMSIG(end) == signal.SIGKILL

    async def end_all() -> None:
        async with anyio.create_task_group() as group:
            for number in range(1, cut):
                group.start_soon(work_until, f"cut-{number}", f"run-{number}", 0)

    assert os.waitpid(fork(end_all), 0)[1] == 0


class Hand(NamedTuple):
    """A process that may be killed."""

    pid: int
    kind: str
    port: int

    @property
    def ready(self) -> bool:
        """Whether it does its part by now."""
        return (FOLDER / f"ready-{self.pid}").exists()


def load(seconds: float, *, deadly: bool) -> None:
    """Two APIs with a client each, three workers; one of these five is killed every second and replaced, or none is.

    It lasts until a file `enough` is there, which is made after so many seconds, when at least MIN_KILLS of each kind
    were killed. Only who does its part is killed, and a worker rather at work than idle. Says how many it killed.
    """
    rng = random.Random(7)
    names = itertools.count()
    kills = {"api": 0, "worker": 0}
    ends = time.monotonic() + seconds
    ports = [free_port() for _ in range(2)]

    def begin(kind: str, port: int) -> Hand:
        return Hand(fork(partial(answer, port) if kind == "api" else partial(work, f"w{next(names)}")), kind, port)

    hands = [begin("api", port) for port in ports] + [begin("worker", 0) for _ in range(3)]
    clients = [fork(partial(call, f"client{n}", f"http://127.0.0.1:{port}")) for n, port in enumerate(ports)]
    while clients:
        time.sleep(1.0)
        for client in clients[:]:
            pid, code = os.waitpid(client, os.WNOHANG)
            if pid:
                assert code == 0, f"a client ended with {code}"
                clients.remove(client)
        if time.monotonic() > ends and (not deadly or min(kills.values()) >= MIN_KILLS):
            (FOLDER / "enough").touch()
        victims = [hand for hand in hands if hand.ready]
        if not deadly or not victims or (FOLDER / "enough").exists():
            continue
        at_work = [hand for hand in victims if hand.pid == last_effect()]
        victim = rng.choice(at_work if at_work and rng.random() < 0.5 else victims)
        os.kill(victim.pid, signal.SIGKILL)
        os.waitpid(victim.pid, 0)
        kills[victim.kind] += 1
        hands.remove(victim)
        hands.append(begin(victim.kind, victim.port))
    for hand in hands:
        while not hand.ready:
            time.sleep(0.1)
        os.kill(hand.pid, signal.SIGTERM)
    codes = [os.waitpid(hand.pid, 0)[1] for hand in hands]
    assert codes == [0] * 5, codes
    print(json.dumps(kills))


def last_effect() -> int:
    """Who has done something outside last."""
    file = FOLDER / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(lines[-1].split()[2]) if lines else 0


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(role: str, *arguments: str) -> None:
    """Play a part."""
    configure_logs("warning")
    match role:
        case "boundaries":
            boundaries()
        case "load":
            load(float(arguments[0]), deadly="calm" not in arguments)
        case "end":
            anyio.run(end_all)
        case "worker":
            with suppress(KeyboardInterrupt):
                anyio.run(work, arguments[0])
        case _:
            raise SystemExit(f"no such role: {role}")


if __name__ == "__main__":
    main(sys.argv[1], *sys.argv[3:])
