"""Real processes on SQLite: killed at every record, stopped, stuck, under load, on a full disk. Then the audit.

GREENROOM_CHAOS_S=60 makes the load last a minute instead of a few seconds.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from greenroom.runtime.records import Record, StepStarted, decode
from greenroom.runtime.router import RouterConfig
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.auditor import Audit, audit
from greenroom.runtime.worker import open_worker
from greenroom.transports import RunState, StoreUnavailable, open_transport
from greenroom.transports.sqlite import SqliteTransport

from . import hands
from .chaos import CHAOS_S, tell
from .hands import LEASE_S, WORKFLOWS, settings

HANDS = Path(hands.__file__)
DEADLINE_S = 50.0

pytestmark = pytest.mark.slow


def play(role: str, folder: Path, *arguments: str, timeout: float = DEADLINE_S) -> str:
    """Play a part to its end; what it said."""
    command = [sys.executable, str(HANDS), role, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


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


def effects(folder: Path) -> list[tuple[str, str]]:
    """What was done outside: name and idempotency key."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(name, key) for name, key, _ in (line.split() for line in lines)]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < ends, f"{what} did not come about"
        time.sleep(0.02)


# --- killed


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_at_any_record_leaves_a_run_that_another_one_ends(tmp_path: Path) -> None:
    play("boundaries", tmp_path, timeout=100)
    stores = sorted(tmp_path.glob("cut-*.db"))
    assert len(stores) > 8
    takeovers = 0
    for store in stores:
        found = check(f"sqlite:///{store}")
        assert (found.runs, found.states) == (1, {"completed": 1})
        takeovers += found.takeovers
    assert takeovers > 5
    keys = Counter(key.split("/")[0] for name, key in set(effects(tmp_path)) if name == "charge")
    assert keys == {f"run-{number}": 1 for number in range(1, len(stores) + 1)}
    assert len(effects(tmp_path)) > len(set(effects(tmp_path)))  # some were repeated, under the same key


@pytest.mark.timeout(max(120, CHAOS_S * 3))
def test_a_worker_or_an_api_is_killed_every_second_and_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    said = play("load", tmp_path, str(CHAOS_S), timeout=CHAOS_S * 2 + 60)
    accepted = (tmp_path / "accepted").read_text().split()
    url = f"sqlite:///{tmp_path}/store.db"
    told = tell("SQLite", url, said, audited(url))
    assert min(told["workers killed"], told["APIs killed"]) >= hands.MIN_KILLS
    found = check(url)
    assert found.states == {"completed": len(accepted)}
    assert sorted((tmp_path / "read").read_text().split()) == sorted(accepted)
    assert found.takeovers > 0
    assert found.results == 5 * len(accepted)
    charged = Counter(key.split("/")[0] for name, key in set(effects(tmp_path)) if name == "charge")
    assert charged == dict.fromkeys(accepted, 1)


# --- stopped and stuck


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start worker processes, which end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HANDS), "worker", str(tmp_path), name]
        log = (tmp_path / f"{name}.log").open("w")
        with log:
            started.append(subprocess.Popen(command, stderr=log, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE_S)


@pytest.mark.parametrize("fault", ["stopped", "stuck"])
@pytest.mark.timeout(100)
def test_a_worker_that_comes_back_after_its_lease_is_refused_stops_and_works_on(
    fault: str, tmp_path: Path, worker: Callable[[str], subprocess.Popen[str]]
) -> None:
    flow, step = ("gated", "hold") if fault == "stopped" else ("stuck", "stick")
    url = f"sqlite:///{tmp_path}/store.db"

    async def start(run_id: str) -> None:
        async with open_transport(url) as store:
            await Runs(store, WORKFLOWS).start(flow, b"{}", run_id=run_id)

    async def result(run_id: str) -> bytes:
        async with open_transport(url) as store:
            return await Runs(store, WORKFLOWS).result(run_id, timeout_s=DEADLINE_S)

    def tried(name: str) -> int:
        return [one for one, _ in effects(tmp_path)].count(name)

    async def newest(run_id: str) -> Record:
        async with open_transport(url) as store:
            return decode((await store.read(run_id))[-1]).record

    def begun() -> bool:
        """The step is tried. Who is to be stopped has recorded that too: in mid-commit it would hold up the file."""
        last = anyio.run(newest, "first") if fault == "stopped" else None
        return tried(step) == 1 and (last is None or (isinstance(last, StepStarted) and last.name == step))

    anyio.run(start, "first")
    zombie = worker("zombie")
    wait_until(begun, "the first attempt")
    if fault == "stopped":
        zombie.send_signal(signal.SIGSTOP)
    (tmp_path / "open").touch()
    heir = worker("heir")
    assert anyio.run(result, "first") == b'"through"'
    (tmp_path / "over").touch()
    if fault == "stopped":
        zombie.send_signal(signal.SIGCONT)
    wait_until(lambda: "lease" in (tmp_path / "zombie.log").read_text(), "the zombie's notice")
    assert ended(heir) == 0
    anyio.run(start, "second")
    assert anyio.run(result, "second") == b'"through"'
    assert ended(zombie) == 0
    found = check(url)
    assert (found.takeovers, found.states) == (1, {"completed": 2})
    assert Counter(effects(tmp_path)) == Counter(
        [(step, key) for name, key in set(effects(tmp_path)) if name == step]
        + [(step, next(key for name, key in effects(tmp_path) if name == step))]
        + [("after", key) for name, key in set(effects(tmp_path)) if name == "after"]
    )


# --- backed up


@pytest.mark.timeout(120)
def test_a_copy_made_under_load_has_all_that_was_acknowledged_and_its_runs_go_on(tmp_path: Path) -> None:
    """With `VACUUM INTO`, as the docs say. The copy begins a life of its own: what was under way is taken over."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    copy.mkdir()
    load = subprocess.Popen([sys.executable, str(HANDS), "load", str(live), "60", "calm"], text=True)
    try:
        found: set[str] = set()
        wait_until(lambda: len(effects(live)) > 20, "the load")
        while not {"completed", "running"} <= found:
            (copy / "store.db").unlink(missing_ok=True)
            acknowledged = (live / "accepted").read_text().split()
            with closing(sqlite3.connect(live / "store.db")) as database:
                database.execute("VACUUM INTO ?", (str(copy / "store.db"),))
            with closing(sqlite3.connect(copy / "store.db")) as database:
                rows = database.execute("SELECT run_id, state FROM runs").fetchall()
            found = {state for _, state in rows}
    finally:
        (live / "enough").touch()
        load.wait(DEADLINE_S)
    assert load.returncode == 0
    copied = [run_id for run_id, _ in rows]
    assert set(acknowledged) <= set(copied)
    play("end", copy)
    for folder, states in ((live, len((live / "accepted").read_text().split())), (copy, len(copied))):
        found_there = check(f"sqlite:///{folder}/store.db")
        assert found_there.states == {"completed": states}
    assert found_there.takeovers > 0
    charged = Counter(key.split("/")[0] for name, key in {*effects(live), *effects(copy)} if name == "charge")
    assert set(copied) <= set(charged)
    assert set(charged.values()) == {1}, "a step of the copy was made under another key"


# --- a full disk


async def test_a_disk_that_is_full_for_a_while_delays_runs_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "FOLDER", tmp_path)
    async with open_transport(f"sqlite:///{tmp_path}/store.db") as store:
        assert isinstance(store, SqliteTransport)
        runs = Runs(store, WORKFLOWS)

        async def limit(pages: int) -> None:
            """SQLite's own full disk: it may grow by so many pages."""

            def work(db: sqlite3.Connection) -> None:
                (now,) = db.execute("PRAGMA page_count").fetchone()
                db.execute(f"PRAGMA max_page_count = {now + pages}").fetchone()

            await store._engine.write(work)

        accepted: list[str] = []
        refused: list[str] = []
        async with open_worker(store, WORKFLOWS, settings("w"), RouterConfig(models={})):
            await limit(6)
            with anyio.fail_after(DEADLINE_S):
                while len(refused) < 3:
                    try:
                        run, _ = await runs.start("order", b'{"number": 1}')
                        accepted.append(run.run_id)
                    except StoreUnavailable as error:
                        refused.append(str(error))
                    await anyio.sleep(0.02)
            await anyio.sleep(LEASE_S)
            await limit(100_000)
            for run_id in accepted:
                assert (await runs.wait(run_id, DEADLINE_S)).run.state is RunState.COMPLETED
        found = await audit(store)
    assert all("the disk is full" in one for one in refused)
    assert found.findings == ()
    assert found.states == {"completed": len(accepted)}
    assert found.takeovers > 0  # an append did not fit: its run was given up, and taken up again
    charged = Counter(key.split("/")[0] for name, key in set(effects(tmp_path)) if name == "charge")
    assert charged == dict.fromkeys(accepted, 1)
