"""The simulator without a socket: an HTTP transport whose other end is the desk. On virtual time it needs no network.

Streams come piece by piece, in the simulator's own time (`httpx2.ASGITransport` would hand them over whole).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

import httpx2

from .core import Simulator
from .desk import Desk, Dropped


class SimulatorTransport(httpx2.AsyncBaseTransport):
    """Hands requests to a simulator, whatever host they are for.

        Router(RouterConfig.from_env(IN_PROCESS), transport=SimulatorTransport(Simulator()))

    Args:
        sim: the simulator.
    """

    def __init__(self, sim: Simulator) -> None:
        self._desk = Desk(sim)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        try:
            answer = await self._desk.answer(request.method, request.url.path, request.headers, await request.aread())
        except Dropped:
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.") from None
        body = answer.body
        if isinstance(body, bytes):
            return httpx2.Response(answer.status, headers=answer.headers, content=body)
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(body))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except Dropped:
            raise httpx2.ReadError("Connection lost.") from None

    async def aclose(self) -> None:
        await self._pieces.aclose()  # type: ignore[attr-defined]  # an async generator


IN_PROCESS = {
    "OPENAI_API_KEY": "simulator",
    "OPENAI_BASE_URL": "http://simulator.invalid/openai/v1",
    "GEMINI_API_KEY": "simulator",
    "GEMINI_BASE_URL": "http://simulator.invalid/gemini/v1beta/openai",
}
"""The variables that point a router at it."""
