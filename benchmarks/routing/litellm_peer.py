"""LiteLLM's Router, measured in an environment of its own: python litellm_peer.py URL CALLS IN_FLIGHT -> calls/s.

Not imported: it is run with the interpreter of `.venv-litellm`, where that exists:

    python3 -m venv .venv-litellm && .venv-litellm/bin/pip install litellm
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib.metadata import version

import litellm


async def main(url: str, count: int, in_flight: int) -> None:
    """Make the calls and print one line of JSON."""
    litellm.suppress_debug_info = True
    deployment = {"model": "openai/m", "api_base": url, "api_key": "simulator"}
    router = litellm.Router(model_list=[{"model_name": "smart", "litellm_params": deployment}], num_retries=0)
    question = [{"role": "user", "content": "Where do lighthouse keepers sleep?"}]
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await router.acompletion(model="smart", messages=question)

    await router.acompletion(model="smart", messages=question)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    print(json.dumps({"calls_per_s": count / (time.perf_counter() - began), "version": version("litellm")}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
