"""Budgets: how much money and how many tokens a tenant, a run or a block of code may spend on calls.

    with budget(usd=0.50):
        await llm.chat.completions.create(...)

A budget counts what is inside it, also in what is called there; calls count in every budget around them. It is
checked before a call and charged after it, so the call that crosses it is the last. Dollars are known where a
deployment has prices. Counted in this process; a run that goes on elsewhere counts what its log says was spent in the
steps that it asks for again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from .errors import RouterConfigInvalid


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent; None: no bound.

    Attributes:
        usd: dollars.
        tokens: input and output tokens.
        per_s: the budget is whole again after so many seconds, such as 86400; None: never.
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


class Purse:
    """A budget at work.

    Args:
        whose: in words, for errors.
        limits: what may be spent.
    """

    def __init__(self, whose: str, limits: Budget) -> None:
        self.whose = whose
        self.limits = limits
        self.usd = 0.0
        self.tokens = 0.0
        self._since = 0.0

    def spent(self, now: float) -> str:
        """Say what is spent, if the budget is; "" while there is something left."""
        if self.limits.per_s is not None and now - self._since >= self.limits.per_s:
            self.usd = self.tokens = 0.0
            self._since = now
        for left, unit, value in ((self.limits.usd, "dollars", self.usd), (self.limits.tokens, "tokens", self.tokens)):
            if left is not None and value >= left:
                return f"{self.whose} has spent {value:,.6g} of its {left:,.6g} {unit}"
        return ""

    def again_s(self, now: float) -> float | None:
        """Return the seconds until it is whole again; None: never."""
        return None if self.limits.per_s is None else max(0.0, self._since + self.limits.per_s - now)

    def charge(self, usd: float | None, tokens: float) -> None:
        """Count a call."""
        self.usd += usd or 0.0
        self.tokens += tokens


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
