"""The SDK's face of the router: an HTTP transport under a real `openai.AsyncOpenAI`.

So every feature of the SDK, and every library that accepts an OpenAI client, works unchanged. `with_options(timeout=5)`
counts as for any server: it bounds the wait for an answer, or for a stream's beginning, and raises `APITimeoutError`.
`extra_headers` with `x-greenroom-priority`, `-tenant`, `-deadline-s` and `-fresh` say more of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import msgspec

from . import answer
from .errors import NoRouter
from .router import Router, current_router

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE = "http://greenroom.invalid"


class RouterTransport(httpx2.AsyncBaseTransport):
    """Hands requests to a router.

    Args:
        router: the router; None: the one that is current where the call is made.
    """

    def __init__(self, router: Router | None = None) -> None:
        self._router = router

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request of the SDK."""
        router = self._router or current_router.get()
        if router is None:
            return answer.refuse(400, "no_router", str(NoRouter()))
        path = request.url.path
        if request.method == "GET" and path == "/models":
            found = [{"id": name, "object": "model", "created": 0, "owned_by": "greenroom"} for name in router.models]
            return answer.json({"object": "list", "data": found})
        try:
            body = msgspec.json.decode(await request.aread() or b"{}")
        except msgspec.DecodeError:
            body = None
        if request.method != "POST" or not isinstance(body, dict):
            message = f"{request.method} {path} is not routed: send JSON with a model by POST"
            return answer.refuse(400, "not_routed", message)
        try:
            asked = terms(request.headers)
        except ValueError as error:
            return answer.refuse(400, "bad_header", str(error))
        patience = request.extensions.get("timeout", {}).get("read")
        if patience is None:
            return await router.request(path, body, **asked)
        with anyio.move_on_after(patience):
            return await router.request(path, body, **asked)
        raise httpx2.ReadTimeout(f"no answer within {patience:g} s", request=request)


def terms(headers: Mapping[str, str]) -> dict[str, Any]:
    """Read what a call's headers say of its standing: `x-greenroom-priority`, `-tenant`, `-deadline-s`, `-fresh`.

    Raises:
        ValueError: a header holds something else than it should.
    """
    found: dict[str, Any] = {}
    for name, kind in (("priority", int), ("deadline-s", float)):
        text = headers.get(f"x-greenroom-{name}")
        if text is not None:
            try:
                found[name.replace("-", "_")] = kind(text)
            except ValueError:
                raise ValueError(f"x-greenroom-{name} is {text[:40]!r}: give a number") from None
    if (tenant := headers.get("x-greenroom-tenant")) is not None:
        found["tenant"] = tenant
    if headers.get("x-greenroom-fresh") is not None:
        found["fresh"] = True
    return found


def client(router: Router | None = None) -> AsyncOpenAI:
    """Make an OpenAI client whose transport is the router; it retries nothing itself."""
    from openai import AsyncOpenAI

    http = httpx2.AsyncClient(transport=RouterTransport(router), base_url=BASE)
    return AsyncOpenAI(api_key="greenroom", base_url=BASE, max_retries=0, timeout=None, http_client=http)
