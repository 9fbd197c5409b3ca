"""Budgets: how much money and how many tokens a tenant, a run or a block of code may spend on calls.

    with budget(usd=0.50):
        await llm.chat.completions.create(...)

A budget counts what is inside it, also in what is called there; calls count in every budget around them. It is
checked before a call is sent and charged after it, so the call that crosses it is the last. Dollars are known where a
deployment has prices. A tenant's budget is counted over all workers on one store (`tally`), that of a block in this
process; a run that goes on elsewhere counts what its log says was spent in the steps that it asks for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from .errors import RouterConfigInvalid


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent; None: no bound.

    Attributes:
        usd: dollars.
        tokens: input and output tokens.
        per_s: the seconds in which no more is spent, in any such period, such as 86400; None: ever.
    """

    usd: float | None = None
    tokens: float | None = None
    per_s: float | None = None

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RouterConfigInvalid(f"{where}.{name} is {value}: give a number above 0, or leave it out")


KINDS = ("usd", "tokens")
PARTS = 240
"""Parts of a period in which spending is counted together: it counts up to a part longer."""


class Spent(Exception):
    """A budget is used up; the message says whose. `again_s`: when to try again, seconds; None: never."""

    def __init__(self, why: str, again_s: float | None) -> None:
        super().__init__(why)
        self.again_s = again_s


class Purse:
    """A budget at work.

    Args:
        whose: in words, for errors.
        limits: what may be spent.

    Attributes:
        usd, tokens: what was spent, as far as it is known here.
        untold: what was spent here and the others have not been told of.
        asked: whether it was asked for since it was last told what all have spent.
    """

    def __init__(self, whose: str, limits: Budget) -> None:
        self.whose = whose
        self.limits = limits
        self.usd = 0.0
        self.tokens = 0.0
        self.untold = dict.fromkeys(KINDS, 0.0)
        self.asked = False
        self._due: Callable[[], None] | None = None
        self._period: deque[list[float]] = deque()

    def share(self, due: Callable[[], None]) -> None:
        """Have others spend from it, too: somebody else says from now on what was spent. `due`: there is news."""
        self._due = due

    def check(self, now: float) -> None:
        """Raise Spent if nothing is left."""
        if why := self.spent(now):
            raise Spent(why, self._again_s(now))

    @property
    def empty(self) -> bool:
        """Whether nothing was left when it was last looked at."""
        return any((left := getattr(self.limits, kind)) is not None and getattr(self, kind) >= left for kind in KINDS)

    def spent(self, now: float) -> str:
        """Say what is spent, if the budget is; "" while there is something left."""
        while self._period and self._period[0][0] <= now:
            _, usd, tokens = self._period.popleft()
            self.usd, self.tokens = (self.usd - usd, self.tokens - tokens) if self._period else (0.0, 0.0)
        if self._due is not None and not self.asked:
            self.asked = True
            self._due()
        for left, unit, value in ((self.limits.usd, "dollars", self.usd), (self.limits.tokens, "tokens", self.tokens)):
            if left is not None and value >= left:
                return f"{self.whose} has spent {value:,.6g} of its {left:,.6g} {unit}"
        return ""

    def charge(self, usd: float | None, tokens: float, now: float = 0.0) -> None:
        """Count a call."""
        usd, per_s = usd or 0.0, self.limits.per_s
        self.usd += usd
        self.tokens += tokens
        if self._due is not None:
            self.untold["usd"] += usd
            self.untold["tokens"] += tokens
            self._due()
        elif per_s is not None:
            if not self._period or self._period[-1][0] < now + per_s:
                self._period.append([now + per_s * (1 + 1 / PARTS), 0.0, 0.0])
            self._period[-1][1] += usd
            self._period[-1][2] += tokens

    def _again_s(self, now: float) -> float | None:
        if self.limits.per_s is None:
            return None
        return self._period[0][0] - now if self._period else self.limits.per_s / PARTS


purses: ContextVar[tuple[Purse, ...]] = ContextVar("greenroom_llm_purses", default=())
"""The budgets around calls made here."""


def charge(usd: float, tokens: float) -> None:
    """Count what was spent here before, by another process."""
    for purse in purses.get():
        purse.charge(usd, tokens)


@contextmanager
def budget(*, usd: float | None = None, tokens: float | None = None, name: str = "this block") -> Iterator[Purse]:
    """Bound what calls inside the block may spend; a call beyond it is answered with 402.

    Args:
        usd: dollars; None: no bound.
        tokens: input and output tokens; None: no bound.
        name: whose budget it is, for errors.

    Raises:
        RouterConfigInvalid: a bound is not above 0.
    """
    limits = Budget(usd=usd, tokens=tokens)
    limits.validated("budget")
    purse = Purse(name, limits)
    token = purses.set((*purses.get(), purse))
    try:
        yield purse
    finally:
        purses.reset(token)


class Tenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant with a share or a budget of its own; one that is not named has weight 1 and no budget.

    Attributes:
        weight: its share of the line among tenants of one priority.
        budget: what it may spend.
    """

    weight: float = 1.0
    budget: Budget = Budget()

    def validated(self, where: str) -> None:
        """Raise RouterConfigInvalid if a value makes no sense."""
        if not self.weight > 0:
            raise RouterConfigInvalid(f"{where}.weight is {self.weight}: give a number above 0")
        self.budget.validated(f"{where}.budget")
