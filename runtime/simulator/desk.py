"""The provider's desk: a request comes in, an answer goes out, whatever carries them.

An answer's stream raises `Dropped` where the connection is to break. Every answer says that it is a simulator's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio
import msgspec

from . import reply, responses, wire
from .core import Admission, Provider, Simulator
from .plan import Fault, FaultKind

NOTICE = wire.NOTICE
PREFIXES = {"openai": ("/openai/v1", "/v1"), "gemini": ("/gemini/v1beta/openai", "/v1beta/openai")}
RESPONSES = "/responses"
PIECE = 12
"""Characters in a piece of a stream: three tokens."""

WRONG = "The server had an error."
SLOW_S = 30.0
STALL_S = 3600.0


class Dropped(Exception):
    """The connection is to be dropped."""


class Answer(NamedTuple):
    """What goes out. The body is whole, or a stream that is to be read to its end or closed."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]


class _Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class _Request(NamedTuple):
    provider: Provider
    path: str
    model: str
    body: dict[str, Any]
    number: str


class _Script(NamedTuple):
    """The events of a stream: before the first piece, a piece each, after the last; and one that says that it broke."""

    head: list[bytes]
    pieces: list[bytes]
    tail: list[bytes]
    error: bytes


class Desk:
    """Answers requests to the providers of a simulator."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self._count = 0

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request, in its own time.

        Raises:
            Dropped: the connection is to be dropped without an answer.
        """
        name, rest = _split(path)
        provider = self.sim.providers.get(name)
        if provider is None:
            found = {"error": {"message": f"{NOTICE} Nothing is at {path}.", "type": "invalid_request_error"}}
            return Answer(404, {**wire.MARK, "content-type": "application/json"}, msgspec.json.encode(found))
        calls: dict[str, Callable[[_Request, Fault | None, Admission], Awaitable[Answer]]] = {
            "/chat/completions": self._chat,
            "/embeddings": self._embeddings,
            "/responses": self._chat,
        }
        try:
            if method == "GET" and rest == "/models":
                return _json(wire.models(name, provider.plan.models))
            if method != "POST" or rest not in calls or (rest == RESPONSES and name == "gemini"):
                raise self._refusal(provider, path, "", 404, f"Invalid URL ({method} {path}).")
            key = self._key(provider, path, headers)
            request = self._checked(provider, path, rest, body)
            fault = self.sim.fault_for(name, request.model)
            await self._early(request, fault, key)
            admission = provider.admit(request.model, reply.estimate(request.body), self.sim.now())
            if admission.wait_s:
                message = f"Rate limit reached for {request.model}: try again in {admission.wait_s:.3f}s."
                raise self._refusal(
                    provider, path, request.model, 429, message, "rate_limit_exceeded", admission.wait_s
                )
        except _Refused as refused:
            return refused.answer
        return await calls[rest](request, fault, admission)

    def _key(self, provider: Provider, path: str, headers: Mapping[str, str]) -> str:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise self._refusal(provider, path, "", 401, "You didn't provide an API key.", "invalid_api_key")
        return key.strip()

    def _checked(self, provider: Provider, path: str, rest: str, raw: bytes) -> _Request:
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise self._refusal(provider, path, "", 400, f"The body is not JSON: {error}") from None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise self._refusal(provider, path, "", 400, "you must provide a model parameter")
        model = body["model"]
        if model not in provider.plan.models and "*" not in provider.plan.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise self._refusal(provider, path, model, 404, message, "model_not_found")
        if provider.plan.name == "gemini":
            for name in wire.REFUSED_BY_GEMINI:
                if name in body:
                    message = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                    raise self._refusal(provider, path, model, 400, message)
        if rest in ("/embeddings", RESPONSES) and not body.get("input"):
            raise self._refusal(provider, path, model, 400, "'input' is missing.")
        if rest == RESPONSES and not isinstance(body["input"], str | list):
            raise self._refusal(provider, path, model, 400, "Invalid type for 'input': expected a string or an array.")
        if rest == "/chat/completions" and not (isinstance(body.get("messages"), list) and body["messages"]):
            raise self._refusal(provider, path, model, 400, "Invalid 'messages': expected a non-empty array.")
        self._count += 1
        asked = responses.as_chat(body) if rest == RESPONSES else body
        if "messages" in asked and not asked["messages"]:
            raise self._refusal(provider, path, model, 400, "Invalid 'input': expected items such as messages.")
        return _Request(provider, path, model, asked, f"sim-{self._count}")

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
        told = {**wire.headers(provider, model if status != 404 else "", self.sim.now()), **extra}
        return _Refused(Answer(status, told | {"content-type": "application/json"}, content))

    async def _early(self, request: _Request, fault: Fault | None, key: str) -> None:
        """Faults that strike before the answer begins."""
        if fault is None:
            return
        provider, path, model = request.provider, request.path, request.model
        kind = fault.kind
        if kind is FaultKind.RATE_LIMIT:
            raise self._refusal(provider, path, model, 429, "Rate limit reached.", "rate_limit_exceeded", 1.0)
        if kind is FaultKind.QUOTA:
            raise self._refusal(provider, path, model, 429, "You exceeded your current quota.", "insufficient_quota")
        if kind is FaultKind.ERROR:
            raise self._refusal(provider, path, model, fault.status, "The server is overloaded or not ready yet.")
        if kind is FaultKind.AUTH:  # it repeats the key, as careless servers do
            raise self._refusal(provider, path, model, 401, f"Incorrect API key provided: {key}.", "invalid_api_key")
        if kind is FaultKind.RESET:
            self.sim.record(provider, model, path, 0)
            raise Dropped
        if kind is FaultKind.HTML:
            self.sim.record(provider, model, path, 200)
            html = b"<html><body>Bad gateway</body></html>"
            raise _Refused(Answer(200, {**wire.MARK, "content-type": "text/html"}, html))
        if kind is FaultKind.EMPTY:
            self.sim.record(provider, model, path, 200)
            raise _Refused(Answer(200, {**wire.MARK, "content-type": "application/json"}, b""))
        if kind is FaultKind.BROWN_OUT and self.sim.chance() < 0.3:
            raise self._refusal(provider, path, model, 503, "The server is overloaded or not ready yet.")
        if kind is FaultKind.SLOW:
            await anyio.sleep(SLOW_S)

    async def _embeddings(self, request: _Request, fault: Fault | None, admission: Admission) -> Answer:
        told = wire.headers(request.provider, request.model, self.sim.now())
        data, used = reply.vectors(request.body)
        self.sim.record(request.provider, request.model, request.path, 200, used)
        with admission:
            await self._pause(request.provider, 0, fault)
            await _stall(fault)
            admission.used = used
        usage = {"prompt_tokens": used, "total_tokens": used}
        return _json({"object": "list", "data": data, "model": request.model, "usage": usage}, told, fault)

    async def _chat(self, request: _Request, fault: Fault | None, admission: Admission) -> Answer:
        message, finish, usage = reply.reply(self.sim.seed, request.body)
        self.sim.record(request.provider, request.model, request.path, 200, sum(usage))
        told = wire.headers(request.provider, request.model, self.sim.now())
        if request.body.get("stream"):
            script = self._script(request, message, finish, usage, fault)
            events = self._stream(request, fault, admission, script, sum(usage))
            return Answer(200, told | {"content-type": "text/event-stream"}, events)
        with admission:
            await self._pause(request.provider, usage[1], fault)
            await _stall(fault)
            admission.used = sum(usage)
        write = responses.response if request.path.endswith(RESPONSES) else wire.completion
        return _json(write(request.number, request.model, message, finish, usage), told, fault)

    def _script(
        self, request: _Request, message: dict[str, Any], finish: str, usage: tuple[int, int], fault: Fault | None
    ) -> _Script:
        """Write the whole stream of an answer."""
        number, model = request.number, request.model
        if request.path.endswith(RESPONSES):
            events = responses.Events(number, model, message, finish, usage, PIECE)
            return _Script([*events.head()], [*events.pieces()], [*events.tail()], events.error(WRONG))
        every = usage if request.provider.plan.name == "gemini" else None
        tail = [wire.chunk(number, model, {}, finish, every)]
        if (request.body.get("stream_options") or {}).get("include_usage"):
            tail.append(wire.chunk(number, model, None, usage=usage))
        return _Script(
            [wire.chunk(number, model, {"role": "assistant", "content": ""}, usage=every)],
            [wire.chunk(number, model, piece, usage=every) for piece in wire.pieces(message, PIECE)],
            [*tail, b"data: [DONE]\n\n"],
            b"data: " + _inside(request.provider, fault) + b"\n\n",
        )

    async def _stream(
        self, request: _Request, fault: Fault | None, admission: Admission, script: _Script, used: int
    ) -> AsyncIterator[bytes]:
        latency = request.provider.plan.latency
        pieces = script.pieces
        with admission:
            await self._pause(request.provider, 0, fault)
            for event in script.head:
                yield event
            for at in range(len(pieces) + 1):
                if fault is not None and at >= min(fault.after, len(pieces)):
                    if fault.kind is FaultKind.CUT:
                        raise Dropped
                    if fault.kind is FaultKind.TRUNCATE:
                        return
                    await _stall(fault)
                    if fault.kind is FaultKind.MALFORMED:
                        yield b'data: {"choices": [{"del\n\n'
                        return
                    if fault.kind is FaultKind.ERROR_EVENT:
                        yield script.error
                        return
                if at < len(pieces):
                    yield pieces[at]
                    if latency.tokens_per_s:
                        await anyio.sleep(PIECE / 4 / latency.tokens_per_s)
            admission.used = used
        for event in script.tail:
            yield event

    async def _pause(self, provider: Provider, tokens: int, fault: Fault | None) -> None:
        latency = provider.plan.latency
        seconds = self.sim.spread(latency.first_token_s, latency.jitter) * _slowed(fault, self.sim.now())
        if latency.tokens_per_s:
            seconds += tokens / latency.tokens_per_s
        if seconds:
            await anyio.sleep(seconds)


def _inside(provider: Provider, fault: Fault | None) -> bytes:
    """Write the error that comes inside a stream: a server's, or a 429."""
    if fault is not None and fault.status == 429:
        return wire.error(provider, 429, "Rate limit reached.", code="rate_limit_exceeded", wait_s=1.0)[0]
    return wire.error(provider, 500, WRONG)[0]


def _slowed(fault: Fault | None, now: float) -> float:
    """Return how many times as long an answer takes."""
    if fault is None or fault.kind not in (FaultKind.BROWN_OUT, FaultKind.RAMP):
        return 1.0
    if fault.kind is FaultKind.BROWN_OUT:
        return fault.factor
    return 1.0 + (fault.factor - 1.0) * min(1.0, (now - fault.from_s) / max(1e-9, fault.until_s - fault.from_s))


async def _stall(fault: Fault | None) -> None:
    if fault is not None and fault.kind is FaultKind.STALL:
        await anyio.sleep(STALL_S)


def _split(path: str) -> tuple[str, str]:
    """Return (provider, rest of the path)."""
    for name, prefixes in PREFIXES.items():
        for prefix in prefixes:
            if path.startswith(f"{prefix}/"):
                return name, path.removeprefix(prefix)
    return "", path


def _json(found: Any, told: dict[str, str] | None = None, fault: Fault | None = None) -> Answer:
    content = msgspec.json.encode(found)
    if fault is not None and fault.kind in (FaultKind.CUT, FaultKind.TRUNCATE, FaultKind.MALFORMED):
        content = content[: len(content) // 2]
    elif fault is not None and fault.kind is FaultKind.ERROR_EVENT:
        content = b'{"error": {"message": "The server had an error.", "type": "server_error"}}'
    return Answer(200, {**wire.MARK, **(told or {}), "content-type": "application/json"}, content)
