"""Whose request it is, and what it may do.

Why: what an operation needs is written in one table, `NEEDS`, which the routes are made from and which the OpenAPI
document tells. A route that is not in it cannot be made, so none is open because nobody thought of it.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .problems import Kind, Refusal

Endpoint = Callable[[Request], Awaitable[Response]]

KEY = "greenroom.access"
"""Where the guard leaves the request's access in the ASGI scope."""


class Scope(enum.StrEnum):
    """What a token may do. None implies another, but `admin` all of them."""

    READ = "read"
    RUN = "run"
    ADMIN = "admin"


class Need(enum.Enum):
    """What an operation asks for: nothing at all, any token, a scope, or a scope over all tenants."""

    NOTHING = None
    TOKEN = "any"  # noqa: S105 - a word
    READ = Scope.READ
    RUN = Scope.RUN
    ADMIN = Scope.ADMIN
    READ_ALL = "read of all tenants"

    @property
    def scope(self) -> Scope | None:
        """The scope that it asks for; None: it asks for none."""
        if self is Need.READ_ALL:
            return Scope.READ
        return self.value if isinstance(self.value, Scope) else None


NEEDS: Mapping[str, Need] = {
    "POST /v1/workflows/{workflow}/runs": Need.RUN,
    "GET /v1/runs": Need.READ,
    "POST /v1/runs/cancel": Need.RUN,
    "POST /v1/runs/retry": Need.RUN,
    "GET /v1/runs/{run_id}": Need.READ,
    "GET /v1/runs/{run_id}/result": Need.READ,
    "GET /v1/runs/{run_id}/events": Need.READ,
    "GET /v1/runs/{run_id}/output": Need.READ,
    "GET /v1/runs/{run_id}/trace": Need.READ,
    "POST /v1/runs/{run_id}/cancel": Need.RUN,
    "POST /v1/runs/{run_id}/fork": Need.RUN,
    "POST /v1/runs/{run_id}/retry": Need.RUN,
    "POST /v1/runs/{run_id}/signals/{name}": Need.RUN,
    "GET /v1/runs/{run_id}/approvals": Need.READ,
    "POST /v1/runs/{run_id}/approvals/{approval}": Need.RUN,
    "POST /v1/chat/{workflow}": Need.RUN,
    "GET /v1/chat/{workflow}/{chat_id}/stream": Need.READ,
    "POST /v1/chat/{workflow}/{chat_id}/stop": Need.RUN,
    "GET /v1/workflows": Need.READ,
    "GET /v1/token": Need.TOKEN,
    "GET /v1/system/workers": Need.ADMIN,
    "GET /v1/system/tree": Need.ADMIN,
    "GET /v1/system/providers": Need.ADMIN,
    "GET /livez": Need.NOTHING,
    "GET /readyz": Need.NOTHING,
    "GET /metrics": Need.READ_ALL,
    "GET /openapi.json": Need.TOKEN,
}
"""What each operation asks for. `admin` is for what concerns all tenants, and what executes their runs."""


class Access(msgspec.Struct, frozen=True):
    """Who asks, by the token that was sent.

    Attributes:
        name: of the token.
        scopes: what it may do, with what `admin` implies.
        tenant: the only one whose runs there are for it; "" for all.
    """

    name: str
    scopes: tuple[Scope, ...]
    tenant: str = ""

    def require(self, need: Need) -> None:
        """Check that it may do what needs this.

        Raises:
            Refusal: 403; names the scope.
        """
        scope = need.scope
        if scope is not None and scope not in self.scopes:
            raise Refusal(
                Kind.MISSING_SCOPE,
                f"this needs the scope '{scope}', and token '{self.name}' has {', '.join(self.scopes) or 'none'}: "
                f"use a token with '{scope}'",
                headers={"WWW-Authenticate": f'Bearer realm="greenroom", error="insufficient_scope", scope="{scope}"'},
            )
        if need is Need.READ_ALL and self.tenant:
            raise Refusal(
                Kind.MISSING_SCOPE,
                f"this tells of all tenants, and token '{self.name}' is of one: use one with '{scope}' and no tenant",
            )


OPEN = Access("open", tuple(Scope))
"""Whoever asks an API without tokens, which listens on loopback."""

NOBODY = Access("nobody", ())
"""Whoever asks an API with tokens for what needs none, and sends none."""


def access_of(request: Request) -> Access:
    """Return whose request it is, as the guard found."""
    access: Access = request.scope.get(KEY, NOBODY)
    return access


def needing(need: Need, endpoint: Endpoint) -> Endpoint:
    """Ask for something before an endpoint is reached; that there is a token at all the guard has seen to."""
    if need.scope is None:
        return endpoint

    async def checked(request: Request) -> Response:
        access_of(request).require(need)
        return await endpoint(request)

    return checked
