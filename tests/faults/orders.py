"""The cast of the simulated faults: plan, three parts at once, a charge, a signal, a sleep, a child run, an end.

The bank is the outside world: it honours idempotency keys, and counts how often it was asked.
"""

from __future__ import annotations

from collections import Counter

import anyio

from greenroom import Retry, Signal, child, component, emit, fan_out, idempotency_key, sleep, status, workflow
from greenroom.testing import outside

INSIST = Retry(attempts=100, first_s=0.1, max_s=1.0)


class Bank:
    """Takes a charge once per key."""

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.asked: Counter[str] = Counter()

    def charge(self, key: str, amount: int) -> int:
        """Charge, unless this key was charged."""
        self.asked[key] += 1
        return self.charges.setdefault(key, amount)

    def charged(self, run_id: str) -> list[int]:
        """What was charged for a run."""
        return [amount for key, amount in self.charges.items() if key.split("/")[0] == run_id]


bank = Bank()
go = Signal("go", str)


@component(retry=INSIST)
async def plan(number: int) -> list[int]:
    await emit(f"plan {number}.")
    await anyio.sleep(0.3)
    return [number, number + 1, number + 2]


@component(retry=INSIST)
async def make(part: int) -> int:
    await status(f"making {part}")
    for word in ("part", "of", str(part)):
        await emit(f"{word} ")
        await anyio.sleep(0.2)
    return 10 * part


@component(retry=INSIST)
async def charge(amount: int) -> int:
    await anyio.sleep(0.1)
    done = await outside(lambda: bank.charge(idempotency_key(), amount))
    await status("charged")
    await anyio.sleep(0.1)
    return done


@component(retry=INSIST)
async def wrap(number: int) -> str:
    await anyio.sleep(0.5)
    return f"parcel {number}"


@workflow
async def packing(number: int) -> str:
    return await wrap(number)


@workflow(signals=[go])
async def order(number: int) -> str:
    await status("planning")
    parts = await plan(number)
    made = await fan_out(make, parts, concurrency=3)
    paid = await charge(sum(made))
    word = await go.receive(timeout=6.0, default="nobody")
    await sleep(2.0)
    parcel = await child(packing, number)
    await emit("sent")
    return f"{parcel} for {paid}, said {word}"


def fit(result: bytes, number: int) -> bool:
    """Whether this is what an order comes to."""
    return result.decode().startswith(f'"parcel {number} for {10 * (3 * number + 3)}, said ')
