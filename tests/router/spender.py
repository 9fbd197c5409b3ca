"""A worker that calls and calls: `python spender.py STORE BASE_URL NAME PAUSE_S`. Prints the status of each answer."""

from __future__ import annotations

import sys

import anyio

from greenroom.runtime.router import Deployment, Limits, Router, RouterConfig, Secret
from greenroom.transports import open_transport

BODY = {"model": "smart", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 16}


def config(base_url: str) -> RouterConfig:
    limits = Limits(requests_per_min=3600, burst_s=1)
    one = Deployment(
        name="openai/m", provider="openai", model="m", base_url=base_url, key=Secret("simulator"), limits=limits
    )
    return RouterConfig(models={"smart": (one,)})


async def main(store: str, base_url: str) -> None:
    async with (
        open_transport(store) as shared,
        Router(config(base_url)) as router,
        router.share(shared, f"spender-{sys.argv[3]}").running(),
        anyio.create_task_group() as group,
    ):

        async def spend() -> None:
            while True:
                await anyio.sleep(float(sys.argv[4]))
                print((await router.request("/chat/completions", BODY)).status_code, flush=True)

        for _ in range(40):
            group.start_soon(spend)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
