"""`greenroom verify`: what it gives for a good store, a broken one, and none."""

from __future__ import annotations

import json

import anyio
import msgspec

from greenroom.runtime.records import RunQueued, StepCompleted, encode
from greenroom.transports import Lane, NewRun, Terms, open_transport

from .conftest import Shell

STORE = "sqlite:///greenroom.db"


def plant() -> None:
    """A step with two results, under a lease that the log does not tell of."""

    async def main() -> None:
        async with open_transport(STORE) as store:
            first = RunQueued(workflow="w", input=msgspec.Raw(b"{}"), run_id="bad")
            await store.create(NewRun(run_id="bad", lane=Lane(workflow="w"), entries=(encode(first),)))
            (claim,) = await store.claim("w", {"w": Terms()}, limit=1, lease_s=60)
            twice = encode(StepCompleted(step="s", attempt=1, result=msgspec.Raw(b"1")))
            await store.append(claim.lease, [twice, twice])

    anyio.run(main)


def test_a_good_store_has_no_violations(shell: Shell) -> None:
    shell("run", "app.py:runtime", "greet", "--input", "name=bob", "-q")
    done = shell("verify", STORE)
    assert done.code == 0
    assert done.out.startswith("1 runs (1 completed), ")
    assert done.out.endswith("1 results, 0 takeovers, 0 violations\n")
    assert json.loads(shell("verify", "--json").out)["findings"] == []


def test_a_broken_law_is_told_with_its_record_and_a_code(shell: Shell) -> None:
    plant()
    done = shell("verify", STORE)
    assert done.code == 1
    assert "law 3: run bad, record 3: step s has a second result, the first is at 2\n" in done.out
    found = json.loads(shell("verify", STORE, "--json").out)
    assert {"law": 3, "run_id": "bad", "seq": 3} in [
        {key: one[key] for key in ("law", "run_id", "seq")} for one in found["findings"]
    ]


def test_a_store_that_is_not_there_is_refused_and_not_made(shell: Shell) -> None:
    done = shell("verify", "sqlite:///none.db")
    assert (done.code, done.out) == (3, "")
    assert "there is no database none.db" in done.err
