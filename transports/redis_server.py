"""Which server a store is on: finding it, connecting to it, what it is, and errors that say what to do.

All keys of a store are in one slot, so there is one server to talk to at a time: the one of the URL, the primary that
the sentinels name, or the node of a cluster that has the slot. Whenever a connection is made, it is found anew.

redis-py brings sockets, TLS, AUTH and the protocol; nothing here or in it sends a command twice by itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Late

from .errors import StoreUnavailable
from .redis_url import Kind, Settings

UNREACHED = (RedisError, OSError, EOFError)
"""What is raised where a connection cannot be made, or is broken; in the middle of a batch a reply is no exception."""

PASSING = (
    "LOADING",
    "READONLY",
    "MOVED",
    "ASK",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "NOSCRIPT",
    "BUSY",
    "UNBLOCKED",
)
"""Replies that say: not done, and not here or not now."""

OLDEST = (7, 0)
WAITAOF = (7, 2)


class Elsewhere(Exception):
    """The server is not found, or not ready, at this moment."""


def passing(error: Exception) -> bool:
    """Whether a reply says that it may be done soon, or by another server."""
    return isinstance(error, ResponseError | Disconnected) and said(error).startswith(PASSING)


def said(error: BaseException) -> str:
    """What the server said, on one line; of some replies redis-py makes the first word a status."""
    word, text = getattr(error, "status_code", None), " ".join(str(error).split()) or type(error).__name__
    return text if word is None or text.startswith(word) else f"{word} {text}"


class Server:
    """Where the store is, and how to connect to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slot = key_slot(settings.base.encode())

    async def dial(self) -> AbstractConnection:
        """Connect to the server that has the store now.

        Raises:
            StoreUnavailable: it will not have us; says why.
            Elsewhere, or what is in `UNREACHED`: it cannot be reached at this moment.
        """
        host, port = await self.find()
        return await self.connect(host, port, self.settings.db)

    async def find(self) -> tuple[str, int]:
        """Return the host and port of the server that has the store now."""
        match self.settings.kind:
            case Kind.SINGLE:
                return self.settings.hosts[0]
            case Kind.SENTINEL:
                ask: tuple[str | int, ...] = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.settings.service)
            case Kind.CLUSTER:
                ask = ("CLUSTER", "SLOTS")
        reason = ""
        for host, port in self.settings.hosts:
            try:
                connection = await self.connect(host, port, 0)
                try:
                    found = self._read(await self.ask(connection, *ask), host)
                finally:
                    await hang_up(connection)
            except UNREACHED as error:
                reason = f"{host}:{port}: {said(error)}"
                continue
            if found is not None:
                return found
            reason = f"{host}:{port} does not know it"
        what = f"service {self.settings.service!r}" if self.settings.kind is Kind.SENTINEL else f"slot {self.slot}"
        raise Elsewhere(f"nobody says where {what} is ({reason})")

    def _read(self, answer: Any, host: str) -> tuple[str, int] | None:
        if self.settings.kind is Kind.SENTINEL:
            return (answer[0].decode(), int(answer[1])) if answer else None
        for first, last, primary, *_ in answer:
            if first <= self.slot <= last:
                return (primary[0].decode() if primary[0] else host), int(primary[1])
        return None

    async def connect(self, host: str, port: int, db: int) -> AbstractConnection:
        """Connect to a server, as who we are."""
        settings = self.settings
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": db,
            "username": settings.user or None,
            "password": settings.password or None,
            "socket_timeout": None,
            "socket_connect_timeout": settings.timeout_s,
            "client_name": "greenroom",
            "driver_info": None,
            "protocol": 2,
        }
        if settings.kind is Kind.SENTINEL and (host, port) in settings.hosts:
            options |= {"username": None, "password": None}
        if settings.tls:
            options |= {
                "ssl_ca_certs": settings.ca or None,
                "ssl_certfile": settings.cert or None,
                "ssl_keyfile": settings.key or None,
            }
        connection: AbstractConnection = (SSLConnection if settings.tls else Connection)(**options)
        try:
            async with asyncio.timeout(settings.timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await hang_up(connection)
            if isinstance(error, TimeoutError):
                raise Late(f"no answer within {settings.timeout_s:g} s") from None
            if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
                raise self.refused(error) from None
            if isinstance(error, Disconnected) and isinstance(error.__context__, ssl.SSLError | FileNotFoundError):
                raise self.refused(error) from None
            raise
        return connection

    async def ask(self, connection: AbstractConnection, *command: str | int | bytes) -> Any:
        """Send one command; return its reply."""
        async with asyncio.timeout(self.settings.timeout_s):
            await connection.send_command(*command)
            return await connection.read_response()

    def unreached(self, reason: BaseException | str) -> StoreUnavailable:
        """Say that the server cannot be reached, and what to do."""
        text = reason if isinstance(reason, str) else said(reason)
        return StoreUnavailable(
            f"{self.settings.url} cannot be reached ({text}): check that the server runs, the address, and the network"
        )

    def refused(self, error: BaseException) -> StoreUnavailable:
        """Say what a reply of the server means, and what to do."""
        url, text = self.settings.url, said(error)
        if isinstance(error, NoPermissionError) or text.startswith("NOPERM"):
            advice = (
                f"give the user ~{self.settings.base}* &{self.settings.base}* and the commands in docs/transports.md"
            )
        elif isinstance(error, AuthenticationError | AuthorizationError) or text.startswith(("NOAUTH", "WRONGPASS")):
            advice = "check user and password in the URL, rediss://user:password@host"
        elif "certificate" in text.lower() or "ssl" in text.lower():
            advice = "check the certificates: '?ca=' names the authority's file, '?cert=' and '?key=' our own"
        elif "OOM" in text:
            advice = "the server's memory is full and nothing was written: raise maxmemory, or prune old runs"
        elif text.startswith("MISCONF"):
            advice = "the server cannot save to its disk and takes no writes: see its log, and free some space"
        elif text.startswith("NOREPLICAS"):
            advice = "too few replicas are in touch with the server: see min-replicas-to-write, and the replicas"
        else:
            advice = "see the server's log"
        return StoreUnavailable(f"{url} refused ({text}): {advice}")


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection, whatever state it is in."""
    with suppress(*UNREACHED):
        await connection.disconnect(nowait=True)


def check(settings: Settings, about: dict[str, str]) -> None:
    """Check that a server will do, from its INFO.

    Raises:
        StoreUnavailable: it will not; says why and what to do.
    """
    version = about.get("redis_version", "0")
    known = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if known < OLDEST:
        raise StoreUnavailable(f"{settings.url} speaks Redis {version}: use Redis 7.0 or newer, or Valkey")
    if about.get("role") == "slave":
        raise StoreUnavailable(f"{settings.url} is a replica: name its primary, or use redis+sentinel://")
    if about.get("cluster_enabled") == "1" and settings.kind is not Kind.CLUSTER:
        raise StoreUnavailable(f"{settings.url} is a node of a cluster: use redis+cluster://")
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not settings.evictable:
        raise StoreUnavailable(
            f"{settings.url} throws keys away when its memory is full (maxmemory-policy {policy}), runs too: "
            "set it to noeviction, or add '?eviction=allow' to the URL if losing runs is fine"
        )
    if settings.wait_aof and known < WAITAOF:
        raise StoreUnavailable(f"{settings.url} speaks Redis {version}, and wait=aof needs 7.2: drop it, or upgrade")
    if settings.wait_aof and about.get("aof_enabled") != "1":
        raise StoreUnavailable(
            f"{settings.url} has no append-only file to wait for: set appendonly yes, or drop wait=aof"
        )


def durability(settings: Settings, about: dict[str, str], fsync: str) -> str:
    """Return what an acknowledged write survives, in one sentence.

    Args:
        settings: what is waited for.
        about: the server's INFO.
        fsync: its `appendfsync`; "" when it does not say.
    """
    if about.get("aof_enabled") != "1":
        text = "the server has no append-only file: a write survives its end only if a snapshot was saved since"
    elif settings.wait_aof or fsync == "always":
        text = (
            "an acknowledged write survives the end of the server and, as far as its disk keeps its word about fsync, "
            f"the loss of power (append-only file, {'WAITAOF' if settings.wait_aof else 'appendfsync always'})"
        )
    else:
        last = {"everysec": "the last second or two", "no": "what the system had not written yet"}
        text = (
            "an acknowledged write survives the end of the server; the loss of power takes "
            f"{last.get(fsync, 'what was not synced')} (append-only file, appendfsync {fsync or 'unknown'})"
        )
    replicas = int(about.get("connected_slaves", "0"))
    if settings.wait_replicas:
        return f"{text}; {settings.wait_replicas} replica(s) have it too"
    if replicas or settings.kind is not Kind.SINGLE:
        return f"{text}; a failover may lose the last writes, which reach replicas a little later"
    return text


def read_info(text: bytes) -> dict[str, str]:
    """Read a reply to INFO."""
    lines: Sequence[str] = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
