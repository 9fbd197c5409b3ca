"""What workers and runs look like from a terminal: through an API by its URL, or through the store itself.

Both give the API's own objects, so that whatever is drawn from them is drawn the same way.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import anyio
import httpx2
import msgspec

from ...transports import RunFilter, Transport, open_transport
from ..client.wire import Wire
from ..errors import ConfigInvalid
from ..http import fleet, views
from ..http.fleet import ProviderList, TreeList, WorkerTree
from ..http.views import RunList
from ..portraits import WANTED_S, want
from .store import must_exist
from .target import settle

T = TypeVar("T")

PATIENCE_S = 3.0
"""How long an API that does not answer is tried, seconds."""

LOOK_S = 0.25
"""Between two looks for workers that have not shown themselves, seconds."""

SILENT_S = 60.0
"""A worker whose heartbeat is so much older than the newest one is not waited for, seconds."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """All that `top` shows, at one moment."""

    workers: tuple[WorkerTree, ...]
    providers: ProviderList
    runs: RunList


class Source(Protocol):
    """Where it is seen."""

    place: str
    """For people."""

    async def trees(self, worker: str | None = None) -> TreeList:
        """The workers' trees, or one worker's; asks the workers to show themselves."""
        ...

    async def providers(self) -> ProviderList:
        """The deployments over the workers."""
        ...

    async def runs(self, limit: int) -> RunList:
        """The newest runs."""
        ...


class StoreSource:
    """Seen in the store."""

    def __init__(self, transport: Transport) -> None:
        self.place = transport.url
        self._transport = transport
        self._again = 0.0

    async def trees(self, worker: str | None = None) -> TreeList:
        """Read the portraits, and have them made."""
        if anyio.current_time() >= self._again:
            await want(self._transport)
            self._again = anyio.current_time() + WANTED_S / 4
        return await fleet.trees(self._transport, worker)

    async def providers(self) -> ProviderList:
        """Read the portraits."""
        return await fleet.providers(self._transport)

    async def runs(self, limit: int) -> RunList:
        """Read the rows."""
        return views.run_list("", await self._transport.runs(RunFilter(), limit=limit))


class ApiSource:
    """Seen through an API."""

    def __init__(self, wire: Wire) -> None:
        self.place = wire.place
        self._wire = wire

    async def trees(self, worker: str | None = None) -> TreeList:
        """Ask for the trees."""
        return await self._ask("/v1/system/tree", TreeList, {} if worker is None else {"worker": worker})

    async def providers(self) -> ProviderList:
        """Ask for the deployments."""
        return await self._ask("/v1/system/providers", ProviderList)

    async def runs(self, limit: int) -> RunList:
        """Ask for a page of runs."""
        return await self._ask("/v1/runs", RunList, {"limit": limit})

    async def _ask(self, path: str, type_: type[T], query: Mapping[str, str | int] | None = None) -> T:
        _, answer = await self._wire.call("GET", path, type_, query=query)
        return answer


@asynccontextmanager
async def open_source(options: Namespace) -> AsyncIterator[Source]:
    """Open what the options name: `--url`, with the token of `GREENROOM_TOKEN`, or else the store.

    Raises:
        ConfigInvalid: the URL is none.
        StoreUnavailable: the store is not there.
    """
    if options.url is None:
        store = settle(options, level="error").store
        must_exist(store)
        async with open_transport(store) as transport:
            yield StoreSource(transport)
        return
    if not options.url.startswith(("http://", "https://")) or not httpx2.URL(options.url).host:
        raise ConfigInvalid("--url is no URL of an API: write http://127.0.0.1:8800")
    token = os.environ.get("GREENROOM_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(base_url=options.url, headers=headers) as http:
        yield ApiSource(Wire(http, PATIENCE_S))


async def shown(source: Source, worker: str | None, wait_s: float) -> TreeList:
    """Return the trees once every worker that is alive has shown itself, or as they are after `wait_s` seconds."""
    until = anyio.current_time() + wait_s
    while True:
        found = await source.trees(worker)
        if not mute(found) or anyio.current_time() >= until:
            return found
        await anyio.sleep(LOOK_S)


def mute(found: TreeList) -> list[str]:
    """Name the workers that are alive and have not shown themselves."""
    newest = max((one.beat for one in found.data), default=None)
    return [
        one.worker
        for one in found.data
        if one.tree is None and newest is not None and (newest - one.beat).total_seconds() < SILENT_S
    ]


async def look(source: Source, runs: int) -> Sight:
    """Look at all of it."""
    trees = await source.trees()
    return Sight(workers=trees.data, providers=await source.providers(), runs=await source.runs(runs))
