"""What a Redis URL says: where the store is, who we are there, and how it is used.

`redis://[user[:password]@]host[:port][/db][?options]`, `rediss://` for TLS, `redis+sentinel://host:port,.../service`
and `redis+cluster://host:port,...` (`rediss+sentinel://`, `rediss+cluster://`). A secret is here and nowhere else: what
`Settings` shows of itself has none.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import StoreUnavailable

PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
OPTIONS = ("ca", "cert", "eviction", "key", "prefix", "timeout", "wait")


class Kind(enum.StrEnum):
    """Who knows where the primary is."""

    SINGLE = ""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A URL, read.

    Attributes:
        url: without secrets and options.
        kind: what stands at `hosts`.
        hosts: host and port; one, unless they are sentinels or nodes of a cluster.
        service: the name that the sentinels know the primary by.
        db: its number.
        user, password: "" for none.
        tls: whether to speak TLS.
        ca, cert, key: files of the authority, and of our own certificate; "" for the system's, and for none.
        prefix: what every key begins with, in braces.
        timeout_s: how long an answer, or a server to connect to, is waited for.
        wait_aof: whether a write is acknowledged only when it is in the server's append-only file, on disk.
        wait_replicas: by how many replicas a write has to be had before it is acknowledged.
        evictable: whether a server that evicts keys will do.
    """

    url: str
    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    db: int = 0
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    prefix: str = "greenroom"
    timeout_s: float = 5.0
    wait_aof: bool = False
    wait_replicas: int = 0
    evictable: bool = False

    @property
    def base(self) -> str:
        """What every key begins with: its braces keep all of them in one slot."""
        return f"{{{self.prefix}}}:"


def parse_url(url: str) -> Settings:
    """Read a URL.

    Raises:
        StoreUnavailable: it cannot be read; says which part, and never shows the password.
    """
    scheme, _, rest = url.partition("://")
    first, _, kind = scheme.partition("+")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    secrets, _, listed = authority.rpartition("@")
    user, _, password = secrets.partition(":")
    shown = f"{scheme}://{listed}{'/' if path else ''}{path}"
    hosts = tuple(_host(shown, text, PORTS[kind]) for text in listed.split(","))
    service = ""
    if kind == Kind.SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise StoreUnavailable(f"{shown} names no service: write redis+sentinel://host:port,host:port/service")
    if kind == Kind.SINGLE and len(hosts) > 1:
        raise StoreUnavailable(f"{shown} names several hosts: use redis+sentinel:// or redis+cluster://")
    if path and not path.isdecimal():
        raise StoreUnavailable(f"{shown} names database {path!r}: write its number, as in redis://host:6379/0")
    if kind == Kind.CLUSTER and int(path or 0):
        raise StoreUnavailable(f"{shown} names database {path}: a cluster has database 0 alone, use '?prefix=' instead")
    options = _options(shown, query)
    return Settings(
        url=shown,
        kind=Kind(kind),
        hosts=hosts,
        service=service,
        db=int(path or 0),
        user=unquote(user),
        password=unquote(password),
        tls=first == "rediss",
        ca=options.get("ca", ""),
        cert=options.get("cert", ""),
        key=options.get("key", ""),
        prefix=_prefix(shown, options.get("prefix", "greenroom")),
        timeout_s=_seconds(shown, options.get("timeout", "5")),
        wait_aof=options.get("wait") == "aof",
        wait_replicas=_replicas(shown, options.get("wait", "0")),
        evictable=_evictable(shown, options.get("eviction", "refuse")),
    )


def _host(shown: str, text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "localhost", parts.port or port
    except ValueError:
        raise StoreUnavailable(f"{shown} has a bad address {text!r}: write host:port") from None


def _options(shown: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise StoreUnavailable(f"{shown} has an unknown option {name!r}: use {', '.join(OPTIONS)}")
    return options


def _prefix(shown: str, text: str) -> str:
    if not text or not text.isascii() or not all(c.isalnum() or c in "_-." for c in text):
        raise StoreUnavailable(f"{shown} has prefix={text!r}: use letters, digits, '_', '-' and '.'")
    return text


def _seconds(shown: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 600:
        raise StoreUnavailable(f"{shown} has timeout={text!r}: give seconds, 0.05 to 600")
    return seconds


def _replicas(shown: str, text: str) -> int:
    if text == "aof":
        return 0
    if not (text.isdecimal() and len(text) < 3):
        raise StoreUnavailable(f"{shown} has wait={text!r}: use wait=aof, or a number of replicas")
    return int(text)


def _evictable(shown: str, text: str) -> bool:
    if text not in ("allow", "refuse"):
        raise StoreUnavailable(f"{shown} has eviction={text!r}: use eviction=allow, or leave it out")
    return text == "allow"
