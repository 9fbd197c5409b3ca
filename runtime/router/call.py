"""One call under way, and the account of it that is given when it is over: the decision record."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from .budget import Purse
from .deployment import Deployment
from .lane import Ticket
from .protocol import estimate
from .remarks import NONE as NO_REMARKS
from .remarks import Remarks
from .scheduler import Order


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a call at one deployment; outcome: ok, closed or a kind of refusal (see `failures`)."""

    deployment: str
    outcome: str
    latency_s: float
    error: str | None = None


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call, over: where it went and why, what it took.

    Attributes:
        status: ok; closed: the caller stopped reading a stream; failed.
        deployment, provider, model: of the last attempt; empty where there was none.
        asked_model: what the caller asked for.
        cost_usd: None: no prices are configured.
        latency_s: from the call to its end, seconds; `queued_s` of it in line.
        first_token_s: from the call to a stream's first token, seconds.
        reason: why this deployment: "room" (it had some at once), "waited" (it had some first), "failover" (another
            one failed before), "hedge" (another one took too long), "cached" (none was asked).
        path: what was asked, `/chat/completions`, `/embeddings`, ...
        remarks: what the answer said of itself.
    """

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
    path: str = ""
    remarks: Remarks = NO_REMARKS


observer: ContextVar[Callable[[CallRecord], None] | None] = ContextVar("greenroom_llm_observer", default=None)
"""Who is told of calls made here."""

WAITED_S = 0.01
"""A shorter wait is none."""


class Call:
    """What is known of a call under way."""

    def __init__(
        self,
        path: str,
        body: dict[str, Any],
        size: int,
        order: Order,
        clock: Callable[[], float],
        *,
        deadline: float = math.inf,
        spending: tuple[Purse, ...] = (),
    ) -> None:
        self.path = path
        self.body = body
        self.asked = str(body.get("model", ""))
        self.stream = body.get("stream") is True
        self.tokens = estimate(path, body, size)
        self.order = order
        self.clock = clock
        self.deadline = deadline
        self.spending = spending
        self.started = self.patient_since = clock()
        self.queued_s = 0.0
        self.first_token_s: float | None = None
        self.hedge: Ticket | None = None
        self.remarks = NO_REMARKS
        self._last: Ticket | None = None
        self.avoid: frozenset[str] = frozenset()
        self.attempts: list[AttemptRecord] = []
        self._deployment: Deployment | None = None
        self._tell = observer.get()

    def check(self) -> None:
        """Raise Spent if a budget that it counts in is used up."""
        for purse in self.spending:
            purse.check(self.clock())

    def attempted(self, ticket: Ticket, outcome: str, error: str | None = None) -> None:
        """Note an attempt that ended."""
        self._last, self._deployment = ticket, ticket.lane.deployment
        took = self.clock() - ticket.at
        self.attempts.append(AttemptRecord(deployment=ticket.lane.name, outcome=outcome, latency_s=took, error=error))

    def over(self, status: str, usage: tuple[int, int] | None = None, *, reason: str = "") -> None:
        """Charge the budgets, and give the account of the call."""
        given, made = usage or (0, 0)
        deployment = self._deployment
        prices = deployment.prices if deployment is not None else None
        cost = (given * prices.input + made * prices.output) / 1e6 if prices else None
        for purse in self.spending:
            purse.charge(cost, given + made, self.clock())
        if self._tell is None:
            return
        self._tell(
            CallRecord(
                status=status,
                deployment=deployment.name if deployment else "",
                provider=deployment.provider if deployment else "",
                model=deployment.model if deployment else "",
                asked_model=self.asked,
                input_tokens=given,
                output_tokens=made,
                cost_usd=cost,
                latency_s=self.clock() - self.started,
                first_token_s=self.first_token_s,
                queued_s=self.queued_s,
                stream=self.stream,
                reason=reason or self._reason(),
                attempts=tuple(self.attempts),
                path=self.path,
                remarks=self.remarks,
            )
        )

    def _reason(self) -> str:
        if len(self.attempts) > 1:
            return "failover"
        if self.hedge is not None and self._last is self.hedge:
            return "hedge"
        return "waited" if self.queued_s > WAITED_S else "room"
