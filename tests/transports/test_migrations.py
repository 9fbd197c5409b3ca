"""Files of older versions: brought up to date once, whole or not at all, and the runs in them go on."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from greenroom import Runtime, WorkerSettings
from greenroom.runtime.testing.auditor import audit
from greenroom.transports import (
    Lane,
    NewRun,
    RunFilter,
    RunState,
    StoreUnavailable,
    open_transport,
    sqlite_migrations,
    sqlite_schema,
)
from greenroom.transports.sqlite import SqliteTransport
from greenroom.transports.sqlite_migrations import VERSION

from . import old_runs
from .old_runs import WORKFLOWS, go
from .test_sqlite import PATIENCE_S, PEER, content, entry, leased

OLD = sorted(Path(__file__).parent.glob("schema_*.sql"))


@pytest.fixture(params=OLD, ids=[file.stem for file in OLD])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that an older version wrote, its worker gone."""
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(request.param.read_text(encoding="utf-8"))
    return path


def schema(path: Path) -> tuple[int, list[str]]:
    """The version, and everything that there is."""
    with closing(sqlite3.connect(path)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        found = database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    return version, [" ".join(str(part) for part in row) for row in found]


def test_every_version_before_this_one_has_left_a_file() -> None:
    assert [file.stem for file in OLD] == [f"schema_{version}" for version in range(1, VERSION)]


async def test_the_runs_of_an_older_file_go_on(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    opened = anyio.Event()
    opened.set()
    monkeypatch.setattr(old_runs, "made", made)
    monkeypatch.setattr(old_runs, "hold", opened)
    settings = WorkerSettings(name="new", build="new", lease_s=5.0, park_after_s=0.05)
    runtime = Runtime(*WORKFLOWS, store=f"sqlite:///{old}", settings=settings)
    async with runtime, runtime.worker():
        runs = runtime.runs
        assert await runs.result("ended") == b"3"
        again, is_new = await runs.start("quick", b'{"number": 1}', key="once")
        assert (again.run_id, is_new) == ("ended", False)
        assert (await runs.view("canceled")).run.state is RunState.CANCELED
        await runs.inlets.signal("waits", go.name, b'"go"')
        assert await runs.result("waits", PATIENCE_S) == b'"go 3"'
        assert await runs.result("sleeps", PATIENCE_S) == b"3"
        assert await runs.result("at-work", PATIENCE_S) == b"3"
        red = await runs.list(RunFilter(tag="red"))
        assert [run.run_id for run in red.runs] == ["waits", "ended"]
        assert [run.run_id for run in (await runs.list(RunFilter(tenant="t"))).runs] == ["ended"]
        found = await audit(runs.transport)
    assert (found.findings, found.states) == ((), {"completed": 4, "canceled": 1})
    assert found.takeovers == 1
    assert sorted(key.split("/")[0] for key in made) == ["at-work", "sleeps", "waits"], "a recorded step was made again"


async def test_an_older_file_and_a_new_one_end_up_alike(
    old: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = tmp_path / "new.db"
    for path in (new, old):
        async with open_transport(f"sqlite:///{path}"):
            pass
    assert schema(old) == schema(new)
    assert schema(new)[0] == VERSION
    assert [record.message for record in caplog.records if str(new) in record.message] == []
    assert [record.message for record in caplog.records if str(old) in record.message][-1:] == [
        f"{old} is brought from schema {VERSION - 1} to {VERSION}: older versions refuse it"
    ]


@pytest.mark.slow
def test_processes_that_open_an_older_file_at_once_migrate_it_once(old: Path) -> None:
    (before, _) = schema(old)
    command = [sys.executable, str(PEER), f"sqlite:///{old}", "opens"]
    pipe = subprocess.PIPE
    peers = [
        subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, stderr=pipe, text=True) for name in ("a", "b", "c")
    ]
    try:
        for peer in peers:
            assert peer.stdin is not None
            peer.stdin.write("go\n")
            peer.stdin.flush()
        said = [peer.communicate(timeout=PATIENCE_S) for peer in peers]
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
    assert [out.split() for out, _ in said] == [["open"]] * 3, said
    assert "".join(err for _, err in said).count("is brought from schema") == VERSION - before
    assert schema(old)[0] == VERSION


async def test_a_migration_that_fails_leaves_the_file_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_transport(f"sqlite:///{old}"):
        pass
    before = schema(old)
    broken = (*sqlite_migrations.MIGRATIONS, "CREATE TABLE half (x); CREATE TABLE runs (x)")
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", broken)
    monkeypatch.setattr(sqlite_schema, "VERSION", len(broken))
    with pytest.raises(StoreUnavailable, match="table runs already exists"):
        async with open_transport(f"sqlite:///{old}"):
            pass
    assert schema(old) == before


async def test_a_newer_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_transport(f"sqlite:///{path}"):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = content(path)
    with pytest.raises(StoreUnavailable) as refused:
        async with open_transport(f"sqlite:///{path}"):
            pass
    assert str(refused.value) == (
        f"{path} has schema {VERSION + 1}, and this greenroom knows up to {VERSION}: "
        "upgrade greenroom, or name another file"
    )
    assert content(path) == before


async def test_control_records_and_runs_of_a_tenant_are_found_without_looking_at_the_others(tmp_path: Path) -> None:
    async with open_transport(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        assert isinstance(store, SqliteTransport)

        async def cost(read: Callable[[], Awaitable[object]]) -> int:
            """How many instructions SQLite's machine takes for it."""
            count = itertools.count()

            def tick() -> int:
                next(count)
                return 0

            await store._engine.read(lambda db: db.set_progress_handler(tick, 1))
            await read()
            await store._engine.read(lambda db: db.set_progress_handler(None, 1))
            return next(count)

        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: store.read("r", control=True),
            lambda: store.runs(RunFilter(tenant="t")),
            lambda: store.runs(RunFilter(tenant="t", workflow="r")),
        ]
        await store.create(NewRun(run_id="t", lane=Lane(workflow="r", tenant="t"), entries=(entry(),)))
        lease = await leased(store, "r")
        await store.post("r", [entry()])
        before = [await cost(read) for read in reads]
        await store.append(lease, [entry()] * 2000)
        for n in range(200):
            await store.create(NewRun(run_id=f"r{n}", lane=Lane(workflow="r"), entries=(entry(),)))
        after = [await cost(read) for read in reads]
        assert [stored.seq for stored in await store.read("r", control=True)] == [2]
        assert [run.run_id for run in (await store.runs(RunFilter(tenant="t"))).runs] == ["t"]
    assert after == before
