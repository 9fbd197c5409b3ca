"""Another process on the same store: `python peer.py URL COMMAND [RUN]`. Starts when it is sent a line."""

from __future__ import annotations

import asyncio
import itertools
import sys

from greenroom.transports import Entry, Lane, NewRun, Terms, Transport, open_transport


def say(text: object) -> None:
    print(text, flush=True)


async def opens(store: Transport, run: str) -> None:
    """Only open the store."""
    say("open")


async def creates(store: Transport, run: str) -> None:
    """Create one run."""
    await store.create(NewRun(run_id=run, lane=Lane(workflow=run), entries=(Entry("first", b""),)))
    say("created")


async def appends(store: Transport, run: str) -> None:
    """Append to a run of its own until killed, or 100 times; says each seq once it is acknowledged."""
    await store.create(NewRun(run_id=run, lane=Lane(workflow=run), entries=(Entry("first", b""),)))
    (claim,) = await store.claim(run, dict.fromkeys([run], Terms()), limit=1, lease_s=0.5)
    for n in itertools.count() if run.startswith("endless") else range(100):
        say((await store.append(claim.lease, [Entry("k", f"{n}".encode() * 50)])).seq)


async def floods(store: Transport, run: str) -> None:
    """Append to runs of its own, to eight at once, until killed; says when it has begun."""

    async def lane(name: str) -> None:
        await store.create(NewRun(run_id=name, lane=Lane(workflow=name), entries=(Entry("first", b""),)))
        (claim,) = await store.claim(name, dict.fromkeys([name], Terms()), limit=1, lease_s=3600)
        say("floods")
        while True:
            await store.append(claim.lease, [Entry("k", b"x" * 50)] * 20)

    await asyncio.gather(*(lane(f"{run}-{number}") for number in range(8)))


async def claims(store: Transport, run: str) -> None:
    """Claim runs of workflow `w` until none is due; says each one's id."""
    while got := await store.claim(run, dict.fromkeys(["w"], Terms()), limit=1, lease_s=3600):
        say(got[0].lease.run_id)


async def cancels(store: Transport, run: str) -> None:
    """Post a cancel to a run; says when it is acknowledged."""
    await store.post(run, [Entry("cancel.requested", b"{}")])
    say("canceled")


async def main(url: str, command: str, run: str) -> None:
    sys.stdin.readline()
    async with open_transport(url) as store:
        await {one.__name__: one for one in (opens, creates, appends, floods, claims, cancels)}[command](store, run)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
