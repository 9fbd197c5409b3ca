"""`python -m benchmarks.actors MODULE LOOP`: the process of one peer.

It writes the names of its cases as a line of JSON; then, for every line "<count> <case>" that it reads, a line with
what it measured: operations a second, or the case's own figure.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

from .cases import Cases

Stage = Callable[[], AbstractAsyncContextManager[Cases]]


async def serve(stage: Stage) -> None:
    """Measure what is asked for, until nothing is."""
    async with stage() as cases:
        print(json.dumps(list(cases)), flush=True)
        # nothing else is to happen between two cases: what blocks here holds up nobody
        while line := sys.stdin.readline():
            count, _, name = line.strip().partition(" ")
            gc.collect()
            began = time.perf_counter()
            own = await cases[name](int(count))
            spent = time.perf_counter() - began
            print(own if own is not None else int(count) / spent, flush=True)


def main(module: str, loop: str) -> None:
    """Serve on the event loop of this package: asyncio or uvloop."""
    stage: Stage = import_module(f"{__package__}.{module}").stage
    with asyncio.Runner(loop_factory=import_module(loop).new_event_loop) as runner:
        runner.run(serve(stage))


if __name__ == "__main__":
    main(*sys.argv[1:])
