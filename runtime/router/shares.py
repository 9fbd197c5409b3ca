"""What workers share through their store, and the conversation about it: limits of deployments, budgets of tenants.

Why: with a limit for each process a provider sees the sum of them, or each has to be a part that others cannot use.
Here a deployment's requests, tokens and places are drawn from its store in batches (`transports/reservoirs.py`), as
many as calls wait for and are likely to come within a second, so that a call costs no round trip; what is not used goes
back half a second later, and what a lost worker held when its lease ends. What there is to say of budgets goes along.

Law kept here: 9 (where the store cannot be asked, what is held is used up, and then calls wait, and are told why).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol, Self

import anyio

from ...transports import Draw, Grant, StoreUnavailable, Transport
from .budget import Purse
from .lane import Lane
from .scheduler import Waiting
from .share import LEASE_S, Share
from .tally import Tally

log = logging.getLogger("greenroom.router")

TOGETHER_S = 0.02
"""Draws that are due within this go in one round trip, seconds."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0
"""Between two tries while the store cannot be asked, seconds; doubles."""

FAREWELL_S = 1.0
"""How long giving everything back may take, seconds."""


class Party(Protocol):
    """One reservoir's side of the conversation."""

    def when(self, now: float) -> float:
        """Return when the next draw is due, by the event loop's clock; infinity: when something happens."""

    def ask(self, now: float) -> Draw:
        """Say what there is to say, and ask for what is needed."""

    def take(self, grant: Grant, asked: float, now: float) -> None:
        """Take what a draw came to that was asked for at a time by the event loop's clock."""

    def fail(self) -> None:
        """Nothing came of a draw, or nobody knows what."""

    def leave(self) -> Draw:
        """Say what is left to say, and give everything back."""


class Shares:
    """All that is shared, and the conversation with the store. `run` is its task.

    Args:
        transport: the store that workers share.
        holder: who this is, to the others.
        lanes: the deployments at work.
        purses: budgets of tenants, by tenant.
        waiting: tells which calls wait for a lane.
        dispatch: has the scheduler look again.
        clock: seconds, of the event loop.

    Attributes:
        heard: set when the store has answered for the first time.
        trouble: why the store cannot be asked; "" while it can.
    """

    def __init__(
        self,
        transport: Transport,
        holder: str,
        lanes: Iterable[Lane],
        purses: Mapping[str, Purse],
        *,
        waiting: Callable[[Lane], Waiting],
        dispatch: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.heard = anyio.Event()
        self.trouble = ""
        self._transport = transport
        self._holder = holder
        self._dispatch = dispatch
        self._clock = clock
        self._changed = asyncio.Event()
        self._parties: list[Party] = [Share(lane, waiting, self._changed.set) for lane in lanes]
        self._parties += [Tally(tenant, purse, self._changed.set) for tenant, purse in purses.items()]
        self._pause_s = FIRST_PAUSE_S

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run while a block runs."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.run)
            yield self
            group.cancel_scope.cancel()

    async def run(self) -> None:
        """Draw whenever it is time to; give everything back at the end."""
        try:
            while True:
                self._changed.clear()
                now = self._clock()
                when = {party: party.when(now) for party in self._parties}
                soonest = min(when.values(), default=math.inf)
                if soonest <= now:
                    await self._draw([party for party, at in when.items() if at <= now + TOGETHER_S])
                else:
                    with anyio.move_on_after(soonest - now):
                        await self._changed.wait()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(FAREWELL_S):
                await self._leave()

    async def _draw(self, parties: list[Party]) -> None:
        asked = self._clock()
        draws = [party.ask(asked) for party in parties]
        try:
            grants = await self._transport.draw(self._holder, draws, lease_s=LEASE_S)
        except StoreUnavailable as error:
            for party in parties:
                party.fail()
            if not self.trouble:
                log.error("limits cannot be shared: calls use what is held, and wait then: %s", error)
            self.trouble = str(error)
            await anyio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return
        if self.trouble:
            log.warning("limits are shared again")
        self.trouble, self._pause_s = "", FIRST_PAUSE_S
        now = self._clock()
        for party, grant in zip(parties, grants, strict=True):
            party.take(grant, asked, now)
        self.heard.set()
        self._dispatch()

    async def _leave(self) -> None:
        with suppress(StoreUnavailable):  # leases end by themselves too
            await self._transport.draw(self._holder, [party.leave() for party in self._parties], lease_s=LEASE_S)
