"""The gateway's routes: a request is checked, put into the router's line, and answered in OpenAI's shape.

Why it is so thin: limits, turns, failover and streams are the router's. Here are only the keys, the caller's going
away (its call is given up, and a stream is closed), and back-pressure: a stream is read from the provider no faster
than the caller reads it.

Laws kept here: 9 (what is wrong is said at the edge), 10 (keys), 11 (bodies and lines are bounded).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import httpx2
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..router import Router, answer, observer
from ..router.transport import terms
from .keys import Holder, Keys
from .metrics import TYPE, Metrics

PATHS = ("/chat/completions", "/responses", "/embeddings")
LONGEST_BODY = 32 * 1024 * 1024
"""Bytes of a request: images come inside it."""

TOLD = ("retry-after", "x-ratelimit-", "x-request-id", "x-greenroom-", "content-type")
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def gateway_app(router: Router, keys: Keys | None = None) -> Starlette:
    """Make the ASGI app.

    Args:
        router: open.
        keys: who may ask; none: anybody who can reach it, and no web page.
    """
    desk = _Desk(router, keys or Keys())
    routes = [Route(f"/v1{path}", desk.call, methods=["POST"]) for path in PATHS]
    routes += [
        Route("/v1/models", desk.models, methods=["GET"]),
        Route("/metrics", desk.metrics, methods=["GET"]),
        Route("/livez", desk.alive, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={404: _lost, 405: _lost})


class _Desk:
    def __init__(self, router: Router, keys: Keys) -> None:
        self._router = router
        self._keys = keys
        self._metrics = Metrics()

    async def alive(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def metrics(self, request: Request) -> Response:
        holder = self._holder(request)
        if isinstance(holder, Response):
            return holder
        return Response(self._metrics.text(self._router), headers={"content-type": TYPE})

    async def models(self, request: Request) -> Response:
        holder = self._holder(request)
        if isinstance(holder, Response):
            return holder
        found = [{"id": name, "object": "model", "created": 0, "owned_by": "greenroom"} for name in self._router.models]
        return _passed(answer.json({"object": "list", "data": found}))

    async def call(self, request: Request) -> Response:
        """Answer a call."""
        holder = self._holder(request)
        if isinstance(holder, Response):
            self._metrics.answered("", holder.status_code)
            return holder
        wait_s = holder.admit(anyio.current_time())
        if wait_s:
            message = f"key {holder.name} asks more than it may: try again in {wait_s:.1f} s"
            return self._refused(holder, 429, "rate_limit_exceeded", message, wait_s)
        holder.under_way += 1
        streams = False
        try:
            response = await self._routed(request, holder)
            streams = isinstance(response, StreamingResponse)
            return response
        finally:
            if not streams:
                holder.under_way -= 1

    async def _routed(self, request: Request, holder: Holder) -> Response:
        try:
            body = msgspec.json.decode(await _read(request))
        except msgspec.DecodeError as error:
            return self._refused(holder, 400, "bad_body", f"the body is not JSON: {error}")
        except OverflowError:
            return self._refused(holder, 413, "body_too_large", f"the body is longer than {LONGEST_BODY} bytes")
        try:
            asked = _terms(request.headers, holder)
        except ValueError as error:
            return self._refused(holder, 400, "bad_header", str(error))
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return self._refused(holder, 400, "bad_body", "the body has no model: give a JSON object with one")
        token = observer.set(self._metrics.called)
        try:
            found = await _unless_gone(request, self._router, body, asked)
        finally:
            observer.reset(token)
        if found is None:
            self._metrics.answered(holder.name, 499)
            return Response(status_code=499)
        self._metrics.answered(holder.name, found.status_code)
        if body.get("stream") is not True or found.status_code != 200:
            return _passed(found)

        def over() -> None:
            holder.under_way -= 1

        return _Streamed(found, over)

    def _holder(self, request: Request) -> Holder | Response:
        """Say whose request it is, or refuse it."""
        if self._keys.open:
            host = request.headers.get("host", "").rpartition(":")
            name = host[0] if host[0] and host[2].isdecimal() else request.headers.get("host", "")
            if name not in LOCAL or "origin" in request.headers:
                message = "without keys only programs on this machine may ask: give the gateway keys"
                return _passed(answer.refuse(403, "not_local", message))
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        holder = self._keys.find(token.strip() if scheme.lower() == "bearer" else "")
        if holder is None:
            message = "the key is none of this gateway's: send 'Authorization: Bearer <key>'"
            return _passed(answer.refuse(401, "invalid_api_key", message))
        return holder

    def _refused(self, holder: Holder, status: int, code: str, message: str, wait_s: float | None = None) -> Response:
        self._metrics.answered(holder.name, status)
        return _passed(answer.refuse(status, code, message, wait_s))


async def _unless_gone(
    request: Request, router: Router, body: dict[str, Any], asked: dict[str, Any]
) -> httpx2.Response | None:
    """Send a call, and give it up when its caller goes away; None then."""
    found: httpx2.Response | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        found = await router.request(request.url.path.removeprefix("/v1"), body, **asked)
        group.cancel_scope.cancel()
    return found


class _Streamed(StreamingResponse):
    """A stream on its way to the caller: read as it is taken, closed however it ends."""

    def __init__(self, response: httpx2.Response, over: Callable[[], None]) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        super().__init__(response.stream, 200, _headers(response) | {"cache-control": "no-store"})
        self._response = response
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()
            with anyio.CancelScope(shield=True):
                await self._response.aclose()


def _terms(headers: Mapping[str, str], holder: Holder) -> dict[str, Any]:
    """Read what a caller may say of its call; whose it is and how urgent is its key's to say."""
    asked = terms(headers)
    return {**asked, "tenant": holder.tenant, "priority": holder.key.priority}


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > LONGEST_BODY:
            raise OverflowError
    return bytes(body)


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith(TOLD)}


def _passed(response: httpx2.Response) -> Response:
    return Response(response.content, response.status_code, _headers(response))


async def _lost(request: Request, error: Exception) -> Response:
    message = (
        f"{request.method} {request.url.path} is not served: there are {', '.join(f'/v1{path}' for path in PATHS)}"
    )
    return _passed(answer.refuse(404, "not_found", message))
