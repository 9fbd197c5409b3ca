"""Who may ask the gateway, on whose behalf, and how much. Keys are known by their digests alone.

Law kept here: 10 (a key is compared in constant time, as a digest, and is kept nowhere).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..errors import GreenroomError
from ..router.bucket import RequestLimit

BURST_S = 6.0
"""Requests of a key that may come at once, in seconds of its limit."""


class KeysInvalid(GreenroomError):
    """A file of keys is wrong; the message names the key, the field and the fix."""


class GatewayKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of the gateway.

    Attributes:
        sha256: the key's digest, 64 hexadecimal digits.
        tenant: whose calls they are, for turns and budgets; by default the key's name.
        priority: of its calls; higher goes first.
        requests_per_min: in any 60 seconds; None: no bound.
        concurrency: calls under way and waiting at once; None: no bound.
    """

    sha256: str
    tenant: str = ""
    priority: int = 0
    requests_per_min: float | None = None
    concurrency: int | None = None


class Holder:
    """A key at work."""

    def __init__(self, name: str, key: GatewayKey) -> None:
        self.name = name
        self.key = key
        self.digest = bytes.fromhex(key.sha256)
        self.tenant = key.tenant or name
        self.under_way = 0
        self._limit = RequestLimit(key.requests_per_min, BURST_S) if key.requests_per_min else None

    def admit(self, now: float) -> float:
        """Take the room for a request; return the seconds after which to try again, 0: it is admitted."""
        if self.under_way >= (self.key.concurrency or math.inf):
            return 1.0
        wait = self._limit.wait(now) if self._limit is not None else 0.0
        if wait == 0.0 and self._limit is not None:
            self._limit.take(now)
            self._limit.left(now)
        return wait


class Keys:
    """All keys. With none at all the gateway is open, and has to stay on loopback."""

    def __init__(self, keys: dict[str, GatewayKey] | None = None) -> None:
        self._holders = []
        for name, key in (keys or {}).items():
            _check(name, key)
            self._holders.append(Holder(name, key))
        self._nobody = Holder("open", GatewayKey(sha256="00" * 32))

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Read a TOML file: a table for each key.

        Raises:
            KeysInvalid: names the key, the field and the fix.
        """
        try:
            tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise KeysInvalid(f"{path}: {error.strerror}: give a file that can be read") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise KeysInvalid(f"{path}: {error}") from None
        keys = {}
        for name, table in tables.items():
            try:
                keys[name] = msgspec.convert(table, GatewayKey)
            except msgspec.ValidationError as error:
                raise KeysInvalid(f"{path}: {name}: {error}") from None
        if not keys:
            raise KeysInvalid(f"{path}: holds no key: write a table for one, such as [acme] with its sha256")
        return cls(keys)

    @property
    def open(self) -> bool:
        """Whether anybody may ask."""
        return not self._holders

    def find(self, token: str) -> Holder | None:
        """Return whose key this is; it takes as long whether it is one or not."""
        if self.open:
            return self._nobody
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for holder in self._holders:
            if hmac.compare_digest(holder.digest, digest):
                found = holder
        return found


def new_key(draw: Callable[[int], str] = secrets.token_urlsafe) -> tuple[str, str]:
    """Make a key; return it and its digest."""
    key = f"gr-{draw(32)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def _check(name: str, key: GatewayKey) -> None:
    problems: Iterable[tuple[bool, str]] = (
        (not _is_digest(key.sha256), "sha256 is no digest: give the 64 hexadecimal digits"),
        (key.requests_per_min is not None and not key.requests_per_min > 0, "requests_per_min: give a number above 0"),
        (key.concurrency is not None and key.concurrency < 1, "concurrency: give 1 or more"),
    )
    for wrong, says in problems:
        if wrong:
            raise KeysInvalid(f"key {name}: {says}")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
