"""The tokens that an API takes: each with scopes, for one tenant or for all.

Why: whoever only looks should not be able to cancel, and one customer's service should not see another one's runs.

Law kept here: 10 (a token is kept as its digest, compared in constant time, and is in no repr, log or answer).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigInvalid
from .access import Access, Scope

LEAST = 16
"""Characters of the shortest token."""

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token, told by itself or by its SHA-256 alone.

    Attributes:
        name: who has it; refusals say it.
        scopes: what it may do: `read` (look, follow), `run` (start, signal, decide, cancel, fork, retry), `admin`
            (all of that, and what concerns all tenants). None of the first two implies the other.
        tenant: the only one whose runs there are for it, and whose it starts; "" for all. Letters, digits, `_`, `-`.
        sha256: its digest, 64 hexadecimal digits; made from `token` where that is given.

    Raises:
        ConfigInvalid: names the token, the field and the fix.
    """

    name: str
    scopes: Sequence[str]
    tenant: str = ""
    sha256: str = field(default="", repr=False)
    token: InitVar[str | None] = None

    def __post_init__(self, token: str | None) -> None:
        if not (0 < len(self.name) <= 100 and self.name.isascii() and self.name.isprintable()):
            raise ConfigInvalid("tokens: name: give 1 to 100 printable ASCII characters, to know the token by")
        if isinstance(self.scopes, str) or not self.scopes or not set(self.scopes) <= set(Scope):
            raise self._wrong("scopes", f"give a list of some of {', '.join(Scope)}")
        if self.tenant and not _TENANT.fullmatch(self.tenant):
            raise self._wrong("tenant", "use 1 to 64 letters, digits, '_' and '-'")
        if self.tenant and Scope.ADMIN in self.scopes:
            raise self._wrong("tenant", "admin is over all tenants: leave out one of the two")
        if (token is None) == (not self.sha256):
            raise self._wrong("token, sha256", "give one of them: the token, or its digest")
        if token is None and not _DIGEST.fullmatch(self.sha256):
            raise self._wrong("sha256", "is no digest: give 64 hexadecimal digits, in small letters")
        if token is not None:
            if not (len(token) >= LEAST and token.isascii() and token.isprintable()):
                raise self._wrong("token", f"use {LEAST} or more printable ASCII characters")
            object.__setattr__(self, "sha256", digest(token).hex())

    def _wrong(self, what: str, says: str) -> ConfigInvalid:
        return ConfigInvalid(f"token {self.name!r}: {what}: {says}")

    @property
    def access(self) -> Access:
        """What it gives access to."""
        held = tuple(scope for scope in Scope if scope in self.scopes or Scope.ADMIN in self.scopes)
        return Access(self.name, held, self.tenant)


class Tokens:
    """All that an API takes.

    Raises:
        ConfigInvalid: two of them have one name.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._known: dict[str, tuple[bytes, Access]] = {}
        for token in tokens:
            if token.name in self._known:
                raise ConfigInvalid(f"two tokens are named {token.name!r}: give one another name")
            self._known[token.name] = (bytes.fromhex(token.sha256), token.access)

    def find(self, given: str) -> Access | None:
        """Return what this token gives access to; it takes as long whether there is one or not."""
        sent, found = digest(given), None
        for known, access in self._known.values():
            if hmac.compare_digest(known, sent):
                found = access
        return found


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `[[tokens]]` table."""

    name: str
    scopes: list[str]
    tenant: str = ""
    token: str | None = None
    sha256: str = ""


def from_rows(rows: object, where: str) -> tuple[Token, ...]:
    """Make tokens of `[[tokens]]` tables; `where` they stand.

    Raises:
        ConfigInvalid: names where, the token, the field and the fix.
    """
    try:
        found = msgspec.convert(rows, list[Row])
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"{where}: tokens: {error}: give name, scopes, and token or sha256") from None
    try:
        return tuple(
            Token(name=row.name, scopes=row.scopes, tenant=row.tenant, sha256=row.sha256, token=row.token)
            for row in found
        )
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{where}: {error}") from None


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a TOML file of `[[tokens]]`.

    Raises:
        ConfigInvalid: it cannot be read, or holds none; names the file, the token, the field and the fix.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: give a file of tokens that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: {error}") from None
    if table.keys() != {"tokens"} or not table["tokens"]:
        raise ConfigInvalid(f"{path}: give one or more [[tokens]], and nothing else")
    return from_rows(table["tokens"], str(path))


def digest(token: str) -> bytes:
    """Make the digest that a token is known by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def new_token() -> tuple[str, str]:
    """Make a token; return it and its digest."""
    token = f"grt-{secrets.token_urlsafe(32)}"
    return token, digest(token).hex()
