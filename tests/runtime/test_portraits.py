"""What workers show of themselves: only to whoever asks, bounded, without secrets, and no longer than they live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import component, workflow
from greenroom.actors import TreeNode
from greenroom.runtime.portraits import TREE_BYTES, WANTED_S, Decisions, Part, cut, portrait_of, want
from greenroom.runtime.router import AttemptRecord, CallRecord
from greenroom.transports import Transport

House = Callable[..., Any]

SECRET = "sk-of-nobody-but-me"


class Bed:
    """Keeps an actor, as components with resources of their own do."""

    async def __call__(self) -> None:
        await anyio.sleep(1000)


bed = component(Bed)


@workflow
async def sleepy() -> None:
    await bed()


class Counted:
    """A store that counts what is written beside heartbeats."""

    def __init__(self, store: Transport) -> None:
        self.puts: list[str] = []
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self.puts.append(key)
        await self._store.cache_put(key, value, ttl_s=ttl_s)


async def test_a_worker_shows_itself_while_somebody_looks_and_writes_nothing_before_and_after(
    store: Transport, house: House
) -> None:
    counted = Counted(store)
    place = house(sleepy)
    place.store = counted
    async with place.worker("w-1", lease_s=3.0):
        await anyio.sleep(100)
        assert counted.puts == []
        await want(store)
        await anyio.sleep(1.5)
        assert await portrait_of(store, "w-1") is not None
        await anyio.sleep(WANTED_S + 10)
        shown = counted.puts.count("portraits/w-1")
        assert WANTED_S - 5 < shown <= WANTED_S + 1, "as often as the worker beats: every second"
        assert await portrait_of(store, "w-1") is None
        await anyio.sleep(100)
        assert counted.puts.count("portraits/w-1") == shown


async def test_a_portrait_has_the_tree_as_it_is_and_goes_with_the_worker(store: Transport, house: House) -> None:
    place = house(sleepy)
    run, _ = await place.runs.start("sleepy", b"{}")
    await want(store)
    async with place.worker("w-1", drain_s=0.5):
        await anyio.sleep(3)
        portrait = await portrait_of(store, "w-1")
        assert portrait is not None
        assert await store.now() - portrait.at <= 1.0
        parts = {part.name: part for part in portrait.tree.children}
        assert next(iter(parts)) == "router"
        assert list(parts)[-6:] == ["components", "runs", "ears", "upkeep", "heartbeat", "claimer"]
        assert [part.name for part in parts["runs"].children] == [run.run_id]
        assert [part.name for part in parts["runs"].children[0].children] == ["log", "body", "control"]
        assert [part.name for part in parts["components"].children] == ["Bed"]
        assert parts["heartbeat"].kind == "actor"
    await anyio.sleep(10)
    assert await portrait_of(store, "w-1") is None


async def test_a_portrait_of_another_version_is_none(store: Transport) -> None:
    await store.cache_put("portraits/w-1", b'{"at":"noon"}', ttl_s=60)
    assert await portrait_of(store, "w-1") is None


def tree(name: str, *children: TreeNode, **state: Any) -> TreeNode:
    return TreeNode(**{"path": name, "kind": "actor", "state": "running", "children": children, **state})


def test_a_wide_tree_is_cut_the_parts_that_are_amiss_stay_and_the_others_are_counted() -> None:
    busy: dict[int, dict[str, Any]] = {
        7: {"mailbox": 3},
        4_000: {"restarts": 1, "crashes": 1},
        4_999: {"state": "restarting"},
    }
    wide = tree("worker/runs", *(tree(f"worker/runs/{n:064x}", **busy.get(n, {})) for n in range(5_000)))
    part = cut(wide)
    assert part.omitted + len(part.children) == 5_000
    shown = [int(child.name, 16) for child in part.children]
    assert set(busy) < set(shown)
    assert shown == sorted(shown)
    assert len(msgspec.json.encode(part)) <= TREE_BYTES


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=40), st.integers(500, 20_000))
def test_nothing_that_was_cut_is_uncounted(widths: list[list[int]], most: int) -> None:
    def leaves(path: str, number: int) -> list[TreeNode]:
        return [tree(f"{path}/{n}") for n in range(number)]

    rows = (
        [tree(f"w/{n}/{m}", *leaves(f"w/{n}/{m}", number)) for m, number in enumerate(row)]
        for n, row in enumerate(widths)
    )
    whole = tree("w", *(tree(f"w/{n}", *row) for n, row in enumerate(rows)))
    by_path = {node.path: node for node in whole.walk()}
    part = cut(whole, most)

    def omitted(part: Part, path: str) -> int:
        assert part.omitted + len(part.children) == len(by_path[path].children)
        return part.omitted + sum(omitted(child, f"{path}/{child.name}") for child in part.children)

    assert not omitted(part, "w") or len(msgspec.json.encode(cut(whole, 10**9))) > most, "what fits is whole"


def test_a_portrait_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    part = cut(tree("worker", tree(f"worker/about {SECRET}"), tree("worker/" + "x" * 1000)))
    assert [child.name for child in part.children] == ["about ***", "x" * 200]


def call(model: str) -> CallRecord:
    return CallRecord(
        status="ok",
        deployment="east",
        provider="openai",
        model=model,
        asked_model="smart",
        input_tokens=10,
        output_tokens=5,
        cost_usd=None,
        latency_s=2.0,
        first_token_s=0.5,
        queued_s=0.25,
        stream=True,
        reason="failover",
        attempts=(
            AttemptRecord(deployment="west", outcome="limited", latency_s=0.1),
            AttemptRecord(deployment="east", outcome="ok", latency_s=1.9),
        ),
    )


async def test_the_last_decisions_are_told_with_their_times() -> None:
    decisions = Decisions()
    for n in range(60):
        decisions.note(f"run-{n}", "ask", call("m"))
        await anyio.sleep(1)
    told = decisions.told(1000.0)
    assert [one.run_id for one in told] == [f"run-{n}" for n in range(59, 9, -1)]
    assert told[0].at == pytest.approx(999.0)
    assert told[-1].at == pytest.approx(950.0)
    assert told[0].tried == ("west: limited", "east: ok")
    assert (told[0].tokens, told[0].reason, told[0].asked_model) == (15, "failover", "smart")
