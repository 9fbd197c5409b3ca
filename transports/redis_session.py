"""What a store has acknowledged to this process, so that it is noticed when the store no longer has it.

Why: replicas follow a little later, and so a failover can lose acknowledged writes; a restart without an append-only
file can, too. Then the store's logs are shorter than this process believes, with leases on them that still look valid:
to append there would leave a hole that nobody sees. So the writes of a session are numbered, each script that writes
leaves its number in the store, and is told the highest one that was acknowledged. If the store knows of less, the
script does nothing, this session has ended, and so have its leases.

Laws kept here: 3 and 4 (a log that was cut back is written on only by a worker that has replayed it).
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from datetime import UTC, datetime

FORGET_S = 86_400.0
"""How long what was acknowledged is held against the store, seconds; it keeps the number twice as long."""

SESSION = f"""
local session, nth, acknowledged = string.match(ARGV[2], '^%d (%S+) (%d+) (%d+)$')
local last, at = string.match(redis.call('GET', P .. 'session:' .. session) or '0 0', '^(%S+) (%S+)$')
if tonumber(acknowledged) > tonumber(last) then return {{'lost', session, last, at}} end
if tonumber(nth) > tonumber(last) then
  redis.call('SET', P .. 'session:' .. session, nth .. ' ' .. now, 'EX', {2 * FORGET_S:.0f})
end
"""
"""How every script that writes begins. What it says of the session stands where others say whether they come again."""

log = logging.getLogger("greenroom.redis")


class Session:
    """The writes of one process that one store has acknowledged.

    Args:
        url: of the store, without secrets.
    """

    def __init__(self, url: str) -> None:
        self.name = secrets.token_hex(6)
        self._url = url
        self._loop = asyncio.get_running_loop()
        self._number = self._acknowledged = 0
        self._at = -math.inf
        self._ended: set[str] = set()

    def number(self) -> int:
        """Return the number of the next write."""
        self._number += 1
        return self._number

    def says(self, number: int, *, again: bool) -> bytes:
        """Return what a script is told: whether it was sent before, the session, its number, what was acknowledged."""
        recent = self._loop.time() - self._at < FORGET_S
        return b"%d %s %d %d" % (again, self.name.encode(), number, self._acknowledged if recent else 0)

    def acknowledge(self, number: int) -> None:
        """Note that a write's caller is told that it was done."""
        self._acknowledged = max(self._acknowledged, number)
        self._at = self._loop.time()

    def lose(self, name: str, last: int, at: float) -> None:
        """Say what is lost and begin another session, if it is this one that the store has lost writes of.

        Args:
            name: of the session.
            last: the number of the last write that the store has.
            at: when that was, by the store's clock.
        """
        if name != self.name:
            return
        kept = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if last else "the beginning"
        log.error(
            "%s has lost up to %d of the writes that it had acknowledged to this process, those after %s: a failover, "
            "or a restart without what was not synced. Runs at work here are given up, and go on from what the store "
            "has; runs, signals and ends of runs after then may be missing: start or send them again",
            self._url,
            self._acknowledged - last,
            kept,
        )
        self._ended.add(self.name)
        self.name = secrets.token_hex(6)
        self._acknowledged = 0

    def ended(self, owner: str) -> bool:
        """Whether a lease was taken in a session that has ended."""
        return bool(self._ended) and owner.rpartition("#")[2].partition(".")[0] in self._ended
