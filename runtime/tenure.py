"""How long a lease is held, by this process's own clock.

Why: the store refuses what a worker appends after its lease was lost, but it cannot refuse what the worker does
outside: call a provider, charge a card. A worker that was stopped or stuck, or whose store has gone, must find out by
itself that its time may be up. The clock is the event loop's, which is monotonic: it goes on while the process is
stopped, and knows nothing of jumps of the time of day.

Laws kept here: 4 (what begins, begins under a lease that was held a moment ago).
"""

from __future__ import annotations

import asyncio

import anyio


class Tenure:
    """Until when a lease is held, reckoned from when it was last asked for.

    Args:
        until: by the event loop's clock.
    """

    def __init__(self, until: float) -> None:
        self._until = until
        self._renewed: anyio.Event | None = None

    @property
    def over(self) -> bool:
        """Whether somebody else may have the run by now."""
        return asyncio.get_running_loop().time() >= self._until

    def renew(self, until: float) -> None:
        """Hold on, until then."""
        self._until = until
        if self._renewed is not None:
            self._renewed.set()
            self._renewed = None

    async def held(self) -> None:
        """Return while the lease is held: at once, or when it was renewed. If it is lost, whoever waits is canceled."""
        while self.over:
            self._renewed = self._renewed or anyio.Event()
            await self._renewed.wait()
