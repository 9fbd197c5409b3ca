"""A worker's appender: what all of its runs have to append, in one call of the store at a time.

Why: a call of the store, a thread woken, a transaction, a round trip: each costs more than the records that it carries,
and two hundred runs that go a step further at the same time need one of each and not two hundred. Writers say that they
have something (`offer`), and what all of them have by the end of one call is the next one. A second call beside it
would be made up too early, and then wait in the store's line for the first.

Laws kept here: 2 (a run has one append on its way at most), 9 (one that is refused concerns its own writer alone).
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..actors import Mailbox
from ..transports import Append, Transport

START_S = 0.005
"""How long a start may wait for company, seconds."""


class Writer(Protocol):
    """Who has something to append."""

    def take(self) -> Append | None:
        """Return it; None if there is nothing left to append. Nothing else is asked for until it is settled."""
        ...

    def settle(self, refusal: Exception | None) -> None:
        """Hear what became of it."""
        ...

    def flush(self) -> None:
        """Offer what was written behind."""
        ...


class Appender:
    """What a worker's writers share. `run` is its actor.

    Args:
        transport: where it is all appended.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._offered: list[Writer] = []
        self._soon: list[Writer] = []
        self._bell: asyncio.Future[None] | None = None

    def offer(self, writer: Writer) -> None:
        """Append what it has, now."""
        self._offered.append(writer)
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def soon(self, writer: Writer) -> None:
        """Flush it within `START_S`: one timer for all of them."""
        if not self._soon:
            asyncio.get_running_loop().call_later(START_S, self._tick)
        self._soon.append(writer)

    def _tick(self) -> None:
        writers, self._soon = self._soon, []
        for writer in writers:
            writer.flush()

    async def run(self, mailbox: Mailbox[Any]) -> None:
        """Run the actor."""
        while True:
            if not self._offered:
                await self._sleep()
            offered, self._offered = self._offered, []
            writers: list[Writer] = []
            appends: list[Append] = []
            for writer in offered:
                append = writer.take()
                if append is not None:
                    writers.append(writer)
                    appends.append(append)
            if writers:
                await self._append(writers, appends)

    async def _append(self, writers: list[Writer], appends: list[Append]) -> None:
        try:
            refusals = await self._transport.append_all(appends)
        except Exception as error:  # whatever it is, it is each writer's to fail with: the others' runs go on
            for writer in writers:
                writer.settle(error)
            return
        for writer, refusal in zip(writers, refusals, strict=True):
            writer.settle(refusal)

    async def _sleep(self) -> None:
        self._bell = asyncio.get_running_loop().create_future()
        try:
            await self._bell
        finally:
            self._bell = None
