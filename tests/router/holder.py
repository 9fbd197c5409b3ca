"""A worker whose calls do not end: `python holder.py STORE BASE_URL CALLS`. Says so when they are on their way."""

from __future__ import annotations

import sys

import anyio

from greenroom.runtime.router import Deployment, Limits, Router, RouterConfig, Secret
from greenroom.transports import open_transport

BODY = {"model": "smart", "messages": [{"role": "user", "content": "Hi"}]}


def config(base_url: str) -> RouterConfig:
    limits = Limits(concurrency=4, requests_per_min=600)
    one = Deployment(
        name="openai/m", provider="openai", model="m", base_url=base_url, key=Secret("simulator"), limits=limits
    )
    return RouterConfig(models={"smart": (one,)})


async def main(store: str, base_url: str, calls: int) -> None:
    async with (
        open_transport(store) as shared,
        Router(config(base_url)) as router,
        router.share(shared, "holder").running(),
        anyio.create_task_group() as group,
    ):
        for _ in range(calls):
            group.start_soon(router.request, "/chat/completions", BODY)
        while router.snapshot()[0].in_flight < calls:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        print("held", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
