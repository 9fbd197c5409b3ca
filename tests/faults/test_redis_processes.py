"""Real processes on a real server: workers and server killed, stopped, cut off, out of memory, failed over. Then the
audit, and what was done outside counted by idempotency key.

GREENROOM_CHAOS_S=60 makes the load last a minute instead of a few seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from greenroom.runtime.errors import CursorAhead
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.auditor import Audit, audit
from greenroom.runtime.worker import open_worker
from greenroom.transports import RunFilter, RunNotFound, RunState, StoreUnavailable, open_transport

from ..cli.conftest import Program
from ..transports.valkey import Node, caught_up, fail_over, follow, node, proxy, until
from . import hands
from .chaos import CHAOS_S, tell
from .hands import LEASE_S, WORKFLOWS, settings

HANDS = Path(hands.__file__)
DEADLINE_S = 50.0
NEWSROOM = f"{Path(__file__).parents[2] / 'examples' / 'newsroom.py'}:runtime"
SAFE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    """A server with every write on disk before its answer; the hands in the test's folder use it."""
    with node(tmp_path / "valkey", *SAFE) as server:
        (tmp_path / "url").write_text(server.url)
        yield server


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts hands, which end with the test; what they say is in `NAME.log`."""
    started: list[subprocess.Popen[str]] = []

    def begin(role: str, name: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HANDS), role, str(tmp_path), *arguments]
        with (tmp_path / f"{name}.log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def effects(folder: Path) -> list[tuple[str, str]]:
    """What was done outside: name and idempotency key."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(name, key) for name, key, _ in (line.split() for line in lines)]


def charged(folder: Path) -> Counter[str]:
    """How many charges each run has come to, for whoever honours idempotency keys."""
    return Counter(key.split("/")[0] for name, key in set(effects(folder)) if name == "charge")


def audited(url: str) -> Audit:
    async def main() -> Audit:
        async with open_transport(url) as store:
            return await audit(store)

    return anyio.run(main)


def check(url: str) -> Audit:
    """Hold a store against the laws."""
    found = audited(url)
    assert found.findings == ()
    return found


def check_load(folder: Path, url: str) -> Audit:
    """All that was accepted has ended, once, and was read to its end."""
    accepted = (folder / "accepted").read_text().split()
    found = check(url)
    assert found.states == {"completed": len(accepted)}
    assert sorted((folder / "read").read_text().split()) == sorted(accepted)
    assert found.results == 5 * len(accepted)
    assert charged(folder) == dict.fromkeys(accepted, 1)
    return found


def ended_well(process: subprocess.Popen[str], log: Path) -> str:
    """Wait for its end; what it gave."""
    out, _ = process.communicate(timeout=DEADLINE_S + 2 * CHAOS_S)
    assert process.returncode == 0, log.read_text()[-4000:]
    return out


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


# --- killed


@pytest.mark.timeout(max(120, CHAOS_S * 3))
def test_a_worker_or_an_api_is_killed_every_second_and_nothing_is_lost_or_repeated(
    tmp_path: Path, server: Node, start: Start
) -> None:
    said = ended_well(start("load", "load", str(CHAOS_S)), tmp_path / "load.log")
    told = tell("Valkey", said, audited(server.url))
    assert told["kills"] >= CHAOS_S / 2
    assert check_load(tmp_path, server.url).takeovers > 0


@pytest.mark.timeout(120)
def test_the_server_is_killed_twice_and_nothing_is_lost_or_repeated(tmp_path: Path, server: Node, start: Start) -> None:
    """The second time it stays away for longer than a lease: runs are taken up again."""
    load = start("load", "load", "6", "calm")
    until(lambda: lines(tmp_path / "effects") > 20)
    server.kill()
    server.start()
    until(lambda: lines(tmp_path / "effects") > 60)
    server.kill()
    time.sleep(2 * LEASE_S)
    server.start()
    ended_well(load, tmp_path / "load.log")
    assert check_load(tmp_path, server.url).takeovers > 0


# --- stopped


@pytest.mark.timeout(100)
def test_a_worker_that_comes_back_after_its_lease_is_refused_and_works_on(
    tmp_path: Path, server: Node, start: Start
) -> None:
    async def begin(run_id: str) -> None:
        async with open_transport(server.url) as store:
            await Runs(store, WORKFLOWS).start("gated", b"{}", run_id=run_id)

    async def result(run_id: str) -> bytes:
        async with open_transport(server.url) as store:
            return await Runs(store, WORKFLOWS).result(run_id, timeout_s=DEADLINE_S)

    anyio.run(begin, "first")
    zombie = start("worker", "zombie", "zombie")
    until(lambda: effects(tmp_path))
    zombie.send_signal(signal.SIGSTOP)
    (tmp_path / "open").touch()
    heir = start("worker", "heir", "heir")
    assert anyio.run(result, "first") == b'"through"'
    zombie.send_signal(signal.SIGCONT)
    until(lambda: "lease" in (tmp_path / "zombie.log").read_text())
    heir.terminate()
    ended_well(heir, tmp_path / "heir.log")
    anyio.run(begin, "second")
    assert anyio.run(result, "second") == b'"through"'
    zombie.terminate()
    ended_well(zombie, tmp_path / "zombie.log")
    found = check(server.url)
    assert (found.takeovers, found.states) == (1, {"completed": 2})
    done = Counter(effects(tmp_path))
    assert sorted(name for name, _ in done) == ["after", "after", "hold", "hold"]
    assert sorted(done.values()) == [1, 1, 1, 2]  # what was tried again had the same key


# --- cut off


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
@pytest.mark.timeout(100)
async def test_a_worker_whose_connection_is_cut_at_a_result_records_it_once(
    where: str, tmp_path: Path, server: Node, start: Start
) -> None:
    """Whether the server has executed the append or not."""
    async with proxy(server.port) as between, open_transport(server.url) as store:
        (tmp_path / "url").write_text(server.url.replace(str(server.port), str(between.port)))
        worker = start("worker", "worker", "w")
        runs = Runs(store, WORKFLOWS)
        for cut in (b"step.completed", b"output.delta", b"timer", b"run.completed"):
            before = between.cuts
            setattr(between, where, cut)
            run, _ = await runs.start("order", b'{"number": 1}')
            assert await runs.result(run.run_id, DEADLINE_S) == b"6"
            assert between.cuts == before + 1, cut
        worker.terminate()
        await anyio.to_thread.run_sync(ended_well, worker, tmp_path / "worker.log")
        found = await audit(store)
    assert (found.findings, found.states, found.results, found.takeovers) == ((), {"completed": 4}, 20, 0)
    assert set(Counter(effects(tmp_path)).values()) == {1}
    assert set(charged(tmp_path).values()) == {1}


# --- failed over


@pytest.mark.timeout(100)
async def test_a_failover_that_loses_acknowledged_records_is_said_and_forks_no_log(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The new primary lacks results on which steps under way depend, and a whole run."""
    with node(tmp_path / "a", *SAFE) as first, node(tmp_path / "b", *SAFE) as second:
        follow(second, first)
        async with proxy(first.port) as between, open_transport(f"redis://127.0.0.1:{between.port}") as store:
            (tmp_path / "url").write_text(store.url)
            runs = Runs(store, WORKFLOWS)
            workers = {name: start("worker", name, name) for name in ("a", "b")}
            with anyio.fail_after(DEADLINE_S):
                while len(await store.workers()) < 2:  # noqa: ASYNC110 - they are other processes
                    await anyio.sleep(0.02)
            ids = [(await runs.start("gates", b"{}"))[0].run_id for _ in range(6)]
            await came_about(lambda: tried(tmp_path, "one") == 6)
            await came_about(lambda: caught_up(second, first))
            second.ask("REPLICAOF", "NO", "ONE")
            (tmp_path / "one").touch()
            await came_about(lambda: tried(tmp_path, "two") == 6)
            late, _ = await runs.start("gates", b"{}", key="late")
            await came_about(lambda: tried(tmp_path, "two") == 7)
            cursor = (await store.run(ids[0])).seq
            await fail_over(between, first, second)
            with pytest.raises(CursorAhead):
                async for _ in runs.events(ids[0], cursor):
                    pass
            (tmp_path / "two").touch()
            for run_id in ids:
                assert await runs.result(run_id, DEADLINE_S) == b'"onetwo"'
            with pytest.raises(RunNotFound):
                await store.run(late.run_id)
            again, is_new = await runs.start("gates", b"{}", key="late")
            assert is_new
            assert await runs.result(again.run_id, DEADLINE_S) == b'"onetwo"'
            assert "has lost up to 1 of the writes" in caplog.text
            for name, worker in workers.items():
                worker.terminate()
                await anyio.to_thread.run_sync(ended_well, worker, tmp_path / f"{name}.log")
                assert "has lost up to" in (tmp_path / f"{name}.log").read_text()
            found = await audit(store)
    assert (found.findings, found.states, found.results) == ((), {"completed": 7}, 14)
    assert found.takeovers >= 6
    done = Counter(effects(tmp_path))
    assert Counter(key.split("/")[0] for _, key in done) == dict.fromkeys([*ids, again.run_id, late.run_id], 2)


def tried(folder: Path, name: str) -> int:
    return [one for one, _ in effects(folder)].count(name)


async def came_about(condition: Callable[[], object]) -> None:
    """Wait until it holds, while this process goes on serving."""
    with anyio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what it asks for happens in other processes
            await anyio.sleep(0.02)


# --- no memory


@pytest.mark.timeout(100)
async def test_memory_that_is_full_for_a_while_delays_runs_and_loses_nothing(
    tmp_path: Path, server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "FOLDER", tmp_path)
    async with open_transport(server.url) as store:
        runs = Runs(store, WORKFLOWS)
        accepted = [(await runs.start("order", b'{"number": 1}'))[0].run_id for _ in range(10)]
        async with open_worker(store, WORKFLOWS, settings("w"), RouterConfig(models={})):
            await came_about(lambda: effects(tmp_path))
            server.ask("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(StoreUnavailable, match="memory is full"):
                await runs.start("order", b'{"number": 1}')
            await anyio.sleep(1.5 * LEASE_S)
            assert (await store.runs(RunFilter(state=RunState.RUNNING))).runs
            server.ask("CONFIG", "SET", "maxmemory", 0)
            for run_id in accepted:
                assert (await runs.wait(run_id, DEADLINE_S)).run.state is RunState.COMPLETED
        found = await audit(store)
    assert (found.findings, found.states, found.results) == ((), {"completed": 10}, 50)
    assert found.takeovers > 0
    assert charged(tmp_path) == dict.fromkeys(accepted, 1)


# --- the commands


@pytest.fixture
def command(tmp_path: Path, server: Node) -> Iterator[Callable[..., Program]]:
    """Starts `greenroom ...` on the server's store, which ends with the test."""
    started: list[Program] = []

    def begin(*arguments: str, **env: str) -> Program:
        clean = {name: "" for name in os.environ if name.startswith(("OPENAI_", "GEMINI_"))}
        started.append(Program(*arguments, **clean, GREENROOM_STORE=server.url, **env))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for program in started:
        program.process.kill()
        program.process.communicate()


@pytest.mark.timeout(100)
def test_the_newsroom_is_served_worked_run_read_and_verified_by_the_commands(
    command: Callable[..., Program], server: Node
) -> None:
    """One worker is killed meanwhile."""
    simulator = command("simulate", "--port", "0")
    exports = [simulator.read().split()[1].partition("=") for _ in range(4)]
    env = {name: value for name, _, value in exports}
    assert env.keys() >= {"OPENAI_API_KEY", "OPENAI_BASE_URL"}
    api = command("serve", NEWSROOM, "--port", "0", **env)
    workers = {name: command("worker", NEWSROOM, "--name", name, "--lease-s", "1", **env) for name in ("a", "b")}
    address = api.hear("API").split()[1]
    posted = httpx2.post(f"{address}/newsroom/runs", json={"input": {"topic": "tea"}}, timeout=DEADLINE_S)
    assert posted.status_code == 202
    run_id = posted.headers["location"].rpartition("/")[2]
    log: list[dict[str, Any]] = []
    killed = ""
    for line in iter(command("logs", run_id, "--follow", "--jsonl").read, ""):
        log.append(json.loads(line))
        if log[-1]["kind"] == "step.completed" and not killed:
            killed = log[1]["data"]["worker"]
            workers[killed].process.kill()
            run = command("run", NEWSROOM, "--quiet", "--input", "topic=tea", **env)
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert log[-1]["kind"] == "run.completed"
    done = run.end()
    assert done.code == 0, done.err
    assert json.loads(done.out).keys() == {"headline", "text", "sources"}
    readers = [command("ps", "--json"), command("verify"), command("doctor", "--port", "0")]
    left = [api, *(one for name, one in workers.items() if name != killed)]
    assert [one.end(signal.SIGTERM).code for one in left] == [0, 0]
    listed, verified, told = (reader.end() for reader in readers)
    assert [run["state"] for run in json.loads(listed.out)] == ["completed"] * 2
    assert verified.code == 0, verified.out
    assert "2 runs (2 completed)" in verified.out
    assert verified.out.endswith(" takeovers, 0 violations\n")
    for words in (f"ok    store: {server.url} opens; ", "look  memory: noeviction, but no limit", "ok    clock: "):
        assert words in told.out
