"""The client of one API: starts runs, lists them, and gives handles on them."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx2
import msgspec

from ..errors import ConfigInvalid
from ..payload import to_json
from .blocking import Blocking, open_blocking
from .objects import RunInfo, RunPage
from .run import RemoteRun
from .wire import Wire


class Client:
    """A client of greenroom's HTTP API.

        async with Client("http://127.0.0.1:8800") as client:
            run = await client.start("newsroom", {"topic": "tea"})
            print(await run.result(timeout=60))

    It belongs to one event loop, and to the `async with` around its use.

    Args:
        base_url: where the API is, with the prefix it is mounted at.
        token: the server's `GREENROOM_TOKEN`, where it has one.
        patience_s: how long to try to reach a server that does not answer, seconds.
        transport: what makes the connections; `httpx2.ASGITransport(app)` needs no server.

    Raises:
        ConfigInvalid: an argument cannot be; names it and the fix.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        patience_s: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")) or not httpx2.URL(base_url).host:
            raise ConfigInvalid("Client.base_url: is no URL of an API: write http://127.0.0.1:8800")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ConfigInvalid("Client.token: use the server's token, printable ASCII characters")
        if not patience_s >= 0:
            raise ConfigInvalid(f"Client.patience_s: is {patience_s}, must be 0 (never try again) or more seconds")
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        limits = httpx2.Limits(max_connections=None)
        self._http = httpx2.AsyncClient(base_url=base_url, headers=headers, transport=transport, limits=limits)
        self._wire = Wire(self._http, patience_s)

    def __repr__(self) -> str:
        return f"Client({self._wire.place!r})"

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.__aexit__(kind, error, trace)

    @classmethod
    @contextmanager
    def blocking(cls, base_url: str, **options: Any) -> Iterator[Blocking]:
        """Use the same client from code that is not async: calls block, streams are plain iterators.

            with Client.blocking("http://127.0.0.1:8800") as client:
                run = client.start("newsroom", {"topic": "tea"})
                for shown in run.text_stream():
                    print(shown.delta, end="")

        Its event loop runs in a thread that ends with the block; the client may be used from several threads.
        """
        with open_blocking(lambda: cls(base_url, **options), (Client, RemoteRun)) as client:
            yield client

    async def start(
        self,
        workflow: str,
        input: object = None,  # noqa: A002 - the word of the API
        *,
        key: str | None = None,
        wait_s: float = 0.0,
        run_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
        tenant: str = "",
        delay_s: float = 0.0,
    ) -> RemoteRun:
        """Start a run, once, however often the connection breaks.

        Args:
            workflow: its name.
            input: its arguments by name.
            key: the same key and input are the same run for ever; by default each call is a run of its own.
            wait_s: seconds to wait for its end; `info` of the run then has its result.
            run_id: by default the server's choice.
            tags: labels to list by.
            metadata: what to find again.
            timeout_s: the run's deadline, seconds from now; by default the workflow's.
            priority: runs of a higher one go first.
            tenant: runs of one priority take turns by it.
            delay_s: seconds from now before it may start.

        Raises:
            Refused: `unknown-workflow`, `invalid-input`, `key-reused`, `run-exists`.
        """
        body: dict[str, object] = {
            "input": {} if input is None else msgspec.Raw(to_json(input, f"the input of {workflow}")),
            "run_id": run_id,
            "tags": list(tags),
            "metadata": dict(metadata or {}),
            "timeout_s": timeout_s,
            "priority": priority,
            "tenant": tenant,
            "delay_s": delay_s,
        }
        path = f"v1/workflows/{quote(workflow, safe='')}/runs"
        _, info = await self._wire.call("POST", path, RunInfo, body=body, key=key or uuid4().hex, wait_s=wait_s)
        return RemoteRun(self._wire, info.id, info)

    def run(self, run_id: str) -> RemoteRun:
        """Give the handle of a run that was started before; nothing is asked yet."""
        return RemoteRun(self._wire, run_id)

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        created_after: datetime.datetime | None = None,
        page: int = 100,
    ) -> AsyncGenerator[RunInfo]:
        """List runs, newest first; pages are fetched as they are needed.

        Args:
            workflow: only its runs.
            status: only those that stand so, such as `failed`.
            tag: only those with this tag.
            created_after: only those that are newer; with its zone.
            page: how many to fetch at once.
        """
        after = None if created_after is None else created_after.isoformat()
        where = {"workflow": workflow, "status": status, "tag": tag, "created_after": after}
        query: dict[str, str | int] = {name: value for name, value in where.items() if value is not None}
        query["limit"] = page
        while True:
            _, found = await self._wire.call("GET", "v1/runs", RunPage, query=query)
            for info in found.data:
                yield info
            if found.next_cursor is None:
                return
            query["cursor"] = found.next_cursor
