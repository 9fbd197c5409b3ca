"""SIGTERM and SIGINT: the first one asks a command to stop in order, the second one makes it stop at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .output import say


class Interrupted(Exception):
    """Somebody did not want to wait for the end."""


@asynccontextmanager
async def told_to_stop(notice: str) -> AsyncIterator[anyio.Event]:
    """Turn signals into an event for as long as the block lasts.

    Args:
        notice: what the first signal is answered with.

    Raises:
        Interrupted: a second signal came; the block has been canceled.
    """
    told = anyio.Event()
    if sys.platform == "win32":  # has no such signals: Ctrl-C ends the program
        yield told
        return

    async def listen() -> None:
        async for _ in signals:
            if told.is_set():
                raise Interrupted
            say(f"greenroom: {notice}")
            told.set()

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            yield told
            group.cancel_scope.cancel()
