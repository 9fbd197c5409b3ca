"""The simulator on a socket: the paths of OpenAI and of Gemini's OpenAI-compatible endpoint, and a control API.

/openai/v1/...  or /v1/...                        chat/completions, responses, embeddings, models
/gemini/v1beta/openai/...  or /v1beta/openai/...  the same, without responses
/_sim/state, /_sim/seen, /_sim/faults, /_sim/limits, /_sim/reset
    what it saw, in sum and one by one; rules; limits from now on; start again
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..listener import listen, served
from . import wire
from .core import Simulator
from .desk import NOTICE, Desk, Dropped
from .plan import Fault, Limits, PlanInvalid


def simulator_app(sim: Simulator) -> Starlette:
    """Make the ASGI app."""
    desk, control = Desk(sim), _Control(sim)

    async def call(request: Request) -> Response:
        try:
            answer = await desk.answer(request.method, request.url.path, request.headers, await request.body())
        except Dropped:
            return StreamingResponse(_Drop(), 200, wire.MARK)
        if isinstance(answer.body, bytes):
            return Response(answer.body, answer.status, answer.headers)
        return StreamingResponse(answer.body, answer.status, answer.headers)

    return Starlette(
        routes=[
            Route("/_sim/state", control.state),
            Route("/_sim/seen", control.seen),
            Route("/_sim/faults", control.faults, methods=["POST", "DELETE"]),
            Route("/_sim/limits", control.limits, methods=["POST"]),
            Route("/_sim/reset", control.reset, methods=["POST"]),
            Route("/{path:path}", call, methods=["GET", "POST"]),
        ]
    )


class _Drop(AsyncIterator[bytes]):
    async def __anext__(self) -> bytes:
        raise Dropped


class _Control:
    """The control API."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim

    async def state(self, request: Request) -> Response:
        return self._state()

    async def seen(self, request: Request) -> Response:
        return _json(list(self.sim.seen))

    async def reset(self, request: Request) -> Response:
        self.sim.reset()
        return self._state()

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.sim.faults.clear()
            return self._state()
        try:
            rules = msgspec.json.decode(await request.body(), type=list[str])
            self.sim.faults += [Fault.parse(rule) for rule in rules]
        except (msgspec.DecodeError, PlanInvalid) as error:
            return _json({"error": f'give a JSON list of rules such as ["openai:503:share=0.2"]: {error}'}, 400)
        return self._state()

    async def limits(self, request: Request) -> Response:
        try:
            self.sim.limit(msgspec.json.decode(await request.body(), type=dict[str, Limits]))
        except (msgspec.DecodeError, PlanInvalid) as error:
            return _json({"error": f'give limits such as {{"openai": {{"requests_per_min": 60}}}}: {error}'}, 400)
        return self._state()

    def _state(self) -> Response:
        return _json({"notice": NOTICE, **self.sim.state()})


def _json(found: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(found), status, wire.MARK, "application/json")


@dataclass(frozen=True)
class SimulatorAddress:
    """Where it listens."""

    host: str
    port: int

    @property
    def openai_url(self) -> str:
        """What `OPENAI_BASE_URL` should be."""
        return f"http://{self.host}:{self.port}/openai/v1"

    @property
    def gemini_url(self) -> str:
        """What `GEMINI_BASE_URL` should be."""
        return f"http://{self.host}:{self.port}/gemini/v1beta/openai"

    @property
    def control_url(self) -> str:
        """Where its control API is."""
        return f"http://{self.host}:{self.port}/_sim"

    @property
    def env(self) -> dict[str, str]:
        """The variables that point a router at it."""
        return {
            "OPENAI_API_KEY": "simulator",
            "OPENAI_BASE_URL": self.openai_url,
            "GEMINI_API_KEY": "simulator",
            "GEMINI_BASE_URL": self.gemini_url,
        }


@asynccontextmanager
async def serve_simulator(sim: Simulator, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[SimulatorAddress]:
    """Serve it while the block runs. Port 0: a free one.

    Raises:
        AddressUnavailable: somebody else listens there.
    """
    with listen(host, port) as listener:
        async with served(simulator_app(sim), listener, grace_s=0):
            sim.now()
            yield SimulatorAddress(host, listener.getsockname()[1])
