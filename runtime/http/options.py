"""What an embedder can set on the HTTP API: frozen values, checked once.

Laws kept here: 9 (a wrong setting is refused when it is made, not when a request meets it), 10 (of a token only its
digest is kept), 11 (everything a client can make grow has a limit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path

from ..errors import ConfigInvalid
from .tokens import Token, Tokens, read_tokens

TOKEN_VARIABLE = "GREENROOM_TOKEN"  # noqa: S105 - the variable's name
TOKENS_VARIABLE = "GREENROOM_TOKENS"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "testserver")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiOptions:
    """How the API guards itself, and its limits.

    Attributes:
        tokens: the bearer tokens of which every request must carry one, but for the health checks; none: it is open.
        token: one more, with all scopes over all tenants.
        hosts: names that a request on a loopback address may ask for (`Host`, without port), against DNS
            rebinding; None for any.
        origins: web origins (`https://app.example.com`) whose pages may start and cancel runs; the API's own
            origin always may.
        gensx: also serve the routes that GenSX's client asks for, under `/gensx`.
        max_body_bytes: the largest request body.
        max_headers: how many headers a request may have.
        max_header_bytes: how long they may be together.
        max_depth: how deep a body's JSON may be nested.
        max_streams: event streams and long waits that may be open at once.
        max_wait_s: the longest that `Prefer: wait=` keeps a request, seconds.

    Raises:
        ConfigInvalid: names the field and the fix.
    """

    token: InitVar[str | None] = None
    tokens: tuple[Token, ...] = ()
    hosts: tuple[str, ...] | None = LOOPBACK_NAMES
    origins: tuple[str, ...] = ()
    gensx: bool = False
    max_body_bytes: int = 1024 * 1024
    max_headers: int = 100
    max_header_bytes: int = 32 * 1024
    max_depth: int = 64
    max_streams: int = 10_000
    max_wait_s: float = 60.0

    def __post_init__(self, token: str | None) -> None:
        if token is not None:
            try:
                given = Token(name="token", scopes=("admin",), token=token)
            except ConfigInvalid as error:
                raise ConfigInvalid(f"ApiOptions.token: {str(error).rpartition(': ')[2]}") from None
            object.__setattr__(self, "tokens", (given, *self.tokens))
        Tokens(self.tokens)
        for name in ("max_body_bytes", "max_headers", "max_header_bytes", "max_depth", "max_streams"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigInvalid(f"ApiOptions.{name}: is {value}, must be 1 or more")
        if self.max_wait_s < 0:
            raise ConfigInvalid(f"ApiOptions.max_wait_s: is {self.max_wait_s}, must be 0 (never wait) or more seconds")
        for name in ("hosts", "origins"):
            if isinstance(getattr(self, name), str):
                raise ConfigInvalid(f"ApiOptions.{name}: is one string, must be a tuple of strings")
        for origin in self.origins:
            if "://" not in origin or origin.endswith("/"):
                raise ConfigInvalid(f"ApiOptions.origins: {origin!r} is no origin: write https://app.example.com")

    @property
    def secured(self) -> bool:
        """Whether requests must carry a token."""
        return bool(self.tokens)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], tokens: tuple[Token, ...] = ()) -> ApiOptions:
        """Take the defaults, with the token of `GREENROOM_TOKEN` and those of the file that `GREENROOM_TOKENS` names.

        Args:
            environ: the environment.
            tokens: those that are configured elsewhere; the file goes before them.

        Raises:
            ConfigInvalid: names the variable or the file, and the fix.
        """
        path = environ.get(TOKENS_VARIABLE)
        return cls(token=environ.get(TOKEN_VARIABLE) or None, tokens=read_tokens(Path(path)) if path else tokens)
