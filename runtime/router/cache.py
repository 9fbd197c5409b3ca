"""Answers that are given again, and one call for all who ask the same at once. Off unless configured.

Only whole answers with status 200 are kept; streams are not. Tenants do not see each other's answers. A caller that
gives up does not take the others' answer away: the next of them asks.

Law kept here: 11 (entries are bounded; the oldest goes first).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

import anyio
import httpx2
import msgspec

from .errors import RouterConfigInvalid


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long answers are given again, seconds, and how many are kept."""

    ttl_s: float = 300.0
    entries: int = 1000

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        if not self.ttl_s > 0 or self.entries < 1:
            raise RouterConfigInvalid(f"{where}: give a ttl_s above 0 and entries of 1 or more")


class _Flight:
    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.kept: _Kept | None = None


class _Kept:
    def __init__(self, response: httpx2.Response, until: float) -> None:
        self.until = until
        self._status = response.status_code
        self._headers = dict(response.headers)
        self._content = response.content

    def response(self) -> httpx2.Response:
        return httpx2.Response(self._status, headers=self._headers, content=self._content)


class Cache:
    """Answers by what was asked.

    Args:
        policy: how long, how many.
        clock: seconds.
    """

    def __init__(self, policy: CachePolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._kept: dict[bytes, _Kept] = {}
        self._flights: dict[bytes, _Flight] = {}

    def key(self, tenant: str, path: str, body: dict[str, Any]) -> bytes:
        """Name what is asked."""
        asked = msgspec.json.encode([tenant, path, body], order="deterministic")
        return blake2b(asked, digest_size=16).digest()

    async def through(self, key: bytes, ask: Callable[[], Awaitable[httpx2.Response]]) -> tuple[httpx2.Response, bool]:
        """Return an answer, and whether somebody else had asked for it."""
        while True:
            kept = self._kept.get(key)
            if kept is not None and kept.until > self._clock():
                return kept.response(), True
            flight = self._flights.get(key)
            if flight is None:
                return await self._ask(key, ask), False
            await flight.landed.wait()
            if flight.kept is not None:
                return flight.kept.response(), True

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
        flight = self._flights[key] = _Flight()
        try:
            response = await ask()
            flight.kept = _Kept(response, self._clock() + self._policy.ttl_s)
            if response.status_code == 200:
                self._kept.pop(key, None)
                self._kept[key] = flight.kept
                while len(self._kept) > self._policy.entries:
                    del self._kept[next(iter(self._kept))]
            return response
        finally:
            del self._flights[key]
            flight.landed.set()
