"""Who may ask: host, token and origin, checked before anything is read.

Why: a runtime on a developer's machine is one browser tab away from every web page. A page can reach loopback
by rebinding its own DNS name (so `Host` is checked there), and can post across sites without reading the
answer (so mutations that a browser sends from elsewhere are refused).

Laws kept here: 10 (a token is never repeated in an answer), 11 (headers have limits).
"""

from __future__ import annotations

import functools
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from . import dashboard
from .access import KEY, NOBODY, OPEN, Access
from .options import ApiOptions
from .problems import Kind, Refusal
from .tokens import Tokens

OPEN_PATHS = frozenset({"/livez", "/readyz"}) | dashboard.OPEN_PATHS
"""Answered without a token: for load balancers, and the dashboard's own files. They tell nothing of any run."""

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware that lets a request through or raises the `Refusal` that answers it."""

    def __init__(self, app: ASGIApp, options: ApiOptions) -> None:
        self.app = app
        self.options = options
        self._tokens = Tokens(options.tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then serve.

        Raises:
            Refusal: 431, 421, 401 or 403.
        """
        if scope["type"] == "http":
            self._check_size(scope["headers"])
            headers = Headers(scope=scope)
            self._check_host(scope, headers)
            scope[KEY] = self._access(scope, headers)
            if scope["method"] not in _READS:
                self._check_origin(headers)
        await self.app(scope, receive, send)

    def _check_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        limits = self.options
        if len(headers) > limits.max_headers or sum(len(n) + len(v) for n, v in headers) > limits.max_header_bytes:
            raise Refusal(
                Kind.HEADERS_TOO_LARGE,
                f"a request may have {limits.max_headers} headers of {limits.max_header_bytes:,} bytes together: "
                "send fewer of them",
            )

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        allowed, server = self.options.hosts, scope.get("server")
        if allowed is None or server is None or not _loopback(server[0]):
            return
        if _name(headers.get("host", "")) not in allowed:
            raise Refusal(
                Kind.MISDIRECTED,
                f"on a loopback address only {', '.join(allowed)} may be asked for: use one of them, "
                "or add the name to ApiOptions.hosts",
            )

    def _access(self, scope: Scope, headers: Headers) -> Access:
        if not self.options.secured:
            return OPEN
        scheme, _, given = headers.get("authorization", "").partition(" ")
        access = self._tokens.find(given.strip()) if scheme.lower() == "bearer" else None
        if access is not None:
            return access
        if scope["path"].removeprefix(scope.get("root_path", "")) in OPEN_PATHS:
            return NOBODY
        raise Refusal(
            Kind.UNAUTHORIZED,
            "send the header 'Authorization: Bearer <token>' with a token that this server was given",
            headers={"WWW-Authenticate": 'Bearer realm="greenroom"'},
        )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin in self.options.origins:
            return
        site = headers.get("sec-fetch-site", "none")
        own = origin is None or origin.partition("://")[2] == headers.get("host", "")
        if not own or site not in ("none", "same-origin"):
            raise Refusal(
                Kind.CROSS_SITE,
                "a page of another origin may not start or cancel runs: add its origin to ApiOptions.origins",
            )


def _name(host: str) -> str:
    """The host without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


@functools.lru_cache(maxsize=64)
def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
