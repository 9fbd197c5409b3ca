"""The router: every LLM call goes through it, to the deployment that has room, and elsewhere if that one fails.

Laws kept here: 8 (through the scheduler), 9 (what cannot be sent is answered at once, saying why), 10 (keys are
revealed to the request that carries them and to nothing else).
One call: estimate its tokens, wait for room, send, classify a refusal, go elsewhere; settle with the real usage; tell
the observer. The last refusal is the caller's answer, as the provider wrote it, so that the SDK raises its own errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
import msgspec

from .config import Deployment, RouterConfig
from .errors import MissingKey
from .failures import Refusal, classify
from .providers import estimate, prepare, usage_of
from .scheduler import Lane, Scheduler, Ticket, Unplaceable
from .stream import Broken, RoutedStream, open_stream

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a call at one deployment; outcome: ok, closed, failed or a kind of refusal."""

    deployment: str
    outcome: str
    latency_s: float
    error: str | None = None


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call, over: where it went and why, what it took. `status` is ok, closed or failed; times in seconds."""

    status: str
    deployment: str
    provider: str
    model: str
    asked_model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    latency_s: float
    first_token_s: float | None
    queued_s: float
    stream: bool
    reason: str
    attempts: tuple[AttemptRecord, ...]


class LaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment fares."""

    deployment: str
    breaker: str
    why: str
    in_flight: int
    tokens_used: float
    outcomes: dict[str, int]


current_router: ContextVar[Router | None] = ContextVar("greenroom_router", default=None)
"""The router that `llm` uses here."""

observer: ContextVar[Callable[[CallRecord], None] | None] = ContextVar("greenroom_llm_observer", default=None)
"""Who is told of calls made here."""


class _Call:
    """What is known of a call under way."""

    def __init__(self, path: str, body: dict[str, Any], size: int, clock: Callable[[], float]) -> None:
        self.path = path
        self.body = body
        self.asked = str(body.get("model", ""))
        self.stream = bool(body.get("stream"))
        self.tokens = estimate(path, body, size)
        self.clock = clock
        self.started = clock()
        self.queued_s = 0.0
        self.attempts: list[AttemptRecord] = []
        self.tell = observer.get()

    def over(self, deployment: Deployment | None, status: str, usage: tuple[int, int], first: float | None) -> None:
        """Tell the observer."""
        if self.tell is None:
            return
        given, made = usage
        prices = deployment.prices if deployment is not None else None
        self.tell(
            CallRecord(
                status=status,
                deployment=deployment.name if deployment else "",
                provider=deployment.provider if deployment else "",
                model=deployment.model if deployment else "",
                asked_model=self.asked,
                input_tokens=given,
                output_tokens=made,
                cost_usd=(given * prices.input + made * prices.output) / 1e6 if prices else None,
                latency_s=self.clock() - self.started,
                first_token_s=first,
                queued_s=self.queued_s,
                stream=self.stream,
                reason="failover" if len(self.attempts) > 1 else "waited" if self.queued_s > 0.01 else "room",
                attempts=tuple(self.attempts),
            )
        )


class Router:
    """Sends LLM calls where there is room.

        async with Router(RouterConfig.from_env(os.environ)) as router:
            answer = await router.client().chat.completions.create(model="smart", messages=[...])

    Inside the `async with`, `greenroom.llm` uses it too.

    Args:
        config: models and deployments.
        clock: seconds, monotonic.
    """

    def __init__(self, config: RouterConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        lanes: dict[str, Lane] = {}
        models: dict[str, list[Lane]] = {}
        for logical, deployments in config.models.items():
            for deployment in deployments:
                lane = lanes.get(deployment.name)
                if lane is None:
                    lane = lanes[deployment.name] = Lane(deployment, clock())
                models.setdefault(logical, []).append(lane)
        for lane in lanes.values():
            if lane.deployment.model not in config.models and lane not in models.get(lane.deployment.model, ()):
                models.setdefault(lane.deployment.model, []).append(lane)
        self._lanes = lanes
        self._scheduler = Scheduler(models, clock)
        self._http: httpx2.AsyncClient | None = None
        self._token: Any = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self._http = httpx2.AsyncClient(limits=limits, timeout=None, trust_env=False)
        self._token = current_router.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        current_router.reset(self._token)
        self._scheduler.close()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def client(self) -> AsyncOpenAI:
        """Return an OpenAI client whose transport is this router: the whole SDK works, retries are the router's."""
        from .transport import client

        return client(self)

    def snapshot(self) -> tuple[LaneSnapshot, ...]:
        """Return how every deployment fares."""
        return tuple(
            LaneSnapshot(
                deployment=name,
                breaker=lane.breaker.state(self._clock()),
                why=lane.breaker.why,
                in_flight=lane.in_flight,
                tokens_used=lane.tokens.used if lane.tokens else 0.0,
                outcomes=dict(lane.outcomes),
            )
            for name, lane in self._lanes.items()
        )

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return self._scheduler.waiting

    async def request(self, path: str, body: dict[str, Any], *, priority: int = 0) -> httpx2.Response:
        """Send a call. Every outcome is a response, as a provider would give it.

        Args:
            path: `/chat/completions`, `/embeddings`, ...
            body: the JSON of the request; with `"stream": true` the response is a stream, and the caller closes it.
            priority: higher goes first among the calls that wait.
        """
        size = len(msgspec.json.encode(body))
        call = _Call(path, body, size, self._clock)
        if not self._lanes:
            return refuse(401, "missing_key", str(MissingKey()))
        if call.asked not in self._scheduler.lanes:
            known = ", ".join(sorted(self._scheduler.lanes))
            return refuse(404, "model_not_found", f"no model is named {call.asked!r}: this router has {known}")
        avoid: frozenset[str] = frozenset()
        answer: httpx2.Response | None = None
        while len(call.attempts) < self.config.max_attempts:
            try:
                ticket = await self._wait(call, avoid, priority)
            except Unplaceable:
                call.over(None, "failed", (0, 0), None)
                return refuse(
                    400,
                    "request_too_large",
                    f"the call may take {call.tokens:.0f} tokens, more than any limit a minute",
                )
            if ticket is None:
                break
            try:
                answer, good = await self._attempt(call, ticket)
            except BaseException:  # canceled, or a surprise: nothing is learned of the deployment
                ticket.lane.breaker.release()
                ticket.give_back("canceled")
                raise
            finally:
                self._scheduler.dispatch()
            if good:
                return answer
            avoid |= {ticket.lane.deployment.name}
            if avoid.issuperset(lane.deployment.name for lane in self._scheduler.lanes[call.asked]):
                avoid = frozenset()
        call.over(None, "failed", (0, 0), None)
        return answer or self._all_down(call)

    async def _wait(self, call: _Call, avoid: frozenset[str], priority: int) -> Ticket | None:
        asked_at = self._clock()
        with anyio.move_on_after(self.config.max_wait_s):
            ticket = await self._scheduler.acquire(call.asked, call.tokens, avoid, priority)
            call.queued_s += self._clock() - asked_at
            return ticket
        return None

    async def _attempt(self, call: _Call, ticket: Ticket) -> tuple[httpx2.Response, bool]:
        """Send the call to one deployment; return its answer, and whether the caller gets it."""
        assert self._http is not None, "the router is not open"
        lane, deployment = ticket.lane, ticket.lane.deployment
        times = deployment.timeouts
        started = self._clock()
        request = self._http.build_request(
            "POST",
            deployment.base_url.rstrip("/") + call.path,
            content=msgspec.json.encode(prepare(deployment, call.path, call.body, stream=call.stream)),
            headers={"authorization": f"Bearer {deployment.key.reveal()}", "content-type": "application/json"},
            timeout=httpx2.Timeout(times.total, connect=times.connect),
        )
        response: httpx2.Response | None = None
        try:
            try:
                with anyio.fail_after(times.first_token if call.stream else times.total):
                    response = await self._http.send(request, stream=True)
                    if response.status_code >= 400 or not call.stream:
                        await response.aread()
            except TimeoutError:
                raise Broken(Refusal("unavailable", "timed out")) from None
            except httpx2.TransportError as error:
                raise Broken(Refusal("unavailable", type(error).__name__)) from None
            if response.status_code >= 400:
                raise Broken(classify(response.status_code, response.headers, response.content))
            self._learn(lane, response.headers)
            if call.stream:
                return await self._pass_on(call, ticket, response, started), True
            usage = usage_of(_whole(response))
        except Broken as broken:
            if response is not None:
                await response.aclose()
            refusal = broken.refusal
            self._count(call, ticket, refusal.kind, started, refusal)
            known = response if response is not None and response.status_code >= 400 else None
            if refusal.kind == "caller":
                call.over(deployment, "failed", (0, 0), None)
            return known or refuse(
                503, "unavailable", f"{deployment.name}: {refusal.message}"
            ), refusal.kind == "caller"
        except BaseException:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            raise
        self._count(call, ticket, "ok", started, None, usage)
        call.over(deployment, "ok", usage or (0, 0), None)
        return response, True

    async def _pass_on(self, call: _Call, ticket: Ticket, response: httpx2.Response, started: float) -> httpx2.Response:
        deployment = ticket.lane.deployment
        times = deployment.timeouts
        if "text/event-stream" not in response.headers.get("content-type", ""):
            raise Broken(Refusal("unavailable", "a stream was asked for, and something else came with status 200"))
        show_usage = bool((call.body.get("stream_options") or {}).get("include_usage"))
        chunks, ahead, events = await open_stream(
            response, show_usage=show_usage, first_s=times.first_token, between_s=times.between_tokens
        )
        first = self._clock() - call.started

        def done(status: str, refusal: Refusal | None) -> None:
            self._count(call, ticket, status, started, refusal, chunks.usage)
            call.over(deployment, status, chunks.usage or (0, 0), first)
            self._scheduler.dispatch()

        stream = RoutedStream(chunks, ahead, events, done)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    def _count(
        self,
        call: _Call,
        ticket: Ticket,
        outcome: str,
        started: float,
        refusal: Refusal | None,
        usage: tuple[int, int] | None = None,
    ) -> None:
        """Settle the ticket, and draw the conclusions for the deployment."""
        lane, now = ticket.lane, self._clock()
        error = refusal.message if refusal is not None else None
        call.attempts.append(
            AttemptRecord(deployment=lane.deployment.name, outcome=outcome, latency_s=now - started, error=error)
        )
        ticket.give_back(outcome, sum(usage) if usage else None)
        if refusal is None or refusal.kind == "caller":
            lane.breaker.succeed()
        elif refusal.kind == "limited":
            lane.breaker.release()
            lane.pause(refusal.retry_after_s if refusal.retry_after_s is not None else 1.0, now)
        else:
            lane.breaker.fail(now, refusal.message, refused=refusal.kind in ("quota", "refused"))
            if refusal.retry_after_s:
                lane.pause(refusal.retry_after_s, now)

    def _learn(self, lane: Lane, headers: Mapping[str, str]) -> None:
        """Stop before the provider says 429: it tells how much is left."""
        for what in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{what}") == "0":
                pause = seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
                lane.pause(min(pause, 1.0), self._clock())

    def _all_down(self, call: _Call) -> httpx2.Response:
        """Say who is down, and when to try again."""
        now = self._clock()
        waits = [lane.breaker.until - now for lane in self._scheduler.lanes[call.asked]]
        who = ", ".join(
            f"{lane.deployment.name} ({lane.breaker.state(now)}: {lane.breaker.why or 'no room'})"
            for lane in self._scheduler.lanes[call.asked]
        )
        message = f"no deployment of {call.asked!r} had room within {self.config.max_wait_s:g} s: {who}"
        return refuse(503, "unavailable", message, max(1.0, min(waits)))


def refuse(status: int, code: str, message: str, retry_after_s: float | None = None) -> httpx2.Response:
    """Answer in a provider's stead."""
    headers = {"content-type": "application/json", "x-greenroom-router": code}
    if retry_after_s is not None:
        headers["retry-after"] = f"{retry_after_s:.0f}"
    error = {"message": message, "type": "router_error", "param": None, "code": code}
    return httpx2.Response(status, headers=headers, content=msgspec.json.encode({"error": error}))


def seconds(text: str) -> float:
    """Read a duration such as 17ms, 1s or 6m0s."""
    total, number = 0.0, ""
    unit = ""
    for char in text + " ":
        if char.isdigit() or char == ".":
            if unit:
                total += _part(number, unit)
                number = unit = ""
            number += char
        elif char != " ":
            unit += char
    return total + _part(number, unit)


def _part(number: str, unit: str) -> float:
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}.get(unit)
    return float(number) * scale if scale is not None and number.count(".") < 2 and number.strip(".") else 0.0


def _whole(response: httpx2.Response) -> Any:
    """Decode an answer with status 200; what is no JSON object is no answer."""
    try:
        found = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        raise Broken(Refusal("unavailable", "an answer with status 200 is not JSON")) from None
    if not isinstance(found, dict) or found.get("error"):
        raise Broken(classify(500, response.headers, response.content))
    return found
