"""Real processes on a real cluster: the node that has the store is killed, and its replica takes its place.

Workers and APIs find it by themselves. With `?wait=1` nothing that was acknowledged is lost; without it a replica that
was behind loses what it did not have, and every process that it was acknowledged to says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from greenroom.runtime.runs import Runs
from greenroom.runtime.testing.auditor import audit
from greenroom.transports import RunNotFound, open_transport

from ..transports.valkey import Node, caught_up, cluster, primary_of, until
from .hands import WORKFLOWS
from .test_redis_processes import (
    DEADLINE_S,
    SAFE,
    Start,
    came_about,
    check_load,
    effects,
    ended_well,
    lines,
    start,
    tried,
)

pytestmark = pytest.mark.slow
__all__ = ["start"]  # a fixture

STALE = ("--cluster-replica-validity-factor", "0")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Three primaries, and a replica for each."""
    with cluster(tmp_path / "cluster", *SAFE, *STALE, replicas=3) as nodes:
        yield nodes


def replica_of(nodes: list[Node], primary: Node) -> Node:
    return nodes[3 + nodes.index(primary)]


def url_of(nodes: list[Node], options: str) -> str:
    return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in nodes)}?{options}"


def leads(one: Node) -> bool:
    return str(one.info("replication")["role"]) == "master"


@pytest.mark.timeout(150)
def test_the_node_that_has_the_store_is_killed_under_load_and_nothing_is_lost_or_repeated(
    tmp_path: Path, nodes: list[Node], start: Start
) -> None:
    """It comes back as the replica of the one that took its place: until then no write is acknowledged."""
    (tmp_path / "url").write_text(url_of(nodes, "wait=1&timeout=2"))
    primary = primary_of(nodes)
    heir = replica_of(nodes, primary)
    load = start("load", "load", "60", "calm")
    until(lambda: lines(tmp_path / "effects") > 40)
    primary.kill()
    until(lambda: leads(heir))
    primary.start()
    until(lambda: not leads(primary) and caught_up(primary, heir))
    done = lines(tmp_path / "effects")
    until(lambda: lines(tmp_path / "effects") > done + 40)
    (tmp_path / "enough").touch()
    ended_well(load, tmp_path / "load.log")
    found = check_load(tmp_path, url_of(nodes, ""))
    assert found.takeovers > 0
    assert "has lost up to" not in (tmp_path / "load.log").read_text()
    assert heir.ask("EXISTS", "{greenroom}:runs") == 1


@pytest.mark.timeout(150)
async def test_a_replica_that_was_behind_takes_over_and_the_loss_is_said_and_no_log_is_forked(
    tmp_path: Path, nodes: list[Node], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It lacks results on which steps under way depend, and a whole run."""
    primary = primary_of(nodes)
    heir = replica_of(nodes, primary)
    async with open_transport(url_of(nodes, "")) as store:
        (tmp_path / "url").write_text(url_of(nodes, ""))
        runs = Runs(store, WORKFLOWS)
        workers = {name: start("worker", name, name) for name in ("a", "b")}
        with anyio.fail_after(DEADLINE_S):
            while len(await store.workers()) < 2:  # noqa: ASYNC110 - they are other processes
                await anyio.sleep(0.02)
        ids = [(await runs.start("gates", b"{}"))[0].run_id for _ in range(4)]
        await came_about(lambda: tried(tmp_path, "one") == 4)
        await came_about(lambda: caught_up(heir, primary))
        primary.shut_out_replicas()
        (tmp_path / "one").touch()
        await came_about(lambda: tried(tmp_path, "two") == 4)
        late, _ = await runs.start("gates", b"{}", key="late")
        await came_about(lambda: tried(tmp_path, "two") == 5)
        await anyio.to_thread.run_sync(primary.kill)
        await came_about(lambda: leads(heir))
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
    assert (found.findings, found.states, found.results) == ((), {"completed": 5}, 10)
    done = Counter(effects(tmp_path))
    assert Counter(key.split("/")[0] for _, key in done) == dict.fromkeys([*ids, again.run_id, late.run_id], 2)
