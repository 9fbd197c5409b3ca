"""The SDK's face of the router: an HTTP transport under a real `openai.AsyncOpenAI`.

So every feature of the SDK, and every library that accepts an OpenAI client, works unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import msgspec

from .errors import NoRouter
from .router import Router, current_router, refuse

if TYPE_CHECKING:
    from openai import AsyncOpenAI

TOLD = ("retry-after", "x-ratelimit-", "x-request-id", "x-greenroom-")
"""Headers of a provider that the caller gets to see."""

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
            return refuse(400, "no_router", str(NoRouter()))
        try:
            body = msgspec.json.decode(await request.aread() or b"{}")
        except msgspec.DecodeError:
            body = None
        if request.method != "POST" or not isinstance(body, dict):
            return refuse(
                400, "not_routed", f"{request.method} {request.url.path} is not routed: send JSON with a model by POST"
            )
        response = await router.request(request.url.path, body)
        if response.is_stream_consumed or response.is_closed:
            kind = {"content-type": response.headers.get("content-type", "application/json")}
            told = {name: value for name, value in response.headers.items() if name.startswith(TOLD)}
            return httpx2.Response(response.status_code, headers=kind | told, content=response.content)
        return response


def client(router: Router | None = None) -> AsyncOpenAI:
    """Make an OpenAI client whose transport is the router; it retries nothing itself."""
    from openai import AsyncOpenAI

    http = httpx2.AsyncClient(transport=RouterTransport(router), base_url=BASE)
    return AsyncOpenAI(api_key="greenroom", base_url=BASE, max_retries=0, timeout=None, http_client=http)
