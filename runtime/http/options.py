"""What an embedder can set on the HTTP API: frozen values, checked once.

Laws kept here: 9 (a wrong setting is refused when it is made, not when a request meets it), 10 (the token is in
no repr), 11 (everything a client can make grow has a limit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ConfigInvalid

TOKEN_VARIABLE = "GREENROOM_TOKEN"  # noqa: S105 - the variable's name
LIMITS = {f"GREENROOM_{name.upper()}": name for name in ("max_streams", "max_client_streams")}
"""Variables that set a limit, and which."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "testserver")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiOptions:
    """How the API guards itself, and its limits.

    Attributes:
        token: the bearer token that every request must carry, but for the health checks; None for none.
        hosts: names that a request on a loopback address may ask for (`Host`, without port), against DNS
            rebinding; None for any.
        origins: web origins (`https://app.example.com`) whose pages may start and cancel runs; the API's own
            origin always may.
        max_body_bytes: the largest request body.
        max_depth: how deep a body's JSON may be nested.
        max_streams: event streams and long waits that may be open at once.
        max_client_streams: how many of them for one client: a token, or an address where none is needed.
        max_wait_s: the longest that `Prefer: wait=` keeps a request, seconds.

    Raises:
        ConfigInvalid: names the field and the fix.
    """

    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] | None = LOOPBACK_NAMES
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 1024 * 1024
    max_depth: int = 64
    max_streams: int = 10_000
    max_client_streams: int = 1_000
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        if self.token is not None and not (len(self.token) >= 16 and self.token.isascii() and self.token.isprintable()):
            raise ConfigInvalid("ApiOptions.token: use 16 or more printable ASCII characters")
        for name in ("max_body_bytes", "max_depth", "max_streams", "max_client_streams"):
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

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> ApiOptions:
        """Take the defaults, with the token of `GREENROOM_TOKEN` and the limits of `LIMITS` where they are set.

        Raises:
            ConfigInvalid: names the variable and the fix.
        """
        return cls(token=environ.get(TOKEN_VARIABLE) or None, **_limits(environ))


def _limits(environ: Mapping[str, str]) -> dict[str, int]:
    given = {name: environ[variable] for variable, name in LIMITS.items() if environ.get(variable)}
    for name, value in given.items():
        if not (value.isascii() and value.isdecimal() and int(value)):
            raise ConfigInvalid(f"GREENROOM_{name.upper()}: is {value!r}, must be a whole number from 1 on")
    return {name: int(value) for name, value in given.items()}
