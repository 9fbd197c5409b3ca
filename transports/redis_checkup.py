"""What to know of a Redis server before runs are trusted to it: each note one sentence, with what to do.

Why: most of what makes a store safe there is the server's configuration, which nobody looks at until it has mattered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from .redis_schema import VERSION
from .redis_server import UNREACHED, Elsewhere, Server, check, hang_up, read_info
from .redis_url import Settings, parse_url

SKEW_S = 1.0
"""How far the server's clock and this host's may be apart before it is worth a word, seconds."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Note(NamedTuple):
    """What was looked at, whether it is well, and what it is or what to do."""

    what: str
    well: bool
    text: str


async def checkup(url: str, *, clock: Callable[[], float] = time.time) -> list[Note]:
    """Look at the server of a store that can be opened.

    Args:
        url: of the store.
        clock: this host's, seconds since the epoch.

    Raises:
        StoreUnavailable: it will not do, refuses us, or cannot be reached.
    """
    server = Server(parse_url(url))
    try:
        connection = await server.dial()
    except (*UNREACHED, Elsewhere) as error:
        raise server.unreached(error) from None
    try:
        about = read_info(await server.ask(connection, "INFO", "everything"))
        check(server.settings, about)
        asked = clock()
        seconds, micros = await server.ask(connection, "TIME")
        skew = int(seconds) + int(micros) / 1e6 - (asked + clock()) / 2
        fsync = await _allowed(server, connection, "CONFIG", "GET", "appendfsync")
        schema = await server.ask(connection, "GET", f"{server.settings.base}schema")
        mighty = await _allowed(server, connection, "ACL", "GETUSER", "default")
        return [
            _version(about),
            _schema(int(schema or 0)),
            _memory(about),
            *_persistence(about, fsync[1].decode() if fsync else "", server.settings),
            _clock(skew),
            _access(server.settings, mighty=mighty is not None),
        ]
    except UNREACHED as error:
        raise (server.refused if isinstance(error, ResponseError) else server.unreached)(error) from None
    finally:
        await hang_up(connection)


async def _allowed(server: Server, connection: AbstractConnection, *command: str) -> list[bytes] | None:
    """Return the answer, if we may ask."""
    try:
        answer: list[bytes] = await server.ask(connection, *command)
    except ResponseError:
        return None
    return answer


def _version(about: dict[str, str]) -> Note:
    if "valkey_version" in about:
        return Note("server", True, f"Valkey {about['valkey_version']}")
    return Note("server", True, f"Redis {about.get('redis_version', 'of an unknown version')}")


def _schema(number: int) -> Note:
    if 0 < number < VERSION:
        text = f"{number}: what opens the store next brings it to {VERSION}, and then older versions refuse it"
        return Note("schema", False, text)
    return Note("schema", True, f"{number}, which this greenroom writes" if number else "none: the store is new")


def _memory(about: dict[str, str]) -> Note:
    policy, limit = about.get("maxmemory_policy", "unknown"), int(about.get("maxmemory", "0"))
    if policy != "noeviction":
        text = f"maxmemory-policy {policy} throws runs away when memory is full: set it to noeviction"
        return Note("memory", False, text)
    if not limit:
        text = "noeviction, but no limit, so the system may kill the server: set maxmemory below what the host has"
        return Note("memory", False, text)
    used = int(about.get("used_memory", "0")) / limit
    if used > 0.8:
        text = f"{used:.0%} of maxmemory is used, and when it is full nothing is written: raise it, or set a retention"
        return Note("memory", False, text)
    return Note("memory", True, f"noeviction, {used:.0%} of maxmemory is used")


def _persistence(about: dict[str, str], fsync: str, settings: Settings) -> Iterator[Note]:
    if about.get("aof_enabled") != "1":
        yield Note("persistence", False, "there is no append-only file, a restart loses runs: set appendonly yes")
    elif about.get("aof_last_write_status", "ok") != "ok":
        yield Note("persistence", False, "the append-only file cannot be written: free some space on the server's disk")
    elif settings.wait_aof or fsync == "always":
        yield Note("persistence", True, "append-only file, on disk before a write is acknowledged")
    else:
        text = f"append-only file, appendfsync {fsync or 'unknown'}, so a power cut may take acknowledged writes: "
        yield Note("persistence", False, f"{text}set it to always, or add '?wait=aof' to the URL")
    replicas = int(about.get("connected_slaves", "0"))
    if replicas and not settings.wait_replicas:
        text = f"{replicas} replica(s), which follow a little later, so a failover may lose acknowledged writes: "
        yield Note("replicas", False, f"{text}add '?wait=1' to the URL, and set min-replicas-to-write 1 on the server")
    elif replicas:
        yield Note("replicas", True, f"{replicas}, and {settings.wait_replicas} must have a write before it counts")


def _clock(skew_s: float) -> Note:
    if abs(skew_s) <= SKEW_S:
        return Note("clock", True, f"the server's is within {SKEW_S:g} s of this host's")
    side = "ahead of" if skew_s > 0 else "behind"
    text = f"the server's is {abs(skew_s):.1f} s {side} this host's: set both by NTP; leases and times are the server's"
    return Note("clock", False, text)


def _access(settings: Settings, *, mighty: bool) -> Note:
    exposed = any(host not in LOOPBACK for host, _ in settings.hosts)
    if not settings.password and exposed:
        text = "no password is asked for, on a server that others can reach: make a user, see docs/transports.md"
        return Note("access", False, text)
    if mighty and exposed:
        text = f"this user may do everything: make one that is limited to ~{settings.base}*, see docs/transports.md"
        return Note("access", False, text)
    if exposed and not settings.tls:
        return Note("access", False, "the password and all runs travel in the clear: use rediss://")
    return Note("access", True, "on this host" if not exposed else "a limited user, over TLS")
