"""What workers share of a provider's limits: who may send how much, and what the others know of it. Pure.

A *reservoir* has a few limits (`Bound`) that are drawn on together. A *holder* (a worker) draws a batch that it may
spend without asking, for as long as its lease lasts, and says at its next draw what it has spent. Transports read a
reservoir, `draw`, and write it back as one act; every transport decides by this one function.

Law kept here: 8 (no window sees more than its limit, whatever becomes of the holders). A limit with a window is a
ledger of what was spent in it, and what is held counts as well, as if it were spent only now. What a holder spends
enters the ledger when it says so, and so never too early. What a lost holder held may have been spent: it enters the
ledger when the lease ends. Where a burst is bounded too, the provider's bucket is modelled, and gains nothing while
what it could have gained is held by somebody. A limit without a window (calls under way) gets back what a lost holder
held: nobody uses it any more.

Fair: whoever waits longest gets its `least` first, so that large calls are not starved by small ones; what is wanted
beyond goes to those who got less of it lately. A draw gets all of its leasts or nothing: nobody holds one limit's room
while waiting for another's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from .values import Bound, Draw, Grant, Need

GRAINS = 240
"""Parts of a window in which spending is counted together: it stays in the ledger up to a part longer."""

BATCH_S = 0.2
"""How long to wait for a batch where nothing at all is left, seconds: a round trip for every call would cost more."""

FREED_S = 0.25
"""When to ask again for what only another holder can give back, seconds."""

TELL_S = 0.05
"""When to say what was spent for who got most of a burst, seconds: until then the provider's bucket gains nothing."""

SOONEST_S = 0.01
LATELY_S = 2.0
"""How long what somebody got counts when others want as much, seconds: after so many a third of it."""

FORGET_S = 600.0
"""How long it is remembered what was entered for a lost holder, seconds."""

TINY = 1e-6


class Gauge(msgspec.Struct, kw_only=True):
    """How one limit stands.

    Attributes:
        bound: the limit.
        level: what may go out at once, if that is bounded.
        ledger: (when, how much) of what was spent, the oldest first.
    """

    bound: Bound
    level: float = 0.0
    ledger: list[list[float]] = []


class Holder(msgspec.Struct, kw_only=True):
    """A holder's row.

    Attributes:
        until: the end of its lease.
        held: by limit.
        least: by limit, what it waits for.
        since: when it began to wait; None: it does not.
        wants: whether calls wait for more than it got.
        taken: by limit, what it got lately.
    """

    until: float
    held: dict[str, float] = {}
    least: dict[str, float] = {}
    since: float | None = None
    wants: bool = False
    taken: dict[str, float] = {}


class Reservoir(msgspec.Struct, kw_only=True):
    """The state of a reservoir; a new one is full. `lost`: what lost holders held, as it was entered for them."""

    at: float = 0.0
    number: int = 0
    word: str | None = None
    gauges: dict[str, Gauge] = {}
    holders: dict[str, Holder] = {}
    lost: dict[str, Holder] = {}


def draw(reservoir: Reservoir, asked: Draw, holder: str, now: float, lease_s: float) -> Grant:
    """Let a holder draw; the reservoir is changed."""
    now = max(now, reservoir.at)
    _advance(reservoir, now)
    read = asked.known == reservoir.number
    said = read and asked.word is not None
    if said:
        reservoir.number, reservoir.word = reservoir.number + 1, asked.word
    if read or not reservoir.gauges:
        _rebound(reservoir, asked.bounds)
    row = _settle(reservoir, asked.needs, holder, now)
    row.until = now + lease_s
    wanted = {name: need for name, need in asked.needs.items() if need.want > 0 and name in reservoir.gauges}
    waits = any(need.least > 0 for need in wanted.values())
    row.since = (now if row.since is None else row.since) if waits else None
    owed = {name: _owed(reservoir, name, row) for name in wanted}
    free = {name: _room(reservoir, name, row) - owed[name] for name in wanted}
    got = _take(reservoir, wanted, free, row)
    short = any(need.want > got.get(name, 0.0) for name, need in wanted.items())
    row.wants = waits and short
    row.least = {name: need.least for name, need in wanted.items()} if row.since is not None else {}
    again_s = 0.0
    if short:
        again_s = max(_again(reservoir, name, need, got, owed[name], row, now) for name, need in wanted.items())
    if row.wants or any(row.held.values()):
        reservoir.holders[holder] = row
    return Grant(
        got=got,
        again_s=again_s,
        room={name: max(0.0, _room(reservoir, name, None)) for name in reservoir.gauges},
        share={name: _share(reservoir, name) for name, gauge in reservoir.gauges.items() if not gauge.bound.window_s},
        number=reservoir.number,
        word=None if read else reservoir.word,
        at=now,
    )


def _advance(reservoir: Reservoir, now: float) -> None:
    """Come to the present: leases that have ended, refill, what leaves the windows."""
    for name, row in sorted(reservoir.holders.items(), key=lambda item: item[1].until):
        if row.until > now:
            break
        _refill(reservoir, row.until)
        del reservoir.holders[name]
        reservoir.lost[name] = row
        for which, gauge in reservoir.gauges.items():
            _enter(gauge, row.held.get(which, 0.0), row.until)
    _refill(reservoir, now)
    for gauge in reservoir.gauges.values():
        while gauge.ledger and gauge.ledger[0][0] + gauge.bound.window_s <= now:
            del gauge.ledger[0]
    for name in [name for name, row in reservoir.lost.items() if row.until + FORGET_S <= now]:
        del reservoir.lost[name]


def _refill(reservoir: Reservoir, now: float) -> None:
    fade = math.exp((reservoir.at - now) / LATELY_S) if now > reservoir.at else 1.0
    for row in reservoir.holders.values():
        row.taken = {name: amount * fade for name, amount in row.taken.items()}
    for name, gauge in reservoir.gauges.items():
        if gauge.bound.burst is not None and now > reservoir.at:
            most = max(gauge.level, gauge.bound.burst - _held(reservoir, name))
            gauge.level = min(most, gauge.level + (now - reservoir.at) * gauge.bound.per_s)
    reservoir.at = max(now, reservoir.at)


def _enter(gauge: Gauge, amount: float, when: float) -> None:
    """Enter what was spent by a time."""
    if not gauge.bound.window_s or amount <= 0:
        return
    grain = _grain(gauge, when)
    if gauge.ledger and gauge.ledger[-1][0] >= grain:
        gauge.ledger[-1][1] += amount
    else:
        gauge.ledger.append([grain, amount])


def _grain(gauge: Gauge, when: float) -> float:
    """Return the end of the part of the window that a time is in."""
    if gauge.bound.window_s == math.inf:
        return 0.0
    part = gauge.bound.window_s / GRAINS
    return math.ceil(when / part) * part


def _rebound(reservoir: Reservoir, bounds: Mapping[str, Bound]) -> None:
    """Take limits as they are known now. One that was not known begins empty: others may have used it."""
    old, reservoir.gauges = reservoir.gauges, {}
    for name, bound in bounds.items():
        burst = bound.burst or 0.0
        gauge = old.get(name) or Gauge(bound=bound, level=0.0 if old else burst)
        gauge.bound, gauge.level = bound, min(gauge.level, burst)
        reservoir.gauges[name] = gauge


def _settle(reservoir: Reservoir, needs: Mapping[str, Need], holder: str, now: float) -> Holder:
    """Take in what a holder says of what it held; return its row."""
    row = reservoir.holders.pop(holder, None) or Holder(until=now)
    lost = reservoir.lost.pop(holder, None)
    for name, gauge in reservoir.gauges.items():
        need = needs.get(name, NOTHING)
        entered = lost.held.get(name, 0.0) if lost is not None and gauge.bound.window_s else 0.0
        _enter(gauge, max(0.0, need.spent - entered), now)
        if gauge.bound.burst is not None:
            back = row.held.get(name, 0.0) + entered - need.spent - need.keep
            gauge.level += back if lost is None else min(0.0, back)
            most = gauge.bound.burst - _held(reservoir, name) - need.keep
            gauge.level = min(gauge.level, most if need.left is None else min(most, need.left))
        row.held[name] = need.keep
        row.taken.setdefault(name, 0.0)
        for when, amount in need.back if gauge.bound.window_s else ():
            grain = _grain(gauge, when)
            for entry in gauge.ledger:
                if entry[0] == grain:
                    entry[1] = max(0.0, entry[1] - amount)
    return row


def _take(reservoir: Reservoir, wanted: Mapping[str, Need], free: Mapping[str, float], row: Holder) -> dict[str, float]:
    """Give a holder what it may have of what it wants; who only provides for later gets half of what is left over."""
    waits = row.since is not None
    if not wanted or any(free[name] < need.least - TINY for name, need in wanted.items()):
        return {}
    others = [other for other in reservoir.holders.values() if other.wants]
    part = 1.0
    for name, need in wanted.items():
        even = free[name] if waits else free[name] / 2
        if others:
            taken = [other.taken.get(name, 0.0) for other in others]
            even = _even(even, row.taken[name], taken) if waits else 0.0
        part = min(part, max(need.least, even + TINY) / need.want)
    got = {name: max(need.least, math.floor(need.want * max(0.0, part))) for name, need in wanted.items()}
    if not any(got.values()):
        return {}
    for name, amount in got.items():
        row.held[name] += amount
        row.taken[name] += amount
        if reservoir.gauges[name].bound.burst is not None:
            reservoir.gauges[name].level -= amount
    row.since = None
    return got


def _even(free: float, mine: float, taken: list[float]) -> float:
    """Return one's part of what is free, so that in the end all have got as much, as far as that goes."""
    level = free + mine
    for n, other in enumerate(sorted(taken), 1):
        if other >= level:
            break
        level = (level * n + other) / (n + 1)
    return max(0.0, level - mine)


def _held(reservoir: Reservoir, name: str) -> float:
    return sum(row.held.get(name, 0.0) for row in reservoir.holders.values())


def _room(reservoir: Reservoir, name: str, row: Holder | None) -> float:
    """Return what is left of a limit; `row` is a holder's that does not stand in the reservoir now."""
    gauge = reservoir.gauges[name]
    held = _held(reservoir, name) + (row.held[name] if row is not None else 0.0)
    left = gauge.bound.limit - held - _spent(gauge)
    return left if gauge.bound.burst is None else min(left, gauge.level)


def _owed(reservoir: Reservoir, name: str, row: Holder) -> float:
    """Return what those wait for who have waited longer."""
    since = math.inf if row.since is None else row.since
    return sum(
        other.least.get(name, 0.0)
        for other in reservoir.holders.values()
        if other.since is not None and other.since < since
    )


def _again(
    reservoir: Reservoir, name: str, need: Need, got: Mapping[str, float], owed: float, row: Holder, now: float
) -> float:
    """Return the seconds until there may be as much as is still wanted of a limit, or a batch of it."""
    bound = reservoir.gauges[name].bound
    more = need.want - got.get(name, 0.0)
    soon = min(BATCH_S, _until(reservoir, name, more + owed, row, now)) if more > 0 else 0.0
    if bound.burst is not None:
        soon = min(soon, bound.burst / bound.per_s / 2)
        if row.held[name] > bound.burst / 2:
            soon = min(soon, TELL_S)
    return max(SOONEST_S, soon, 0.0 if got else _until(reservoir, name, need.least + owed, row, now))


def _until(reservoir: Reservoir, name: str, room: float, row: Holder, now: float) -> float:
    """Return the seconds until a limit has so much room, or somebody may have given some back: soon after spending."""
    gauge = reservoir.gauges[name]
    bound, after = gauge.bound, 0.0
    if bound.burst is not None:
        after = max(0.0, room - gauge.level) / bound.per_s
    over = room + _held(reservoir, name) + row.held[name] + _spent(gauge) - bound.limit
    if over <= TINY:
        return after
    leaves = 0.0
    for when, amount in gauge.ledger:
        if over <= TINY:
            break
        over -= amount
        leaves = when + bound.window_s - now
    lately = now - gauge.ledger[-1][0] if gauge.ledger else 0.0
    back = max(FREED_S, lately / 4)
    return max(after, min(leaves, back) if over <= TINY else back)


def _spent(gauge: Gauge) -> float:
    return sum(amount for _, amount in gauge.ledger)


def _share(reservoir: Reservoir, name: str) -> float:
    """Return what a holder should have at most, where others wait for it."""
    waits = any(row.since is not None and row.least.get(name, 0.0) > 0 for row in reservoir.holders.values())
    if not waits:
        return math.inf
    having = sum(row.wants or row.held.get(name, 0.0) > 0 for row in reservoir.holders.values())
    return max(1.0, math.floor(reservoir.gauges[name].bound.limit / having + TINY))


NOTHING = Need()
