"""The Redis transport: the conformance suite, alone and on a cluster; then what is Redis's own: lost answers, restarts,
full memory, users, TLS, sentinels."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

import greenroom.transports.redis
from greenroom import Runtime, component, workflow
from greenroom.runtime.errors import CursorAhead
from greenroom.runtime.runs import Runs
from greenroom.runtime.testing import TransportSuite
from greenroom.transports import (
    Append,
    Bound,
    ControlPending,
    Draw,
    Entry,
    Fenced,
    Finish,
    Grant,
    HandOver,
    Lane,
    Lease,
    Need,
    NewRun,
    Park,
    Run,
    RunFilter,
    RunState,
    StoreUnavailable,
    Terms,
    Transition,
    Transport,
    control_topic,
    log_topic,
    open_transport,
    redis_rows,
    redis_schema,
    redis_scripts,
)
from greenroom.transports.redis import RedisTransport
from greenroom.transports.redis_checkup import checkup
from greenroom.transports.redis_line import BATCH, BATCH_BYTES
from greenroom.transports.redis_schema import migrating
from greenroom.transports.redis_scripts import Script

from .valkey import PATIENCE_S, Node, caught_up, cluster, fail_over, follow, node, primary_of, proxy, until

PEER = Path(__file__).with_name("peer.py")
SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def prefix(folder: Path) -> str:
    """A store of its own for every test on the module's server."""
    return f"prefix={hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


class TestRedis(TransportSuite):
    examples = 20

    @pytest.fixture(autouse=True)
    def at(self, server: Node) -> None:
        self.url = server.url

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        return open_transport(f"{self.url}?{prefix(folder)}", clock=clock)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


class TestCluster(TransportSuite):
    examples = 5

    @pytest.fixture(autouse=True)
    def at(self, three: list[Node]) -> None:
        self.url = cluster_url(three)

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        return open_transport(f"{self.url}?{prefix(folder)}", clock=clock)


def cluster_url(nodes: list[Node]) -> str:
    return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in nodes)}"


@pytest.fixture
def url(server: Node, tmp_path: Path) -> str:
    return f"{server.url}?{prefix(tmp_path)}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Node]:
    """A server of the test's own, with every write on disk before its answer."""
    with node(tmp_path / "own", "--appendonly", "yes", "--appendfsync", "always", "--save", "") as own:
        yield own


def entry(body: bytes = b"", kind: str = "k") -> Entry:
    return Entry(kind, body)


def new(run_id: str, workflow: str = "w", key: str | None = None) -> NewRun:
    return NewRun(run_id=run_id, lane=Lane(workflow=workflow), entries=(entry(),), key=key)


async def leased(store: Transport, run_id: str) -> Lease:
    await store.create(new(run_id, run_id))
    (claim,) = await store.claim("worker", {run_id: Terms()}, limit=1, lease_s=60)
    return claim.lease


async def refusal(url: str) -> str:
    """What a store that cannot be opened says; always one line, never with the password."""
    with pytest.raises(StoreUnavailable) as refused:
        async with open_transport(url):
            pass
    text = str(refused.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


# --- answers that are lost


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
async def test_what_was_sent_once_happens_once_when_the_connection_is_cut(server: Node, url: str, where: str) -> None:
    """Whether it is cut before the server has it, or after the server did it."""
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:

        async def cut(at: bytes) -> None:
            setattr(between, where, at)

        await cut(b"CUT-CREATE")
        run, is_new = await store.create(
            NewRun(run_id="r", lane=Lane(workflow="w"), entries=(entry(b"CUT-CREATE"),), key="k", digest="d")
        )
        assert (run.run_id, run.seq, is_new) == ("r", 1, True)
        await cut(b"worker#")
        (claim,) = await store.claim("worker", {"w": Terms()}, limit=1, lease_s=60)
        assert claim.lease.fence == 1
        assert await store.claim("worker", {"w": Terms()}, limit=1, lease_s=60) == []
        await cut(b"CUT-APPEND")
        assert (await store.append(claim.lease, [entry(b"CUT-APPEND"), entry(b"2")])).seq == 3
        await cut(b"CUT-POST")
        assert (await store.post("r", [entry(b"CUT-POST")])).seq == 4
        await cut(b"hand over")
        assert (await store.append(claim.lease, [], HandOver())).state is RunState.QUEUED
        assert between.cuts == 5
        assert [stored.body for stored in await store.read("r")] == [b"CUT-CREATE", b"CUT-APPEND", b"2", b"CUT-POST"]
        assert len(await store.read("r", control=True)) == 1
        (again,) = await store.claim("worker", {"w": Terms()}, limit=1, lease_s=60)
        assert again.lease.fence == 2


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
async def test_a_cut_batch_of_many_callers_is_done_once(server: Node, url: str, where: str) -> None:
    """Those of the batch that were done and those that were not."""
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:
        leases = [await leased(store, f"r{n}") for n in range(10)]
        setattr(between, where, b"body 7")

        async def append(lease: Lease) -> None:
            for n in range(10):
                await store.append(lease, [entry(f"body {n}".encode())])

        async with anyio.create_task_group() as group:
            for lease in leases:
                group.start_soon(append, lease)
        assert between.cuts == 1
        for lease in leases:
            bodies = [stored.body for stored in await store.read(lease.run_id, 1)]
            assert bodies == [f"body {n}".encode() for n in range(10)]


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
async def test_a_cut_append_of_many_runs_is_done_once(server: Node, url: str, where: str) -> None:
    """And what each of them is told is what it would have been told at first."""
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:
        leases = [await leased(store, f"r{n}") for n in range(6)]
        await store.append(leases[0], [], HandOver())
        await store.post("r1", [entry()])
        setattr(between, where, b"CUT-ALL")
        ends: list[Transition | None] = [None, None, None, HandOver(), Finish(RunState.COMPLETED), Park(None, "w", 0)]
        refusals = await store.append_all(
            [Append(lease, [entry(b"CUT-ALL"), entry()], to, 0) for lease, to in zip(leases, ends, strict=True)]
        )
        assert between.cuts == 1
        assert [type(refusal) for refusal in refusals] == [Fenced, ControlPending, *[type(None)] * 4]
        runs = [await store.run(lease.run_id) for lease in leases]
        assert [run.seq for run in runs] == [1, 2, 3, 3, 3, 3]
        assert [run.state.value for run in runs[2:]] == ["running", "queued", "completed", "waiting"]
        assert [len(await store.read(run.run_id)) for run in runs] == [run.seq for run in runs]


@pytest.mark.parametrize("where", ["cut_before", "cut_after"])
async def test_a_draw_whose_answer_was_lost_is_done_once(server: Node, url: str, where: str) -> None:
    """What was spent and given back is counted once, and what was got is told."""
    bounds = {"tokens": Bound(limit=100, window_s=60)}
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:

        async def draw(**need: Any) -> Grant:
            needs = {"tokens": Need(**need)}
            (grant,) = await store.draw("CUT-DRAW", [Draw(reservoir="r", bounds=bounds, needs=needs)], lease_s=60)
            return grant

        told = await draw(spent=60)
        setattr(between, where, b"CUT-DRAW")
        grant = await draw(spent=10, back=((told.at, 5.0),), least=1, want=20)
        assert between.cuts == 1
        assert (grant.got, grant.room) == ({"tokens": 20}, {"tokens": 15})
        assert (await draw(keep=20)).room == {"tokens": 15}


async def test_a_refusal_whose_answer_was_lost_is_a_refusal(server: Node, url: str) -> None:
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:
        lease = await leased(store, "r")
        await store.append(lease, [], HandOver())
        between.cut_after = b"CUT"
        with pytest.raises(Fenced):
            await store.append(lease, [entry(b"CUT")])
        assert between.cuts == 1
        assert len(await store.read("r")) == 1


async def test_a_cut_subscription_is_taken_up_again_and_everybody_is_hinted(server: Node, url: str) -> None:
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:
        lease = await leased(store, "r")
        async with store.watch(log_topic("r")) as watch:
            between.cut_before = b"SSUBSCRIBE"
            async with store.watch(log_topic("other")):
                assert await watch.wait(PATIENCE_S)
            assert between.cuts == 1
            await store.append(lease, [entry()])
            assert await watch.wait(PATIENCE_S)


async def test_appends_of_many_callers_share_round_trips(url: str) -> None:
    async with open_transport(url) as store:
        assert isinstance(store, RedisTransport)
        lease = await leased(store, "r")
        before = store.statistics()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(store.append, lease, [entry()])
        after = store.statistics()
        assert after.calls - before.calls == 100
        assert after.batches - before.batches <= 5
        assert after.connections == 1


async def test_a_batch_is_small_so_that_others_have_their_turn(url: str) -> None:
    """The server answers all of what it has read from one process before it hears another one."""
    async with open_transport(url) as store:
        assert isinstance(store, RedisTransport)
        leases = [await leased(store, f"r{n}") for n in range(100)]
        before = store.statistics()
        async with anyio.create_task_group() as group:
            for lease in leases:
                group.start_soon(store.append, lease, [entry(b"x" * 1000)])
        after = store.statistics()
        assert after.calls - before.calls == 100
        assert 100_000 // BATCH_BYTES <= after.batches - before.batches <= 40


async def test_appends_of_many_runs_are_one_call(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one script may make: the server does nothing else meanwhile."""
    async with open_transport(url) as store:
        assert isinstance(store, RedisTransport)
        appends = [Append(await leased(store, f"r{n}"), [entry(b"%d" % n)] * n) for n in range(1, 31)]
        for portion, weight, calls in ((30, 10**6, 1), (7, 10**6, 5), (30, 100, 8)):
            monkeypatch.setattr(redis_rows, "PORTION", portion)
            monkeypatch.setattr(redis_rows, "PORTION_BYTES", weight)
            before = store.statistics().calls
            assert await store.append_all(appends) == [None] * 30
            assert store.statistics().calls - before == calls
        for n, append in enumerate(appends, 1):
            bodies = [stored.body for stored in await store.read(append.lease.run_id, 1)]
            assert bodies == [b"%d" % n] * 3 * n


async def test_questions_of_many_callers_are_one_call(server: Node, url: str) -> None:
    """Each hears of its own run; one that goes away spoils nothing, nor does a connection that breaks."""
    async with proxy(server.port) as between, open_transport(url.replace(str(server.port), str(between.port))) as store:
        assert isinstance(store, RedisTransport)
        leases = [await leased(store, f"r{n}") for n in range(20)]
        await store.append(leases[3], [], HandOver())
        await store.post("r5", [entry()])
        for cut, calls in ((b"", 1), (b"worker#", 1)):
            between.cut_after = cut
            before = store._reads.statistics()
            answers: dict[int, bool] = {}

            async def ask(n: int, scope: anyio.CancelScope, into: dict[int, bool] = answers) -> None:
                with scope:
                    into[n] = await store.may_append(leases[n], seen=0)

            async with anyio.create_task_group() as group:
                scopes = [anyio.CancelScope() for _ in leases]
                for n, scope in enumerate(scopes):
                    group.start_soon(ask, n, scope)
                await asyncio.sleep(0)  # all have asked, nobody has an answer
                scopes[7].cancel()
            assert answers == {n: n not in (3, 5) for n in range(20) if n != 7}
            assert store._reads.statistics().calls - before.calls == calls
        assert between.cuts == 1


# --- servers that go and come


@pytest.mark.slow
async def test_kill_9_of_the_server_loses_nothing_acknowledged(own: Node) -> None:
    """And whoever was at work goes on when it is back."""
    async with open_transport(own.url) as store:
        assert "loss of power" in store.durability
        leases = [await leased(store, f"r{n}") for n in range(5)]
        counts = dict.fromkeys(range(5), 1)
        enough = anyio.Event()

        async def append(n: int) -> None:
            for m in range(200):
                assert (await store.append(leases[n], [entry(str(m).encode())])).seq == m + 2
                counts[n] = m + 2
                if sum(counts.values()) > 200:
                    enough.set()

        async def strike() -> None:
            await enough.wait()
            await anyio.to_thread.run_sync(own.kill)
            await anyio.to_thread.run_sync(own.start)

        async with anyio.create_task_group() as group:
            group.start_soon(strike)
            for n in range(5):
                group.start_soon(append, n)
        assert isinstance(store, RedisTransport)
        assert store.statistics().connections == 2
        for n in range(5):
            bodies = [stored.body for stored in await store.read(f"r{n}", 1)]
            assert bodies == [str(m).encode() for m in range(200)]


@component
async def counted(n: int) -> int:
    await anyio.sleep(0.001)
    return n + 1


@workflow
async def counting(start: int) -> int:
    for _ in range(40):
        start = await counted(start)
    return start


@pytest.mark.slow
async def test_runs_go_on_when_their_server_is_killed_and_is_back(own: Node) -> None:
    """With every step recorded once."""
    runtime = Runtime(counting, store=own.url)
    async with runtime, runtime.worker():
        handles = [await runtime.start(counting, n) for n in range(0, 500, 100)]
        await anyio.to_thread.run_sync(own.kill)
        await anyio.to_thread.run_sync(own.start)
        assert [await handle.result(PATIENCE_S) for handle in handles] == [n + 40 for n in range(0, 500, 100)]
    async with open_transport(own.url) as store:
        for run in (await store.runs(RunFilter())).runs:
            kinds = [stored.kind for stored in await store.read(run.run_id)]
            assert (kinds.count("step.completed"), kinds[-1], run.fence) == (40, "run.completed", 1)


@pytest.mark.slow
async def test_a_server_that_stays_away_is_said_to_be_away(own: Node) -> None:
    """After a time, call by call; and when it is back, so is the store."""
    async with open_transport(f"{own.url}?timeout=0.5") as store:
        lease = await leased(store, "r")
        own.kill()
        for call in (store.run("r"), store.append(lease, [entry()])):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await call
        own.start()
        assert (await store.append(lease, [entry()])).seq == 2


async def test_a_server_that_is_not_there_is_said_to_be_so_at_once(own: Node) -> None:
    own.kill()
    assert "cannot be reached" in await refusal(own.url.replace("//", f"//:{SECRET}@"))


async def test_scripts_that_the_server_forgot_are_taught_again(own: Node) -> None:
    async with open_transport(own.url) as store:
        lease = await leased(store, "r")
        own.ask("SCRIPT", "FLUSH")
        assert (await store.append(lease, [entry()])).seq == 2
        assert (await store.run("r")).seq == 2


async def test_a_closed_store_says_so(url: str) -> None:
    async with open_transport(url) as store:
        pass
    with pytest.raises(StoreUnavailable, match="was closed"):
        await store.run("r")


async def test_what_the_body_raises_is_what_is_raised(url: str) -> None:
    with pytest.raises(KeyError):
        async with open_transport(url):
            raise KeyError


# --- servers that will not do


async def test_full_memory_refuses_a_write_whole(own: Node) -> None:
    """Reading, and pruning, go on; and so does all once there is room."""
    async with open_transport(own.url) as store:
        lease = await leased(store, "r")
        done = await leased(store, "done")
        await store.append(done, [entry()], Finish(RunState.COMPLETED))
        own.ask("CONFIG", "SET", "maxmemory", 1)
        for call in (
            store.append(lease, [entry(), entry()], HandOver()),
            store.post("r", [entry()]),
            store.create(new("r2", key="key")),
            store.claim("worker", {"w": Terms()}, limit=1, lease_s=1),
        ):
            with pytest.raises(StoreUnavailable, match="memory is full and nothing was written: raise maxmemory"):
                await call
        assert ((await store.run("r")).state, len(await store.read("r"))) == (RunState.RUNNING, 1)
        assert len((await store.runs(RunFilter())).runs) == 2
        assert await store.prune(await store.now() + 1, limit=10) == 1
        own.ask("CONFIG", "SET", "maxmemory", 0)
        assert (await store.append(lease, [entry()])).seq == 2
        assert (await store.create(new("r3", key="key")))[1]


async def test_a_server_that_evicts_is_refused_unless_told(own: Node) -> None:
    own.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "set it to noeviction" in await refusal(own.url)
    async with open_transport(f"{own.url}?eviction=allow") as store:
        await store.create(new("r"))


async def test_a_replica_is_refused(own: Node, server: Node) -> None:
    own.ask("REPLICAOF", "127.0.0.1", server.port)
    assert "is a replica: name its primary" in await refusal(own.url)


async def test_durability_is_said_as_the_server_gives_it(server: Node, own: Node) -> None:
    async with open_transport(server.url) as store:
        assert "no append-only file" in store.durability
    own.ask("CONFIG", "SET", "appendfsync", "everysec")
    async with open_transport(own.url) as store:
        assert "the last second or two" in store.durability
    if own.info("server")["redis_version"].startswith("7.0"):
        assert "wait=aof needs 7.2" in await refusal(f"{own.url}?wait=aof")
        return
    async with open_transport(f"{own.url}?wait=aof") as store:
        assert "WAITAOF" in store.durability
        lease = await leased(store, "r")
        assert (await store.append(lease, [entry()])).seq == 2
    assert "no append-only file to wait for" in await refusal(f"{server.url}?wait=aof")


async def test_a_write_that_no_replica_has_is_not_acknowledged(server: Node, url: str) -> None:
    async with open_transport(f"{url}&wait=1&timeout=0.6") as store:
        with pytest.raises(StoreUnavailable, match=r"not to 1 replica\(s\) within"):
            await store.create(new("r"))
        assert (await store.run("r")).seq == 1


async def test_a_checkup_says_of_each_thing_what_to_do(own: Node, server: Node) -> None:
    own.ask("CONFIG", "SET", "maxmemory", "1gb")
    assert [note.well for note in await checkup(own.url)] == [True] * 6
    own.ask("CONFIG", "SET", "appendfsync", "everysec")
    own.ask("CONFIG", "SET", "maxmemory", 100 + own.info("memory")["used_memory"])
    url = f"redis://127.0.0.1:{own.port}/0?eviction=allow"
    notes = await looks(url, clock=lambda: time.time() + 90)
    assert notes.keys() == {"memory", "persistence", "clock"}
    assert "of maxmemory is used, and when it is full nothing is written: raise it" in notes["memory"]
    assert "appendfsync everysec, so a power cut may take acknowledged writes: set it to always" in notes["persistence"]
    assert re.match(r"the server's is (89|90)\.\d s behind this host's: set both by NTP", notes["clock"])
    if not own.info("server")["redis_version"].startswith("7.0"):
        assert "persistence" not in await looks(f"{url}&wait=aof")
    own.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru throws runs away when memory is full: set it to noeviction" in (await looks(url))["memory"]
    assert (await looks(server.url)).keys() == {"memory", "persistence"}
    assert "there is no append-only file, a restart loses runs" in (await looks(server.url))["persistence"]
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await checkup("redis://127.0.0.1:1")
    follow(server, own)
    try:
        assert "a failover may lose acknowledged writes: add '?wait=1'" in (await looks(url))["replicas"]
        assert "replicas" not in await looks(f"{url}&wait=1")
    finally:
        server.ask("REPLICAOF", "NO", "ONE")


async def test_a_store_of_a_newer_schema_is_refused_and_left_as_it_is(own: Node) -> None:
    async with open_transport(own.url) as store:
        await store.create(new("r"))
    assert own.ask("GET", "{greenroom}:schema") == str(redis_schema.VERSION).encode()
    own.ask("SET", "{greenroom}:schema", redis_schema.VERSION + 1)
    text = await refusal(own.url)
    assert text.endswith(
        f"has schema {redis_schema.VERSION + 1}, and this greenroom knows up to {redis_schema.VERSION}: "
        "upgrade greenroom, or name another store with '?prefix='"
    )
    assert own.ask("GET", "{greenroom}:schema") == str(redis_schema.VERSION + 1).encode()


@pytest.mark.parametrize("kept", [None, "1", "2"])
async def test_a_store_of_an_older_schema_is_brought_up_to_date_step_by_step_and_once(
    own: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kept: str | None
) -> None:
    """Whoever opens it; one of before the key has the first schema. An unused one needs nothing."""
    async with open_transport(own.url) as store:
        await store.create(new("r"))
    own.ask("DEL", "{greenroom}:schema") if kept is None else own.ask("SET", "{greenroom}:schema", kept)
    steps = tuple(f"redis.call('RPUSH', P .. 'steps', '{n} from ' .. known)" for n in (2, 3))
    monkeypatch.setattr(redis_scripts, "migrate", Script(migrating(steps)))
    monkeypatch.setattr(redis_scripts, "ALL", (redis_scripts.migrate, *redis_scripts.ALL))
    monkeypatch.setattr(greenroom.transports.redis, "VERSION", 3)
    opens = [open_transport(url) for url in (own.url, own.url, f"{own.url}?prefix=unused")]
    async with opens[0], opens[1], opens[2]:
        pass
    expected = {None: [b"2 from 1", b"3 from 1"], "1": [b"2 from 1", b"3 from 1"], "2": [b"3 from 2"]}
    assert own.ask("LRANGE", "{greenroom}:steps", 0, -1) == expected[kept]
    assert own.ask("GET", "{greenroom}:schema") == b"3"
    assert own.ask("KEYS", "{unused}:*") == []
    assert caplog.text.count(f"is brought from schema {kept or 1} to 3") == 1
    monkeypatch.undo()
    assert "has schema 3, and this greenroom knows up to 1" in await refusal(own.url)


async def test_a_checkup_of_a_server_that_others_can_reach_looks_at_who_may_do_what(own: Node) -> None:
    place = f"127.0.0.2:{own.port}"
    own.ask("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2")
    own.ask("CONFIG", "SET", "protected-mode", "no")
    assert "no password is asked for" in (await looks(f"redis://{place}"))["access"]
    own.ask("ACL", "SETUSER", "mighty", "on", f">{SECRET}", "~*", "&*", "+@all")
    own.ask("ACL", "SETUSER", "green", "on", f">{SECRET}", *RULES.split())
    notes = await looks(f"redis://mighty:{SECRET}@{place}")
    assert "this user may do everything: make one that is limited to ~{greenroom}:*" in notes["access"]
    notes = await looks(f"redis://green:{SECRET}@{place}")
    assert "use rediss://" in notes["access"]
    assert SECRET not in str(notes)


async def looks(url: str, clock: Callable[[], float] = time.time) -> dict[str, str]:
    """What a checkup finds not to be well."""
    return {note.what: note.text for note in await checkup(url, clock=clock) if not note.well}


# --- who may, and over what


async def test_a_wrong_password_is_said_to_be_wrong_and_is_not_shown(own: Node) -> None:
    own.ask("CONFIG", "SET", "requirepass", "right")
    place = f"127.0.0.1:{own.port}"
    assert "check user and password" in await refusal(f"redis://:{SECRET}@{place}")
    assert "check user and password" in await refusal(f"redis://nobody:{SECRET}@{place}")
    assert "check user and password" in await refusal(f"redis://{place}")
    async with open_transport(f"redis://:right@{place}/1?prefix=p") as store:
        assert store.url == f"redis://{place}/1"
        assert "right" not in repr(vars(store))


RULES = (
    "~{greenroom}:* &{greenroom}:* -@all +@connection +@read +@write +@pubsub +@scripting +info +time +config|get"
    " -keys -flushall -flushdb -swapdb"
)
"""What docs/transports.md tells to give."""


async def test_a_user_limited_to_the_prefix_can_do_everything_there(
    own: Node, caplog: pytest.LogCaptureFixture
) -> None:
    own.ask("ACL", "SETUSER", "green", "on", f">{SECRET}", *RULES.split())
    url = f"redis://green:{SECRET}@127.0.0.1:{own.port}"
    async with open_transport(url) as store, store.watch(log_topic("r"), control_topic("r")) as watch:
        lease = await leased(store, "r")
        assert await watch.wait(PATIENCE_S)
        await store.blob_put("r", "d", b"data")
        assert await store.blob_get("r", "d") == b"data"
        await store.cache_put("k", b"v", ttl_s=60)
        assert await store.cache_get("k") == b"v"
        await store.append(lease, [entry()], Finish(RunState.COMPLETED))
        assert await store.prune(await store.now() + 1, limit=1) == 1
    text = await refusal(f"{url}?prefix=other")
    assert "give the user ~{other}:*" in text
    assert SECRET not in caplog.text


async def test_tls_is_spoken_and_checked(server: Node, url: str, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with proxy(server.port, context) as between:
        place = f"127.0.0.1:{between.port}/0?{url.partition('?')[2]}"
        async with open_transport(f"rediss://{place}&ca={certificate}") as store, store.watch(log_topic("r")) as watch:
            lease = await leased(store, "r")
            assert (await store.append(lease, [entry()])).seq == 2
            assert await watch.wait(PATIENCE_S)
        assert "check the certificates" in await refusal(f"rediss://{place}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"redis://u:{SECRET}@host:port", "bad address 'host:port'"),
        (f"redis://u:{SECRET}@host:99999", "bad address"),
        (f"redis://u:{SECRET}@host/name", "names database 'name': write its number"),
        (f"redis://u:{SECRET}@host?pool=3", "unknown option 'pool': use ca, cert, eviction"),
        (f"redis://u:{SECRET}@host?prefix=a{{b", "use letters, digits"),
        (f"redis://u:{SECRET}@host?timeout=-1", "give seconds"),
        (f"redis://u:{SECRET}@host?wait=disk", "use wait=aof, or a number"),
        (f"redis://u:{SECRET}@host?eviction=yes", "use eviction=allow"),
        (f"redis://u:{SECRET}@one,two", "use redis+sentinel://"),
        (f"redis+sentinel://u:{SECRET}@one,two", "names no service"),
        (f"redis+cluster://u:{SECRET}@one,two/3", "database 0 alone"),
    ],
)
async def test_a_bad_url_is_refused_with_its_part(url: str, said: str) -> None:
    assert said in await refusal(url)


# --- more than one server


async def test_a_node_of_a_cluster_is_said_to_be_one(three: list[Node], server: Node) -> None:
    assert "use redis+cluster://" in await refusal(three[0].url)
    assert "cluster support disabled" in await refusal(cluster_url([server]))
    assert "nobody says where service 's' is" in await refusal(f"redis+sentinel://127.0.0.1:{server.port}/s")


@pytest.mark.slow
async def test_a_slot_that_moves_is_followed(tmp_path: Path) -> None:
    """Calls and hints find the node that has it now."""
    with cluster(tmp_path) as nodes:
        async with open_transport(f"{cluster_url(nodes[:1])}?prefix=moves") as store:
            slot, owner = nodes[0].ask("CLUSTER", "KEYSLOT", "{moves}:"), primary_of(nodes, "moves")
            target = next(one for one in nodes if one is not owner)
            async with store.watch(log_topic("r")) as watch:
                name = target.ask("CLUSTER", "MYID")
                for one in (target, owner, *nodes):
                    one.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
                lease = await leased(store, "r")
                assert (await store.append(lease, [entry()])).seq == 2
                assert await watch.wait(PATIENCE_S)
            assert target.ask("EXISTS", "{moves}:run:r") == 1


@pytest.mark.slow
async def test_a_slot_that_is_half_moved_is_waited_for(tmp_path: Path) -> None:
    """The servers answer with ASK: whoever followed that would find some of the store's keys here and some there."""
    with cluster(tmp_path) as nodes:
        async with open_transport(f"{cluster_url(nodes)}?prefix=moves") as store:
            lease = await leased(store, "r")
            slot, owner = nodes[0].ask("CLUSTER", "KEYSLOT", "{moves}:"), primary_of(nodes, "moves")
            target = next(one for one in nodes if one is not owner)
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.ask("CLUSTER", "MYID"))
            owner.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
            keys = owner.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
            asked = errors(owner, "ASK")
            seqs: list[int] = []

            async def append() -> None:
                seqs.append((await store.append(lease, [entry()])).seq)

            async with anyio.create_task_group() as group:
                group.start_soon(append)
                while errors(owner, "ASK") == asked:  # noqa: ASYNC110 - the server tells nobody
                    await anyio.sleep(0.01)
                owner.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[::2])
                while errors(owner, "ASK") < asked + 3:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert seqs == []
                owner.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[1::2])
                for one in (target, owner, *nodes):
                    one.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))
            assert seqs == [2]
            assert [stored.seq for stored in await store.read("r")] == [1, 2]
            assert target.ask("EXISTS", "{moves}:log:r") == 1


def errors(one: Node, word: str) -> int:
    """How many replies of a server began with this word."""
    said = one.info("errorstats").get(f"errorstat_{word}", {"count": 0})
    return int(said["count"])


@pytest.mark.slow
async def test_sentinels_lead_to_the_new_primary(tmp_path: Path) -> None:
    with node(tmp_path / "a") as first, node(tmp_path / "b") as second:
        second.ask("REPLICAOF", "127.0.0.1", first.port)
        until(lambda: second.info("replication")["master_link_status"] == "up")
        watched = (
            f"sentinel monitor greenroom 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds greenroom 300\nsentinel failover-timeout greenroom 2000\n"
        )
        guard = Node(tmp_path / "s", sentinel=watched)
        try:
            guard.start()
            until(lambda: len(guard.ask("SENTINEL", "REPLICAS", "greenroom")) == 1)
            assert "nobody says where service 'other' is" in await refusal(
                f"redis+sentinel://127.0.0.1:{guard.port}/other"
            )
            async with open_transport(f"redis+sentinel://127.0.0.1:{guard.port}/greenroom?wait=1") as store:
                lease = await leased(store, "r")
                await store.append(lease, [entry()])
                assert second.ask("EXISTS", "{greenroom}:run:r") == 1
            async with open_transport(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{guard.port}/greenroom/0") as store:
                assert "a failover may lose the last writes" in store.durability
                first.kill()
                deadline = anyio.current_time() + PATIENCE_S
                run: Run | None = None
                while run is None and anyio.current_time() < deadline:
                    try:
                        run = await store.append(lease, [entry()])
                    except StoreUnavailable:
                        continue
                assert run is not None
                assert run.seq == 3
        finally:
            guard.kill()


@pytest.mark.slow
async def test_a_failover_that_loses_acknowledged_writes_is_said_and_fences_their_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the log has grown again meanwhile, and if it was asked for before that was known. Whatever else that
    process asks for is done."""
    with node(tmp_path / "a") as first, node(tmp_path / "b") as second:
        follow(second, first)
        async with (
            proxy(first.port) as between,
            open_transport(f"redis://127.0.0.1:{between.port}") as store,
        ):
            lease = await leased(store, "r")
            await store.append(lease, [entry()])
            until(lambda: caught_up(second, first))
            second.ask("REPLICAOF", "NO", "ONE")
            for _ in range(3):
                await store.append(lease, [entry()])
            await store.create(new("r2", key="k"))
            reader = Runs(store, {}).tail("r", 4)
            assert [stored.seq for stored in await anext(reader)] == [5]
            await fail_over(between, first, second)
            with pytest.raises(CursorAhead, match="cursor 5 is ahead of run r, which ends at 2"):
                await anext(reader)
            async with open_transport(second.url) as other:
                assert (await other.post("r", [entry(b"grown")] * 5)).seq == 7
            many = [store.append(lease, [entry()]) for _ in range(BATCH + 100)]
            assert {type(one) for one in await asyncio.gather(*many, return_exceptions=True)} == {Fenced}
            assert (
                "has lost up to 4 of the writes that it had acknowledged to this process, those after 20" in caplog.text
            )
            assert await store.renew([lease], lease_s=60) == {}
            assert [stored.body for stored in await store.read("r", 2)] == [b"grown"] * 5
            assert (await store.create(new("r2", key="k")))[1]
            assert (await store.post("r", [entry()])).seq == 8
            assert (await store.append(await leased(store, "r3"), [entry()])).seq == 2
            assert caplog.text.count("has lost") == 1


@pytest.mark.slow
async def test_a_server_that_comes_back_empty_is_said_to_have_lost_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with node(tmp_path) as server:
        async with open_transport(server.url) as store:
            lease = await leased(store, "r")
            server.kill()
            server.start()
            with pytest.raises(Fenced):
                await store.append(lease, [entry()])
            assert (
                "has lost up to 2 of the writes that it had acknowledged to this process, those after the beginning"
                in caplog.text
            )
            assert (await store.append(await leased(store, "r"), [entry()])).seq == 2


@pytest.mark.slow
def test_processes_that_claim_at_once_get_each_run_once(url: str) -> None:
    async def prepare() -> None:
        async with open_transport(url) as store, anyio.create_task_group() as group:
            for n in range(60):
                group.start_soon(store.create, new(f"r{n}"))

    asyncio.run(prepare())
    args = [sys.executable, str(PEER), url, "claims"]
    peers = [subprocess.Popen([*args, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"]
    try:
        for peer in peers:
            assert peer.stdin is not None
            peer.stdin.write("go\n")
            peer.stdin.flush()
        said = [run for peer in peers for run in peer.communicate(timeout=PATIENCE_S)[0].split()]
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
    assert [peer.returncode for peer in peers] == [0, 0]
    assert sorted(said) == sorted(f"r{n}" for n in range(60))


async def test_time_is_the_servers(server: Node, url: str) -> None:
    """Whatever the clocks of workers say: a store opened without a clock has the server's."""
    async with open_transport(url) as store:
        run, _ = await store.create(new("r"))
        seconds, micros = server.ask("TIME")
        assert abs(run.created - (seconds + micros / 1e6)) < PATIENCE_S
        assert run.created <= await store.now()
