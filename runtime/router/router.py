"""The router: every LLM call goes through it, to the deployment that has room, and elsewhere if that one fails.

Laws kept here: 8 (through the scheduler), 9 (what cannot be sent is answered at once, saying why), 10 (keys are
revealed to the request that carries them and to nothing else).
One call: estimate its tokens, wait for room, send, classify a refusal, go elsewhere; settle with the real usage; tell
the observer. The last refusal is the caller's answer, in the provider's words, so that the SDK raises its own errors.
"""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
import msgspec

from . import answer
from .call import Call
from .config import RouterConfig
from .errors import MissingKey
from .failures import Broken, Refusal, classify
from .lane import Lane, Route, Ticket
from .providers import is_answer, prepare, speaks, usage_of
from .scheduler import LineClosed, LineFull, NobodyLeft, Scheduler, Unplaceable
from .stream import Events, RoutedStream

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 8.0
"""Waits before a call goes back to where it failed; each is twice the one before, and a random half less."""


class LaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment fares; `why` is its last failure, `tokens_used` counts the last minute."""

    deployment: str
    breaker: str
    why: str
    in_flight: int
    tokens_used: float
    outcomes: dict[str, int]


current_router: ContextVar[Router | None] = ContextVar("greenroom_router", default=None)
"""The router that `llm` uses here."""


class Router:
    """Sends LLM calls where there is room.

        async with Router(RouterConfig.from_env(os.environ)) as router:
            answer = await router.client().chat.completions.create(model="smart", messages=[...])

    Inside the `async with`, `greenroom.llm` uses it too. Time is the event loop's.

    Args:
        config: models and deployments.
        transport: what carries requests to providers; by default the network.
        seed: for the jitter of waits between attempts; by default random.
    """

    def __init__(
        self, config: RouterConfig, *, transport: httpx2.AsyncBaseTransport | None = None, seed: int | None = None
    ) -> None:
        self.config = config
        self._transport = transport
        self._rng = random.Random(seed)  # noqa: S311 - jitter
        self._lanes: dict[str, Lane] = {}
        self._routes: dict[str, tuple[Route, ...]] = {}
        for logical, deployments in config.models.items():
            for deployment in deployments:
                lane = self._lanes.setdefault(deployment.name, Lane(deployment))
                route = Route(lane, deployment.weight, deployment.tier)
                self._routes[logical] = (*self._routes.get(logical, ()), route)
        for lane in self._lanes.values():
            model = lane.deployment.model
            if model not in config.models:
                self._routes[model] = (*self._routes.get(model, ()), Route(lane, 1.0, 0))
        self._scheduler = Scheduler(_now, config.max_waiting)
        self._http: httpx2.AsyncClient | None = None
        self._token: Token[Router | None] | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        self._http = httpx2.AsyncClient(transport=self._transport, limits=limits, timeout=None, trust_env=False)
        self._token = current_router.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn away who waits, and close the connections."""
        if self._token is not None:
            current_router.reset(self._token)
        http, self._http, self._token = self._http, None, None
        self._scheduler.close()
        if http is not None:
            await http.aclose()

    def client(self) -> AsyncOpenAI:
        """Return an OpenAI client whose transport is this router: the whole SDK works, retries are the router's."""
        from .transport import client

        return client(self)

    @property
    def models(self) -> tuple[str, ...]:
        """What may be asked for: logical models, and the providers' own names."""
        return tuple(sorted(self._routes))

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return self._scheduler.waiting

    def snapshot(self) -> tuple[LaneSnapshot, ...]:
        """Return how every deployment fares. To be called on the event loop."""
        return tuple(
            LaneSnapshot(
                deployment=name,
                breaker=lane.breaker.state(_now()),
                why=lane.breaker.refusal.message if lane.breaker.refusal is not None else "",
                in_flight=lane.in_flight,
                tokens_used=lane.tokens.used if lane.tokens else 0.0,
                outcomes=dict(lane.outcomes),
            )
            for name, lane in self._lanes.items()
        )

    async def request(self, path: str, body: dict[str, Any], *, priority: int = 0) -> httpx2.Response:
        """Send a call. Every outcome is a response, in OpenAI's shape.

        Args:
            path: `/chat/completions`, `/embeddings`, ...
            body: the JSON of the request; with `"stream": true` the response is a stream, and the caller closes it.
            priority: higher goes first among the calls that wait.
        """
        if self._http is None:
            return answer.refuse(503, "router_closed", "the router is not open: use it inside its 'async with'")
        if not self._lanes:
            return answer.refuse(401, "missing_key", str(MissingKey()))
        size = len(msgspec.json.encode(body))
        call = Call(path, body, size, (-priority, self._scheduler.number()), _now)
        if call.asked not in self._routes:
            message = f"no model is named {call.asked!r}: this router has {', '.join(self.models)}"
            return answer.refuse(404, "model_not_found", message)
        routes = tuple(route for route in self._routes[call.asked] if speaks(route.lane.deployment, path))
        if not routes:
            return answer.refuse(404, "not_served", f"no deployment of {call.asked!r} serves {path}: ask another model")
        try:
            return await self._send(call, routes)
        except Unplaceable:
            response = answer.refuse(
                400,
                "request_too_large",
                f"the call may take {call.tokens:.0f} tokens, more than any deployment of {call.asked!r} is allowed in "
                "a minute: shorten it, or lower its max_completion_tokens",
            )
        except NobodyLeft:
            lane = routes[0].lane
            refusal = lane.breaker.refusal or Refusal("unavailable", "refused")
            message = f"every deployment of {call.asked!r} is refused: {self._states(routes)}"
            response = answer.refuse(refusal.status, _CODES.get(refusal.kind, refusal.kind), message)
        except LineFull:
            message = f"{self.waiting} calls wait already, as many as may (max_waiting): try again later"
            response = answer.refuse(503, "line_full", message, self._soonest(routes))
        except LineClosed:
            response = answer.refuse(503, "router_closed", "the router was closed while the call waited")
        call.over("failed")
        return response

    async def _send(self, call: Call, routes: tuple[Route, ...]) -> httpx2.Response:
        """Try deployments until one answers, or the caller is to blame, or nothing is left to try."""
        last: httpx2.Response | None = None
        tries = 0
        while routes and tries < self.config.max_attempts:
            ticket = await self._wait(call, routes)
            if ticket is None:
                break
            try:
                last, refusal = await self._attempt(call, ticket)
            except BaseException:
                ticket.dropped("canceled")
                raise
            if refusal is None:
                return last
            if refusal.kind == "caller":
                break
            if refusal.kind in ("quota", "refused", "unfit"):
                routes = tuple(route for route in routes if route.lane is not ticket.lane)
            elif refusal.kind == "unavailable":
                tries += not ticket.probe
                call.avoid |= {ticket.lane.name}
                await self._back_off(call, routes, tries)
        call.over("failed")
        if last is not None:
            return last
        message = (
            f"no deployment of {call.asked!r} had room within {self.config.max_wait_s:g} s: {self._states(routes)}"
        )
        return answer.refuse(503, "no_room", message, self._soonest(routes))

    async def _wait(self, call: Call, routes: tuple[Route, ...]) -> Ticket | None:
        """Wait in line; None: for as long as a call may."""
        asked_at = _now()
        with anyio.move_on_after(self.config.max_wait_s - call.queued_s):
            ticket = await self._scheduler.acquire(routes, call.tokens, call.avoid, call.order)
            call.queued_s += _now() - asked_at
            return ticket
        call.queued_s += _now() - asked_at
        return None

    async def _back_off(self, call: Call, routes: tuple[Route, ...], tries: int) -> None:
        """Wait a little where a call would go straight back to where it failed."""
        now = _now()
        fresh = any(route.lane.name not in call.avoid and not route.lane.down(now) for route in routes)
        if not fresh and tries < self.config.max_attempts:
            longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** max(0, tries - 1))
            await anyio.sleep(longest * (1 - self._rng.random() / 2))

    async def _attempt(self, call: Call, ticket: Ticket) -> tuple[httpx2.Response, Refusal | None]:
        """Send the call to one deployment; return its answer, and how it refused."""
        key = ticket.lane.deployment.key
        response: httpx2.Response | None = None
        usage: tuple[int, int] | None = None
        try:
            if self._http is None:
                raise LineClosed
            times = ticket.lane.deployment.timeouts
            started = _now()
            limit = times.first_token if call.stream else times.total
            try:
                with anyio.fail_after(limit):
                    response = await self._http.send(self._request(self._http, call, ticket), stream=True)
                    ticket.told(response.headers)
                    if response.status_code == 200 and call.stream:
                        return await self._open(call, ticket, response, started + times.total), None
                    await response.aread()
            except TimeoutError:
                what = "first token" if call.stream else "answer"
                raise Broken.unavailable(f"timed out: no {what} within {limit:g} s") from None
            except (httpx2.RequestError, httpx2.StreamError) as error:
                raise Broken.unavailable(f"no connection: {type(error).__name__}") from None
            if response.status_code >= 300:
                raise Broken(classify(response.status_code, response.headers, response.content))
            usage = usage_of(_whole(call.path, response))
        except Broken as broken:
            if response is not None:
                await response.aclose()
            refusal = broken.refusal
            message = key.hide(refusal.message)
            refusal = msgspec.structs.replace(refusal, message=message)
            call.attempted(ticket, refusal.kind, message)
            ticket.answered(None if refusal.kind == "unavailable" else 0, refusal)
            if response is not None and response.status_code >= 400:
                return answer.told(response, key), refusal
            return answer.refuse(503, "unavailable", f"{ticket.lane.name}: {message}"), refusal
        except BaseException:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            raise
        call.attempted(ticket, "ok")
        ticket.answered(sum(usage) if usage else None)
        call.over("ok", usage)
        return answer.told(response, key), None

    def _request(self, http: httpx2.AsyncClient, call: Call, ticket: Ticket) -> httpx2.Request:
        deployment = ticket.lane.deployment
        return http.build_request(
            "POST",
            deployment.base_url.rstrip("/") + call.path,
            content=msgspec.json.encode(prepare(deployment, call.path, call.body, stream=call.stream)),
            headers={"authorization": f"Bearer {deployment.key.reveal()}", "content-type": "application/json"},
            timeout=httpx2.Timeout(deployment.timeouts.total, connect=deployment.timeouts.connect),
        )

    async def _open(self, call: Call, ticket: Ticket, response: httpx2.Response, until: float) -> httpx2.Response:
        """Read a stream up to its first token; from there on it is the caller's."""
        deployment = ticket.lane.deployment
        if "text/event-stream" not in response.headers.get("content-type", ""):
            raise Broken.unavailable("a stream was asked for, and something else came with status 200")
        options = call.body.get("stream_options")
        show_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        events = Events(response, show_usage=show_usage, timeouts=deployment.timeouts)
        await events.open()
        call.first_token_s = _now() - call.started

        def done(outcome: str, refusal: Refusal | None) -> None:
            call.attempted(ticket, outcome, refusal.message if refusal is not None else None)
            used = sum(events.usage) if events.usage else None
            if outcome == "closed":
                ticket.dropped(outcome, used)
            else:
                ticket.answered(used, refusal)
            call.over("failed" if refusal is not None else outcome, events.usage)

        stream = RoutedStream(events, deployment, until - _now(), done)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    def _states(self, routes: tuple[Route, ...]) -> str:
        now, states = _now(), []
        for lane in (route.lane for route in routes):
            why = lane.breaker.refusal.message if lane.breaker.refusal is not None else "busy"
            states.append(f"{lane.name} ({lane.breaker.state(now)}: {why})")
        return "; ".join(states)

    def _soonest(self, routes: tuple[Route, ...]) -> float:
        now = _now()
        return min(max(route.lane.breaker.until, route.lane.paused_until) - now for route in routes)


_CODES = {"quota": "insufficient_quota", "refused": "refused"}


def _now() -> float:
    return asyncio.get_running_loop().time()


def _whole(path: str, response: httpx2.Response) -> Any:
    """Decode an answer with status 200; what is not what was asked for is no answer."""
    try:
        found = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        raise Broken.unavailable("an answer with status 200 is not JSON") from None
    if not is_answer(path, found):
        raise Broken(classify(503, response.headers, response.content))
    return found
