"""The router: every LLM call goes through it, to the deployment that has room, and elsewhere if that one fails.

Laws kept here: 8 (through the scheduler), 9 (what cannot be sent is answered at once, saying why), 10 (keys are
revealed to the request that carries them and to nothing else).
One call: look at budgets and cache, wait for room (`watch`), send (`sender`), go elsewhere if it is refused; settle
with the real usage; tell the observer. The last refusal is the caller's answer, in the provider's words, so that the
SDK raises its own errors.
"""

from __future__ import annotations

import asyncio
import math
import random
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
import msgspec

from ...transports import Transport
from . import answer
from .budget import Purse, Spent, purses
from .cache import Cache
from .call import Call
from .config import RouterConfig
from .connections import Connections
from .errors import MissingKey
from .failures import Refusal
from .hedging import HedgeBudget
from .lane import Lane, Route, Ticket
from .race import race
from .retries import RetryBudget
from .scheduler import LineClosed, LineFull, NobodyLeft, Scheduler, Unplaceable
from .sender import Sender
from .shares import Shares
from .snapshot import LaneSnapshot, LineSnapshot
from .standing import Standing, inherited_deadline, standing
from .watch import AllDown, Shed, Watch

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 8.0
"""Waits before a call goes back to where it failed; each is twice the one before, and a random half less."""

HEARD_S = 1.0
"""How long a call with a budget waits, right after the start, to hear what others have spent of it, seconds."""

CLOSE_S = 0.001
"""Nobody waits for less."""


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
        self._scouts: dict[tuple[Route, ...], Call] = {}
        self._retries = RetryBudget(config.retry_ratio)
        self._hedges = HedgeBudget(config.hedge.share if config.hedge else 0.0)
        self._cache = Cache(config.cache, _now) if config.cache else None
        self._purses = {name: Purse(f"tenant {name}", tenant.budget) for name, tenant in config.tenants.items()}
        self.shares: Shares | None = None
        self._sender: Sender | None = None
        self._open: httpx2.AsyncBaseTransport | None = None
        self._token: Token[Router | None] | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        self._open = self._transport or Connections()
        await self._open.__aenter__()
        self._sender = Sender(self._open, _now, restarts=self.config.stream_failover == "reset")
        self._token = current_router.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn away who waits, and close the connections."""
        if self._token is not None:
            current_router.reset(self._token)
        opened, self._open, self._sender, self._token = self._open, None, None, None
        self._scheduler.close()
        if opened is not None:
            await opened.__aexit__(None, None, None)

    def share(self, transport: Transport, holder: str) -> Shares:
        """Share limits and budgets with all who use this store, from now on; the task of what is returned has to run.

        Args:
            transport: the store.
            holder: who this is, to the others: no two have one name.
        """
        self.shares = Shares(
            transport,
            holder,
            self._lanes.values(),
            self._purses,
            waiting=self._scheduler.waiting_for,
            dispatch=self._scheduler.dispatch,
            clock=_now,
        )
        return self.shares

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
        now = _now()
        return tuple(lane.snapshot(now) for lane in self._lanes.values())

    def line(self, model: str) -> LineSnapshot:
        """Return how long the line for a model is, and how long a small call would wait in it now.

        Raises:
            KeyError: there is no such model.
        """
        routes = self._routes[model]
        last = (math.inf,)
        return LineSnapshot(
            model=model,
            waiting=self._scheduler.ahead(routes, last),
            expected_s=self._scheduler.expected(routes, 1.0, last),
        )

    async def request(
        self,
        path: str,
        body: dict[str, Any],
        *,
        priority: int | None = None,
        tenant: str | None = None,
        deadline_s: float | None = None,
        fresh: bool = False,
    ) -> httpx2.Response:
        """Send a call. Every outcome is a response, in OpenAI's shape.

        Args:
            path: `/chat/completions`, `/embeddings`, ...
            body: the JSON of the request; with `"stream": true` the response is a stream, and the caller closes it.
            priority: higher goes first among the calls that wait; by default that of where the call is made.
            tenant: tenants of one priority take turns; by default that of where the call is made.
            deadline_s: seconds until an answer, or a stream's first token, is of no use any more. By default the
                deadline of the cancel scope or run that the call is made in.
            fresh: do not take the answer from the cache.
        """
        if self._sender is None:
            return answer.refuse(503, "router_closed", "the router is not open: use it inside its 'async with'")
        if not self._lanes:
            return answer.refuse(401, "missing_key", str(MissingKey()))
        found = standing.get()
        if priority is not None or tenant is not None:
            priority = found.priority if priority is None else priority
            tenant = found.tenant if tenant is None else tenant
            found = msgspec.structs.replace(found, priority=priority, tenant=tenant)
        call = self._call(path, body, found, deadline_s)
        if call.asked not in self._routes:
            message = f"no model is named {call.asked!r}: this router has {', '.join(self.models)}"
            return answer.refuse(404, "model_not_found", message)
        routes = tuple(route for route in self._routes[call.asked] if route.lane.deployment.spoken.serves(path))
        if not routes:
            return answer.refuse(404, "not_served", f"no deployment of {call.asked!r} serves {path}: ask another model")
        if call.spending and (spent := await self._spent(call)):
            return spent
        self._retries.called()
        self._hedges.called()

        async def ask() -> httpx2.Response:
            if deadline_s is None:
                return await self._answer(call, routes, found)
            with anyio.CancelScope(deadline=call.deadline):
                return await self._answer(call, routes, found)
            call.over("failed")
            message = f"no answer within the call's {deadline_s:g} s: {self._states(routes)}"
            return answer.refuse(504, "deadline", message, self._soonest(routes))

        if self._cache is None or call.stream or fresh:
            return await ask()
        response, kept = await self._cache.through(self._cache.key(found.tenant, path, body), ask)
        if kept:
            call.over("ok" if response.status_code == 200 else "failed", reason="cached")
        return response

    async def _spent(self, call: Call) -> httpx2.Response | None:
        """Answer a call whose budget is used up; what others have spent of it is heard first."""
        if self.shares is not None and not self.shares.heard.is_set():
            with anyio.move_on_after(HEARD_S):
                await self.shares.heard.wait()
        try:
            call.check()
        except Spent as spent:
            call.over("failed")
            return _broke(spent)
        return None

    def _call(self, path: str, body: dict[str, Any], found: Standing, deadline_s: float | None) -> Call:
        """Open the account of a call."""
        tenant = self.config.tenants.get(found.tenant)
        order = self._scheduler.order(found.priority, found.tenant, tenant.weight if tenant else 1.0)
        deadline = inherited_deadline(found)
        spending = purses.get()
        if found.tenant in self._purses:
            spending = (*spending, self._purses[found.tenant])
        return Call(
            path,
            body,
            len(msgspec.json.encode(body)),
            order,
            _now,
            deadline=deadline if deadline_s is None else min(deadline, _now() + deadline_s),
            spending=spending,
        )

    async def _answer(self, call: Call, routes: tuple[Route, ...], found: Standing) -> httpx2.Response:
        try:
            try:
                return await self._send(call, routes, found)
            finally:
                if self._scouts.get(routes) is call:
                    del self._scouts[routes]
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
        except Shed as shed:
            message = (
                f"{call.asked!r} is expected to have room in {shed.expected_s:.1f} s and the call has "
                f"{shed.left_s:.1f} s left: try again in {shed.again_s:.0f} s; {self._states(routes)}"
            )
            response = answer.refuse(503, "deadline_unmet", message, shed.again_s)
        except LineFull:
            message = f"{self.waiting} calls wait already, as many as may (max_waiting): try again later"
            response = answer.refuse(503, "line_full", message, self._soonest(routes))
        except Spent as spent:
            response = _broke(spent)
        except WaitedOut as waited:
            response = answer.refuse(503, "no_room", f"{waited}: {self._states(routes)}", self._soonest(routes))
        except LineClosed:
            response = answer.refuse(503, "router_closed", "the router was closed while the call waited")
        call.over("failed")
        return response

    async def _send(self, call: Call, routes: tuple[Route, ...], found: Standing) -> httpx2.Response:
        """Try deployments until one answers, or the caller is to blame, or nothing is left to try."""
        last: httpx2.Response | None = None
        tries = 0
        while routes and tries < self.config.max_attempts:
            ticket = await self._wait(call, routes, found)
            last, refusal, ticket = await self._attempt(call, ticket, routes)
            if refusal is None:
                return last
            if refusal.kind == "caller":
                break
            if refusal.kind in ("quota", "refused", "unfit"):
                lane = ticket.lane
                routes = tuple(route for route in routes if route.lane is not lane)
            elif refusal.kind == "unavailable":
                tries += not ticket.probe
                call.avoid |= {ticket.lane.name}
                if tries >= self.config.max_attempts and refusal.status in OUTAGE and _failing(routes):
                    tries = 0
                await self._back_off(call, routes, tries)
        assert last is not None
        call.over("failed")
        return last

    async def _wait(self, call: Call, routes: tuple[Route, ...], found: Standing) -> Ticket:
        """Wait in line. While all is down, whoever has patience waits elsewhere.

        Raises:
            WaitedOut: it has waited as long as it may.
        """
        ticket = self._scheduler.at_once(routes, call.tokens, call.avoid, call.order)
        if ticket is not None:
            return ticket
        watch = Watch(self._scheduler, call, routes, found, self._states, self._scouts)
        sender = self._sender

        def bound(ticket: Ticket) -> None:
            if sender is not None:
                sender.begin(call, ticket)

        check = call.check if call.spending else None
        while True:
            asked_at = _now()
            try:
                with anyio.move_on_after(self._patience_s(call, routes, found)):
                    return await self._scheduler.acquire(
                        routes, call.tokens, call.avoid, call.order, watch.look, bound, check
                    )
                if found.patience is None:
                    continue
                pause_s = max(1.0, self._soonest(routes))
            except AllDown as down:
                pause_s = down.pause_s * (1 + self._rng.random())
            finally:
                call.queued_s += _now() - asked_at
            assert found.patience is not None
            if self._scouts.get(routes) is call:
                del self._scouts[routes]
            pause_s = min(pause_s, max(0.0, call.deadline - _now()))
            await found.patience(f"room for {call.asked}: {self._states(routes)}", pause_s)
            call.queued_s, call.patient_since = 0.0, _now()

    def _patience_s(self, call: Call, routes: tuple[Route, ...], found: Standing) -> float:
        """Return how long a call may wait in line before somebody looks again.

        Raises:
            WaitedOut: it has waited as long as it may.
        """
        left_s = self.config.max_wait_s - call.queued_s
        if found.patience is None:
            if left_s <= CLOSE_S:
                raise WaitedOut(f"no deployment of {call.asked!r} had room within {call.queued_s:.0f} s")
            if call.deadline == math.inf:
                down_s = min(_down_s(routes), _now() - call.started)
                if down_s >= self.config.max_down_s - CLOSE_S:
                    raise WaitedOut(f"every deployment of {call.asked!r} is down")
                left_s = min(left_s, self.config.max_down_s - down_s)
        return left_s

    async def _attempt(
        self, call: Call, ticket: Ticket, routes: tuple[Route, ...]
    ) -> tuple[httpx2.Response, Refusal | None, Ticket]:
        """Send the call, and a hedge if that takes unusually long; return what counts, and whose it is."""
        if self._sender is None:
            ticket.dropped("canceled")
            raise LineClosed
        after_s = self._unusual(ticket)
        if after_s is None or len(routes) == 1:
            try:
                return *await self._sender.attempt(call, ticket), ticket
            except BaseException:
                ticket.dropped("canceled")
                raise
        others = tuple(route for route in routes if route.lane is not ticket.lane)

        def another() -> Ticket | None:
            if self._sender is None or not self._hedges.ready:
                return None
            hedge = self._scheduler.at_once(others, call.tokens, frozenset(), call.order)
            if hedge is not None:
                self._hedges.take()
                call.hedge = hedge
            return hedge

        return await race(self._sender.attempt, call, ticket, after_s, another)

    def _unusual(self, ticket: Ticket) -> float | None:
        policy = self.config.hedge
        if policy is None:
            return None
        usual = ticket.lane.durations.percentile(policy.percentile)
        return None if usual is None else max(policy.least_s, usual)

    async def _back_off(self, call: Call, routes: tuple[Route, ...], tries: int) -> None:
        """Wait for the budget of retries, and a little where a call would go straight back to where it failed."""
        if tries >= self.config.max_attempts:
            return
        now = _now()
        pause_s = self._retries.take(now)
        fresh = any(route.lane.name not in call.avoid and not route.lane.down(now) for route in routes)
        if not fresh and not all(route.lane.breaker.is_open for route in routes):  # an open breaker spaces its probes
            longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** max(0, tries - 1))
            pause_s = max(pause_s, longest * (1 - self._rng.random() / 2))
        if pause_s:
            await anyio.sleep(pause_s)

    def _states(self, routes: tuple[Route, ...]) -> str:
        states = [route.lane.state(_now()) for route in routes]
        if self.shares is not None and self.shares.trouble:
            states.append(f"their limits are shared, and the store cannot be asked: {self.shares.trouble}")
        return "; ".join(states)

    def _soonest(self, routes: tuple[Route, ...]) -> float:
        now = _now()
        return min((route.lane.up_in(now) for route in routes), default=0.0)


def _broke(spent: Spent) -> httpx2.Response:
    return answer.refuse(402, "budget_spent", f"{spent}: raise the budget", spent.again_s)


class WaitedOut(Exception):
    """A call has waited as long as it may; the message says for what."""


def _down_s(routes: tuple[Route, ...]) -> float:
    """Return the seconds since which all deployments are down; 0: one is up."""
    breakers = [route.lane.breaker for route in routes]
    return _now() - max(one.since for one in breakers) if all(one.is_open for one in breakers) else 0.0


def _failing(routes: tuple[Route, ...]) -> bool:
    """Say whether the last word of every deployment was a failure: then all are down, and are left alone."""
    if not all(route.lane.breaker.failures for route in routes):
        return False
    for route in routes:
        route.lane.breaker.trip(_now())
    return True


OUTAGE = frozenset({502, 503, 504, 529})
"""What a provider says that is down. After too many of other failures (500) it may be the call that is at fault."""

_CODES = {"quota": "insufficient_quota", "refused": "refused"}


def _now() -> float:
    return asyncio.get_running_loop().time()
