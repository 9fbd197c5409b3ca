"""A store as one tenant sees it: its own runs, and nothing that tells of others.

Why: whose run it is must be asked at every call, by code that cannot be forgotten. So whoever acts for a tenant is
given this view in place of the store. What it does not name it refuses: a call that is new in the contract is not open
to tenants until it is written here.

A foreign run is not found, whether it is there or not. Of a run that was pruned only its id is kept, and not whose it
was: to a tenant it is not found either.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import cast

from msgspec.structs import replace

from .contract import Transport, Watch
from .errors import RunNotFound, RunPruned
from .values import Entry, LaneCount, NewRun, Run, RunFilter, RunPage, Stored


class TenantTransport:
    """What accepting and reading runs needs of the contract, for one tenant. It lives no longer than a request.

    Args:
        inner: the store.
        tenant: whose runs there are.
    """

    def __init__(self, inner: Transport, tenant: str) -> None:
        self.url = inner.url
        self.blob_bytes = inner.blob_bytes
        self.durability = inner.durability
        self.forgets = inner.forgets
        self.tenant = tenant
        self._inner = inner
        self._own: set[str] = set()

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        """Create a run of the tenant's, whatever its lane says."""
        return await self._inner.create(replace(new, lane=replace(new.lane, tenant=self.tenant)))

    async def run(self, run_id: str) -> Run:
        """Return the row of a run of the tenant's."""
        try:
            run = await self._inner.run(run_id)
        except RunPruned:
            raise RunNotFound(run_id) from None
        if run.lane.tenant != self.tenant:
            raise RunNotFound(run_id)
        self._own.add(run_id)
        return run

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        """Return the row of a run of the tenant's, and how it ended."""
        await self._check(run_id)
        return await self._inner.end(run_id)

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        """List runs of the tenant's; there are none of another one."""
        if where.tenant not in (None, self.tenant):
            return RunPage((), None)
        return await self._inner.runs(replace(where, tenant=self.tenant), cursor=cursor, limit=limit)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        """Read the log of a run of the tenant's."""
        await self._check(run_id)
        return await self._inner.read(run_id, after, limit, control=control)

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        """Append control records to a run of the tenant's."""
        await self._check(run_id)
        return await self._inner.post(run_id, entries)

    async def lanes(self) -> list[LaneCount]:
        """Return the tenant's lanes."""
        return [count for count in await self._inner.lanes() if count.lane.tenant == self.tenant]

    async def now(self) -> float:
        """Return the store's time."""
        return await self._inner.now()

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        """Gather hints: they say that something may have come, and nothing of what."""
        return self._inner.watch(*topics)

    async def _check(self, run_id: str) -> None:
        if run_id not in self._own:
            await self.run(run_id)


def of_tenant(inner: Transport, tenant: str) -> Transport:
    """Return the store as this tenant sees it."""
    return cast("Transport", TenantTransport(inner, tenant))
