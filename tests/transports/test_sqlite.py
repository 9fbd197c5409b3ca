"""The SQLite transport: the conformance suite, then what is SQLite's own: processes, crashes, full disks, bad files."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from greenroom.runtime.testing import TransportSuite
from greenroom.transports import (
    READY,
    Append,
    Bound,
    ControlPending,
    Draw,
    Entry,
    Fenced,
    Finish,
    HandOver,
    Lane,
    Lease,
    NewRun,
    RunFilter,
    RunState,
    StoreUnavailable,
    Terms,
    Transport,
    log_topic,
    open_transport,
    sqlite_engine,
)
from greenroom.transports.sqlite import SqliteTransport
from greenroom.transports.sqlite_rows import MOST

PEER = Path(__file__).with_name("peer.py")
PATIENCE_S = 30.0


class TestSqlite(TransportSuite):
    examples = 20

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        return open_transport(f"sqlite:///{folder / 'runs.db'}", clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteTransport]:
    async with open_transport(f"sqlite:///{path}") as store:
        assert isinstance(store, SqliteTransport)
        yield store


def entry(body: bytes = b"") -> Entry:
    return Entry("k", body)


async def leased(store: Transport, run_id: str) -> Lease:
    await store.create(NewRun(run_id=run_id, lane=Lane(workflow=run_id), entries=(entry(),)))
    (claim,) = await store.claim("worker", dict.fromkeys([run_id], Terms()), limit=1, lease_s=60)
    return claim.lease


async def refusal(url: str | Path) -> str:
    """What a store that cannot be opened says; always one line."""
    with pytest.raises(StoreUnavailable) as refused:
        async with open_transport(url if isinstance(url, str) else f"sqlite:///{url}"):
            pass
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    text = str(refused.value)
    assert "\n" not in text
    return text


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that is in the middle of writing to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


def content(path: Path) -> bytes:
    return path.read_bytes()


# --- several processes


@contextmanager
def peers(path: Path, command: str, *runs: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready, and begin together."""
    with ExitStack() as stack:
        found = []
        for run in runs:
            args = [sys.executable, str(PEER), f"sqlite:///{path}", command, run]
            peer = stack.enter_context(
                subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            stack.callback(peer.kill)
            found.append(peer)
        for peer in found:
            assert peer.stdin is not None
            peer.stdin.write("go\n")
        yield found


def said(peer: subprocess.Popen[str]) -> list[str]:
    out, _ = peer.communicate(timeout=PATIENCE_S)
    assert peer.returncode == 0
    return out.split()


@pytest.mark.slow
def test_processes_that_make_the_file_at_once_all_open_it(path: Path) -> None:
    with peers(path, "opens", "a", "b", "c", "d") as found:
        assert [said(peer) for peer in found] == [["open"]] * 4


async def test_opening_waits_for_another_process_that_makes_the_file(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.05, other.execute, ["ROLLBACK"])
        done.start()
        async with open_transport(f"sqlite:///{path}") as store:
            assert (await store.runs(RunFilter())).runs == ()
        done.join()


@pytest.mark.slow
def test_processes_that_append_at_once_keep_every_log_dense(path: Path) -> None:
    runs = ["a", "b", "c"]
    with peers(path, "appends", *runs) as found:
        assert [said(peer) for peer in found] == [[str(seq) for seq in range(2, 102)]] * 3

    async def check() -> None:
        async with open_transport(f"sqlite:///{path}") as store:
            for run in runs:
                assert [stored.seq for stored in await store.read(run)] == list(range(1, 102))

    asyncio.run(check())
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_processes_that_claim_at_once_get_each_run_once(path: Path) -> None:
    async def prepare() -> None:
        async with open_transport(f"sqlite:///{path}") as store, anyio.create_task_group() as group:
            for n in range(60):
                group.start_soon(store.create, NewRun(run_id=f"r{n}", lane=Lane(workflow="w"), entries=(entry(),)))

    asyncio.run(prepare())
    with peers(path, "claims", "a", "b", "c") as found:
        won = [run for peer in found for run in said(peer)]
    assert sorted(won) == sorted(f"r{n}" for n in range(60))


@pytest.mark.slow
def test_kill_9_of_a_writer_loses_nothing_acknowledged(path: Path) -> None:
    for n, lines in enumerate((1, 40, 200)):
        run = f"endless{n}"
        with peers(path, "appends", run) as (peer,):
            assert peer.stdout is not None
            acknowledged = [int(peer.stdout.readline()) for _ in range(lines)]
            peer.kill()
            acknowledged += [int(line) for line in peer.stdout if line.endswith("\n")]
        assert acknowledged == list(range(2, len(acknowledged) + 2))
        asyncio.run(check_takeover(path, run, acknowledged[-1]))


async def check_takeover(path: Path, run: str, acknowledged: int) -> None:
    """The log has all that was acknowledged and at most the append that was under way; another worker goes on."""
    async with open_transport(f"sqlite:///{path}", clock=lambda: time.time() + 60) as store:
        log = await store.read(run, limit=100_000)
        assert [stored.seq for stored in log] == list(range(1, len(log) + 1))
        assert acknowledged <= len(log) <= acknowledged + 1
        assert [stored.body for stored in log[1:]] == [f"{n}".encode() * 50 for n in range(len(log) - 1)]
        claims = await store.claim("survivor", dict.fromkeys([run], Terms()), limit=1, lease_s=60)
        assert claims[0].lease.fence == 2
        assert (await store.append(claims[0].lease, [entry()])).seq == len(log) + 1


@pytest.mark.slow
async def test_another_process_wakes_who_watches_here(store: SqliteTransport, path: Path) -> None:
    async with store.watch(log_topic("theirs")) as theirs, store.watch(log_topic("nobody's")) as nobodys:
        with peers(path, "creates", "theirs") as (peer,):
            assert await theirs.wait(PATIENCE_S)
            assert [stored.seq for stored in await store.read("theirs")] == [1]
            assert not await nobodys.wait(0)
            assert said(peer) == ["created"]


@pytest.mark.slow
async def test_a_reader_follows_another_process_without_gap(store: SqliteTransport, path: Path) -> None:
    seqs: list[int] = []
    async with store.watch(log_topic("theirs")) as watch:
        with peers(path, "appends", "theirs") as (peer,), anyio.fail_after(PATIENCE_S):
            assert await watch.wait(PATIENCE_S)
            while len(seqs) < 101:
                page = await store.read("theirs", len(seqs))
                seqs += [stored.seq for stored in page]
                if not page:
                    await watch.wait(5)
            assert len(said(peer)) == 100
    assert seqs == list(range(1, 102))


@pytest.mark.slow
async def test_a_process_that_always_has_more_to_write_lets_others_write(store: SqliteTransport, path: Path) -> None:
    """While a creation waits here, it makes a few commits, and not tens."""

    async def commits() -> float:
        return sum([(await store.run(f"flood-{number}")).seq for number in range(8)]) / 160

    waited: list[float] = []
    async with store.watch(log_topic("flood-0")) as watch:
        with peers(path, "floods", "flood") as (peer,), anyio.fail_after(PATIENCE_S):
            assert peer.stdout is not None
            for _ in range(8):
                await anyio.to_thread.run_sync(peer.stdout.readline)
            for number in range(50):
                await watch.wait(1)
                await watch.wait(1)
                before = await commits()
                await store.create(NewRun(run_id=f"r{number}", lane=Lane(workflow="w"), entries=(entry(),)))
                waited.append(await commits() - before)
            peer.kill()
    assert max(waited) < 20


def write_elsewhere(path: Path, key: str) -> None:
    """As another process does."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO cache VALUES (?, x'00', 0)", (key,))
        other.commit()


async def test_an_own_append_is_hinted_once(store: SqliteTransport, path: Path) -> None:
    lease = await leased(store, "r")
    async with store.watch(log_topic("r")) as watch:
        await store.append(lease, [entry()])
        assert await watch.wait(PATIENCE_S)
        assert not await watch.wait(sqlite_engine.POLL_S * 5)
        write_elsewhere(path, "a")
        await store.forget_worker("any write looks")
        assert not await watch.wait(sqlite_engine.POLL_S * 5)


async def test_draws_and_heartbeats_of_another_process_wake_no_claimer(path: Path) -> None:
    """They are many, and make no run claimable; a record of it may."""
    url = f"sqlite:///{path}"
    async with open_transport(url) as here, open_transport(url) as there, here.watch(READY) as watch:
        await there.draw("w", [Draw(reservoir="r", bounds={"places": Bound(limit=1)})], lease_s=1)
        await here.forget_worker("any write looks")
        assert not await watch.wait(sqlite_engine.POLL_S * 5)
        await there.create(NewRun(run_id="r", lane=Lane(workflow="w"), entries=(entry(),)))
        assert await watch.wait(PATIENCE_S)


async def test_an_old_build_is_warned_of_when_a_second_process_writes(
    store: SqliteTransport, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_engine, "WAL_RESET_BUG", "upgrade")
    with caplog.at_level(logging.WARNING, "greenroom.sqlite"):
        await leased(store, "r")
        assert caplog.messages == []
        for user in ("a", "b"):
            write_elsewhere(path, user)
            await store.forget_worker("any write looks")
    assert caplog.messages == [f"{path} is written to by several processes: upgrade"]


# --- group commit


async def test_many_appends_share_few_commits(store: SqliteTransport) -> None:
    leases = [await leased(store, f"r{n}") for n in range(50)]
    before = store.statistics()
    async with anyio.create_task_group() as group:
        for n in range(500):
            group.start_soon(store.append, leases[n % 50], [entry()])
    after = store.statistics()
    assert after.operations - before.operations == 500
    assert after.commits - before.commits <= 50
    assert [run.seq for run in (await store.runs(RunFilter())).runs] == [11] * 50


async def test_every_commit_is_synced(store: SqliteTransport) -> None:
    def work(db: sqlite3.Connection) -> list[object]:
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]

    assert await store._engine.write(work) == [2, "wal"]


async def test_an_operation_that_breaks_leaves_its_neighbours_alone(store: SqliteTransport, path: Path) -> None:
    broken: list[Exception] = []

    async def create(run_id: str) -> None:
        try:
            await store.create(NewRun(run_id=run_id, lane=Lane(workflow="w"), entries=(entry(),)))
        except UnicodeEncodeError as error:
            broken.append(error)

    with locked(path) as other:
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "\ud800", "c"):
                group.start_soon(create, name)
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
    assert len(broken) == 1
    assert sorted(run.run_id for run in (await store.runs(RunFilter())).runs) == ["a", "b", "c"]
    with pytest.raises(UnicodeEncodeError):
        await store.read("\ud800")
    assert (await store.run("a")).seq == 1


async def test_an_append_whose_transaction_breaks_is_counted_once(store: SqliteTransport, path: Path) -> None:
    lease = await leased(store, "r")

    async def break_it() -> None:
        with pytest.raises(UnicodeEncodeError):
            await store.create(NewRun(run_id="\ud800", lane=Lane(workflow="w"), entries=(entry(),)))

    with locked(path) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, lease, [entry(), entry()])
            group.start_soon(break_it)
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
    await store.append(lease, [entry()])
    assert [record.seq for record in await store.read("r")] == [1, 2, 3, 4]
    assert (await store.run("r")).seq == 4


# --- appends


async def test_what_another_process_wrote_is_heeded_by_the_next_append(path: Path) -> None:
    now = 1000.0
    url = f"sqlite:///{path}"
    async with open_transport(url, clock=lambda: now) as here, open_transport(url, clock=lambda: now) as there:
        lease = await leased(here, "r")
        assert (await here.append(lease, [entry()], seen=0)).seq == 2
        await there.post("r", [entry()])
        with pytest.raises(ControlPending):
            await here.append(lease, [entry()], seen=0)
        assert (await here.append(lease, [entry()], seen=3)).seq == 4
        now += 61.0
        (claim,) = await there.claim("other", {"r": Terms()}, limit=1, lease_s=60)
        with pytest.raises(Fenced):
            await here.append(lease, [entry()], seen=3)
        await there.append(claim.lease, [entry()], HandOver(), seen=3)
        (again,) = await here.claim("worker", {"r": Terms()}, limit=1, lease_s=60)
        assert (await here.append(again.lease, [entry()], seen=3)).seq == 6
        with pytest.raises(Fenced):
            await there.append(claim.lease, [entry()], seen=3)


async def test_the_appends_of_many_runs_are_one_statement(store: SqliteTransport) -> None:
    leases = [await leased(store, f"r{n}") for n in range(30)]
    appends = [Append(lease, [entry(), entry()], None, 0) for lease in leases[1:]]
    appends.append(Append(leases[0], [entry()], Finish(RunState.COMPLETED), 0))
    said: list[str] = []
    await store._engine.write(lambda db: db.set_trace_callback(said.append))
    assert await store.append_all(appends) == [None] * 30
    before, after = (said.index(word) for word in ("COMMIT", next(sql for sql in said if sql.startswith("INSERT"))))
    await store._engine.write(lambda db: db.set_trace_callback(None))
    spoken = [sql for sql in said[before + 1 : after + 1] if not sql.startswith("--") and sql != sqlite_engine.STATE]
    assert [sql.partition(" (")[0] for sql in spoken] == ["INSERT INTO appends"]
    assert {run.seq for run in (await store.runs(RunFilter(state=RunState.RUNNING))).runs} == {3}
    assert [run.seq for run in (await store.runs(RunFilter(state=RunState.COMPLETED))).runs] == [2]


async def test_an_append_that_breaks_leaves_the_store_and_its_neighbours_alone(store: SqliteTransport) -> None:
    """As by what no text can be: it is the caller's error, and the writing thread outlives it."""
    lease = await leased(store, "r")
    broken = Append(Lease(run_id="\ud800", owner="worker", fence=1), [entry()], None, 0)
    told = await asyncio.gather(
        store.append_all([broken]), store.append_all([Append(lease, [entry()], None, 0)]), return_exceptions=True
    )
    assert isinstance(told[0], UnicodeEncodeError)
    assert told[1] == [None]
    assert (await store.append(lease, [entry()])).seq == 3


@pytest.mark.parametrize("many", [MOST - 1, MOST + 1, 2 * MOST + 3])
async def test_appends_of_more_rows_than_one_statement_takes_are_whole(store: SqliteTransport, many: int) -> None:
    leases = [await leased(store, f"r{n}") for n in range(3)]
    await store.post("r2", [entry()])
    appends = [
        Append(leases[0], [entry(b"%d" % n) for n in range(many)], None, 0),
        Append(leases[1], [entry()], Finish(RunState.FAILED), 0),
        Append(leases[2], [entry()], None, 0),
    ]
    first, second, third = await store.append_all(appends)
    assert (first, second, type(third)) == (None, None, ControlPending)
    assert [run.seq for run in (await store.runs(RunFilter())).runs] == [2, 2, many + 1]
    page = await store.read("r0", 1, many)
    assert [(stored.seq, stored.body) for stored in page] == [(n + 2, entry(b"%d" % n).body) for n in range(many)]


async def test_a_crowd_is_answered_one_by_one_where_not_all_may_append(store: SqliteTransport) -> None:
    leases = [await leased(store, f"r{n}") for n in range(4)]
    await store.post("r2", [entry()])
    for _ in range(2):
        answers = await asyncio.gather(*(store.may_append(lease, seen=0) for lease in leases))
        assert answers == [True, True, False, True]
    await store.append(leases[3], [entry()], Finish(RunState.COMPLETED))
    seen = (0, 0, 2, 0)
    answers = await asyncio.gather(*(store.may_append(lease, seen=n) for lease, n in zip(leases, seen, strict=True)))
    assert answers == [True, True, True, False]


# --- cancellation, closing


async def test_a_write_that_is_canceled_in_the_queue_still_happens_whole(store: SqliteTransport, path: Path) -> None:
    lease = await leased(store, "r")
    with locked(path) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, lease, [entry(), entry()])
            await asyncio.sleep(0)
            group.cancel_scope.cancel()
        other.execute("ROLLBACK")
    assert (await store.append(lease, [entry()])).seq == 4
    assert len(await store.read("r")) == 4


async def test_closing_answers_every_write_under_way(path: Path) -> None:
    answers: list[int] = []
    async with anyio.create_task_group() as group, open_transport(f"sqlite:///{path}") as store:
        lease = await leased(store, "r")

        async def append() -> None:
            answers.append((await store.append(lease, [entry()])).seq)

        with locked(path) as other:
            for _ in range(20):
                group.start_soon(append)
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
    assert sorted(answers) == list(range(2, 22))
    async with open_transport(f"sqlite:///{path}") as store:
        assert (await store.run("r")).seq == 21


async def test_closing_does_not_stop_the_event_loop(path: Path) -> None:
    async with anyio.create_task_group() as group:
        with closing(sqlite3.connect(path, isolation_level=None)) as lock:
            async with open_transport(f"sqlite:///{path}") as store:
                lease = await leased(store, "r")
                lock.execute("BEGIN IMMEDIATE")
                group.start_soon(store.append, lease, [entry()])
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(lock.execute, "ROLLBACK")
    async with open_transport(f"sqlite:///{path}") as store:
        assert (await store.run("r")).seq == 2


async def test_a_closed_store_says_so(path: Path) -> None:
    async with open_transport(f"sqlite:///{path}") as store:
        pass
    for call in (store.run("r"), store.forget_worker("w")):
        with pytest.raises(StoreUnavailable, match="was closed by this process"):
            await call


async def test_the_last_to_close_leaves_one_file(path: Path) -> None:
    async with open_transport(f"sqlite:///{path}") as store:
        await leased(store, "r")
        assert path.with_name("runs.db-wal").exists()
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


async def test_the_writing_connection_is_closed_last_and_alone(path: Path) -> None:
    """Two that close at once each leave it to the other to write the log back, and then nobody does."""
    writes: list[bool] = []
    async with anyio.create_task_group() as group, open_transport(f"sqlite:///{path}") as store:
        assert isinstance(store, SqliteTransport)
        await leased(store, "r")
        writer = next(thread for thread in store._engine._threads if "writer" in thread.name)

        def read(_: sqlite3.Connection) -> None:
            writer.join(0.2)
            writes.append(writer.is_alive())

        group.start_soon(store._engine.read, read)
        await asyncio.sleep(0)
    assert writes == [True]
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


async def test_reading_leaves_no_reader_open_that_would_let_the_wal_grow(store: SqliteTransport, path: Path) -> None:
    lease = await leased(store, "r")
    await store.append(lease, [entry(bytes(100_000))] * 20)
    await store.read("r", limit=1)
    await store.runs(RunFilter(), limit=1)
    with closing(sqlite3.connect(path)) as other:
        (busy, _, _) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert path.with_name("runs.db-wal").stat().st_size == 0


# --- errors at the edge


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    text = await refusal(tmp_path / "no" / "runs.db")
    assert text == f"the folder {tmp_path / 'no'} of the database does not exist: make it, or name another file"
    assert not (tmp_path / "no").exists()


async def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    assert await refusal(tmp_path) == f"{tmp_path} is a folder: name a file for the database"


async def test_a_database_in_memory_is_refused() -> None:
    assert "use memory://" in await refusal("sqlite:///:memory:")


@pytest.mark.parametrize(
    "before", [b"not a database, but long enough to be one" * 50, b"SQLite format 3\0" + b"\xff" * 4096]
)
async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path, before: bytes) -> None:
    await anyio.Path(path).write_bytes(before)
    assert await refusal(path) == f"{path} is not a SQLite database: name another file, or move this one away"
    assert content(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


async def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = content(path)
    assert await refusal(path) == f"{path} is another program's database: name another file"
    assert content(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


async def test_a_damaged_file_is_said_to_be(path: Path) -> None:
    async with open_transport(f"sqlite:///{path}") as store:
        await leased(store, "r")
    whole = content(path)
    await anyio.Path(path).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    text = await refusal(path)
    assert text == (
        f"{path} cannot be used (database disk image is malformed): check the file with 'PRAGMA integrity_check'"
    )


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder, and the rights of somebody who is not root: root may write to anything."""
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            Path(folder).chmod(0o777)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("mode", [0o444, 0o000])
async def test_a_file_without_permission_is_named(mode: int) -> None:
    with nobody() as folder:
        path = folder / "runs.db"
        async with open_transport(f"sqlite:///{path}"):
            pass
        path.chmod(mode)
        text = await refusal(path)
        assert text.startswith(f"{path} cannot be opened for writing (")
        assert text.endswith("): check its permissions and those of its folder")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
async def test_a_folder_without_permission_is_named() -> None:
    with nobody() as folder:
        folder.chmod(0o555)
        assert "check its permissions and those of its folder" in await refusal(folder / "runs.db")


async def test_a_file_that_stays_locked_is_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_S", 0.05)
    async with open_transport(f"sqlite:///{path}") as store:
        lease = await leased(store, "r")
        with locked(path):
            with pytest.raises(StoreUnavailable, match=r"is locked by another process .*: end the program"):
                await store.append(lease, [entry()])
            assert (await store.run("r")).seq == 1
        assert (await store.append(lease, [entry()])).seq == 2


async def test_a_full_disk_refuses_what_does_not_fit_and_harms_nothing(store: SqliteTransport) -> None:
    lease = await leased(store, "r")
    full: list[str] = []

    async def append(body: bytes) -> None:
        try:
            await store.append(lease, [entry(b"small"), entry(body)])
        except StoreUnavailable as error:
            full.append(str(error))

    await store._engine.write(limit_pages(20))
    async with anyio.create_task_group() as group:
        for size in (10, 1_000_000, 10, 1_000_000):
            group.start_soon(append, bytes(size))
    assert len(full) == 2
    assert "cannot grow, the disk is full (database or disk is full): free some space; nothing was" in full[0]
    assert [len(stored.body) for stored in await store.read("r")] == [0, 5, 10, 5, 10]
    assert (await store.run("r")).seq == 5
    await store._engine.write(limit_pages(100_000))
    await append(bytes(1_000_000))
    assert (await store.run("r")).seq == 7


def limit_pages(pages: int) -> Callable[[sqlite3.Connection], None]:
    """SQLite's own full disk: the same error, from the same place."""

    def work(db: sqlite3.Connection) -> None:
        (now,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {now + pages}").fetchone()

    return work
