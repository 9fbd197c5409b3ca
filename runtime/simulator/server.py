"""The simulator on a socket: the paths of OpenAI and of Gemini's OpenAI-compatible endpoint, and a control API.

    /openai/v1/...  or /v1/...                        chat/completions, embeddings, models
    /gemini/v1beta/openai/...  or /v1beta/openai/...  the same
    /_sim/state, /_sim/faults, /_sim/reset            what it saw; rules; start again

It says on every answer that it is a simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..listener import listen
from . import text, wire
from .core import Provider, Simulator
from .plan import Fault, FaultKind, PlanInvalid

NOTICE = "This is a simulator: answers are generated text, no provider is called."
PIECE = 12
"""Characters in a piece of a stream: three tokens."""


class Reset(Exception):
    """The connection is to be dropped without an answer."""


def simulator_app(sim: Simulator) -> Starlette:
    """Make the ASGI app."""
    desk = _Desk(sim)
    routes = [
        Route("/_sim/state", desk.state),
        Route("/_sim/faults", desk.faults, methods=["POST", "DELETE"]),
        Route("/_sim/reset", desk.reset, methods=["POST"]),
    ]
    for name, prefixes in (("openai", ("/openai/v1", "/v1")), ("gemini", ("/gemini/v1beta/openai", "/v1beta/openai"))):
        if name in sim.providers:
            for prefix in prefixes:
                routes += [
                    Route(f"{prefix}/chat/completions", desk.at(name, desk.chat), methods=["POST"]),
                    Route(f"{prefix}/embeddings", desk.at(name, desk.embeddings), methods=["POST"]),
                    Route(f"{prefix}/models", desk.models(name)),
                ]
    return Starlette(routes=routes)


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
        config = uvicorn.Config(
            simulator_app(sim),
            log_config=None,
            log_level=logging.CRITICAL + 1,  # a dropped connection is what was asked for
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(server.run_until_told, listener)
            await server.up.wait()
            try:
                yield SimulatorAddress(host, listener.getsockname()[1])
            finally:
                server.should_exit = server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server inside a block of code: signals are the block's affair."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def run_until_told(self, listener: socket.socket) -> None:
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


class _Desk:
    """Answers requests."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self._count = 0

    async def state(self, request: Request) -> Response:
        return _json(self.sim.state())

    async def reset(self, request: Request) -> Response:
        self.sim.reset()
        return _json(self.sim.state())

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.sim.faults.clear()
            return _json(self.sim.state())
        try:
            rules = msgspec.json.decode(await request.body(), type=list[str])
            self.sim.faults += [Fault.parse(rule) for rule in rules]
        except (msgspec.DecodeError, PlanInvalid) as error:
            return _json({"error": f'give a JSON list of rules such as ["openai:503:share=0.2"]: {error}'}, 400)
        return _json(self.sim.state())

    def models(self, name: str) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            found = [
                {"id": model, "object": "model", "owned_by": name} for model in self.sim.providers[name].plan.models
            ]
            return _json({"object": "list", "data": found})

        return endpoint

    def at(self, name: str, answer: Callable[..., Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            provider = self.sim.providers[name]
            path = request.url.path
            try:
                body = self._checked(provider, path, request, await request.body())
                model = body["model"]
                tokens = _estimate(body)
                fault = self.sim.fault_for(name, model)
                await self._early(provider, path, model, fault)
                if wait := provider.admit(model, tokens, self.sim.now()):
                    message = f"Rate limit reached for {model}: try again in {wait:.3f}s."
                    raise self._refusal(provider, path, model, 429, message, code="rate_limit_exceeded", wait_s=wait)
            except _Refused as refused:
                return refused.response
            provider.in_flight += 1
            self._count += 1
            return await answer(provider, path, body, fault)

        return endpoint

    def _checked(self, provider: Provider, path: str, request: Request, raw: bytes) -> dict[str, Any]:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise self._refusal(provider, path, "", 401, "You didn't provide an API key.", code="invalid_api_key")
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise self._refusal(provider, path, "", 400, f"The body is not JSON: {error}") from None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise self._refusal(provider, path, "", 400, "you must provide a model parameter")
        model = body["model"]
        if model not in provider.plan.models and "*" not in provider.plan.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise self._refusal(provider, path, model, 404, message, code="model_not_found")
        if provider.plan.name == "gemini":
            for name in wire.REFUSED_BY_GEMINI:
                if name in body:
                    message = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                    raise self._refusal(provider, path, model, 400, message)
        if path.endswith("chat/completions") and not (isinstance(body.get("messages"), list) and body["messages"]):
            raise self._refusal(provider, path, model, 400, "Invalid 'messages': expected a non-empty array.")
        return body

    def _refusal(
        self,
        provider: Provider,
        path: str,
        model: str,
        status: int,
        message: str,
        code: str | None = None,
        wait_s: float | None = None,
    ) -> _Refused:
        self.sim.record(provider, model, path, status)
        content, extra = wire.error(provider, status, message, code=code, wait_s=wait_s)
        known = model if status != 404 else ""
        told = {**wire.headers(provider, known, self.sim.now()), **extra}
        return _Refused(Response(content, status, told, "application/json"))

    async def _early(self, provider: Provider, path: str, model: str, fault: Fault | None) -> None:
        """Faults that strike before the answer begins."""
        if fault is None:
            return
        kind = fault.kind
        if kind is FaultKind.RATE_LIMIT:
            raise self._refusal(provider, path, model, 429, "Rate limit reached.", "rate_limit_exceeded", 1.0)
        if kind is FaultKind.QUOTA:
            raise self._refusal(provider, path, model, 429, "You exceeded your current quota.", "insufficient_quota")
        if kind is FaultKind.ERROR:
            raise self._refusal(provider, path, model, fault.status, "The server is overloaded or not ready yet.")
        if kind is FaultKind.AUTH:
            raise self._refusal(provider, path, model, 401, "Incorrect API key provided.", "invalid_api_key")
        if kind is FaultKind.RESET:
            self.sim.record(provider, model, path, 0)
            raise _Refused(StreamingResponse(_dropped(), 200, wire.MARK))
        if kind is FaultKind.HTML:
            self.sim.record(provider, model, path, 200)
            raise _Refused(Response("<html><body>Bad gateway</body></html>", 200, wire.MARK, "text/html"))
        if kind is FaultKind.EMPTY:
            self.sim.record(provider, model, path, 200)
            raise _Refused(Response(b"", 200, wire.MARK, "application/json"))
        if kind is FaultKind.SLOW:
            await anyio.sleep(30.0)

    async def embeddings(self, provider: Provider, path: str, body: dict[str, Any], fault: Fault | None) -> Response:
        given = body.get("input")
        inputs = given if isinstance(given, list) else [given]
        size = body.get("dimensions") or 256
        await self._pause(provider, 0)
        used = sum(text.tokens_of(str(one)) for one in inputs)
        data: list[dict[str, Any]] = []
        for index, one in enumerate(inputs):
            vector: Any = text.embed(str(one), size)
            if body.get("encoding_format") == "base64":
                vector = _packed(vector)
            data.append({"object": "embedding", "index": index, "embedding": vector})
        provider.in_flight -= 1
        self.sim.record(provider, body["model"], path, 200, used)
        usage = {"prompt_tokens": used, "total_tokens": used}
        found = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return _json(found, 200, wire.headers(provider, body["model"], self.sim.now()))

    async def chat(self, provider: Provider, path: str, body: dict[str, Any], fault: Fault | None) -> Response:
        message, finish, usage = _answer(self.sim.seed, body)
        number = f"sim-{self._count}"
        told = wire.headers(provider, body["model"], self.sim.now())
        if body.get("stream"):
            events = self._stream(provider, path, body, fault, number, message, finish, usage)
            return StreamingResponse(events, 200, told, "text/event-stream")
        try:
            await self._pause(provider, usage[1])
            if fault is not None and fault.kind is FaultKind.STALL:
                await anyio.sleep(3600)
        finally:
            provider.in_flight -= 1
        self.sim.record(provider, body["model"], path, 200, sum(usage))
        content = wire.completion(number, body["model"], message, finish, usage)
        if fault is not None and fault.kind in (FaultKind.CUT, FaultKind.MALFORMED):
            content = content[: len(content) // 2]
        return Response(content, 200, told, "application/json")

    async def _stream(
        self,
        provider: Provider,
        path: str,
        body: dict[str, Any],
        fault: Fault | None,
        number: str,
        message: dict[str, Any],
        finish: str,
        usage: tuple[int, int],
    ) -> AsyncIterator[bytes]:
        model = body["model"]
        latency = provider.plan.latency
        every = usage if provider.plan.name == "gemini" else None
        try:
            await self._pause(provider, 0)
            yield wire.chunk(number, model, {"role": "assistant", "content": ""}, usage=every)
            content = message.get("content") or ""
            pieces: list[dict[str, Any]] = [
                {"content": content[at : at + PIECE]} for at in range(0, len(content), PIECE)
            ]
            if "tool_calls" in message:
                pieces.append({"tool_calls": [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]})
            for at, piece in enumerate(pieces):
                if fault is not None and at >= fault.after:
                    if fault.kind is FaultKind.CUT:
                        raise Reset
                    if fault.kind is FaultKind.STALL:
                        await anyio.sleep(3600)
                    if fault.kind is FaultKind.MALFORMED:
                        yield b'data: {"choices": [{"del\n\n'
                        return
                    if fault.kind is FaultKind.ERROR_EVENT:
                        yield b'data: {"error": {"message": "The server had an error", "type": "server_error"}}\n\n'
                        return
                yield wire.chunk(number, model, piece, usage=every)
                if latency.tokens_per_s:
                    await anyio.sleep(PIECE / 4 / latency.tokens_per_s)
            yield wire.chunk(number, model, {}, finish, every)
            if (body.get("stream_options") or {}).get("include_usage"):
                yield wire.chunk(number, model, None, usage=usage)
            yield b"data: [DONE]\n\n"
        finally:
            provider.in_flight -= 1
            self.sim.record(provider, model, path, 200, sum(usage))

    async def _pause(self, provider: Provider, tokens: int) -> None:
        latency = provider.plan.latency
        seconds = self.sim.spread(latency.first_token_s, latency.jitter)
        if latency.tokens_per_s:
            seconds += tokens / latency.tokens_per_s
        if seconds:
            await asyncio.sleep(seconds)


async def _dropped() -> AsyncIterator[bytes]:
    raise Reset
    yield b""


def _answer(seed: int, body: dict[str, Any]) -> tuple[dict[str, Any], str, tuple[int, int]]:
    """Return (message, finish reason, usage)."""
    question = "\n".join(_words(message.get("content")) for message in body["messages"] if isinstance(message, dict))
    dice = text.draw(seed, question, body["model"])
    words = re.findall(r"[A-Za-z][a-z]{5,}", question) or ["simulated"]
    given = text.tokens_of(question)
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    tools = [tool.get("function", {}) for tool in body.get("tools") or () if isinstance(tool, dict)]
    choice = body.get("tool_choice", "auto")
    if tools and choice != "none" and (choice != "auto" or body["messages"][-1].get("role") != "tool"):
        wanted = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
        tool = next((one for one in tools if one.get("name") == wanted), tools[0])
        arguments = msgspec.json.encode(text.fill(tool.get("parameters", {}), dice, words)).decode()
        call = {
            "id": f"call_{dice.randrange(10**9)}",
            "type": "function",
            "function": {"name": tool.get("name", ""), "arguments": arguments},
        }
        return {"content": None, "tool_calls": [call]}, "tool_calls", (given, text.tokens_of(arguments))
    if schema is not None:
        content = msgspec.json.encode(text.fill(schema, dice, words)).decode()
        return {"content": content}, "stop", (given, text.tokens_of(content))
    if (body.get("response_format") or {}).get("type") == "json_object":
        content = msgspec.json.encode({"answer": " ".join(words[:8])}).decode()
        return {"content": content}, "stop", (given, text.tokens_of(content))
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    content, short = text.write(question, dice, bound)
    return {"content": content}, "length" if short else "stop", (given, text.tokens_of(content))


def _words(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _estimate(body: dict[str, Any]) -> float:
    """What the provider sets aside: the prompt and the longest answer."""
    if "input" in body:
        return text.tokens_of(str(body["input"]))
    bound = body.get("max_completion_tokens") or body.get("max_tokens") or text.DEFAULT_TOKENS
    return sum(text.tokens_of(_words(one.get("content"))) for one in body["messages"] if isinstance(one, dict)) + bound


def _packed(vector: list[float]) -> str:
    import base64
    import struct

    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _json(found: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(found), status, {**wire.MARK, **(headers or {})}, "application/json")
