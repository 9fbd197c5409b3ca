"""What a worker shows of itself: its supervision tree, how its deployments fare, where its last LLM calls went.

Why through the store: the API never talks to a worker. Whoever wants to see leaves a mark that expires; a worker that
finds one puts its portrait beside its heartbeat, over its last one, and it expires soon after the worker has gone.
While nobody looks, a worker reads one small key as often as it beats, and writes nothing.

Laws kept here: 10 (what leaves the process is without its secrets), 11 (a portrait is bounded: of a wide tree the parts
where something is amiss are kept before others, and those that are left out are counted).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog

from ..transports import Transport, TransportError
from .redaction import hide, redact, secrets_in
from .router import CallRecord, LaneSnapshot, Router

if TYPE_CHECKING:
    from ..actors import TreeNode

log = structlog.get_logger("greenroom.portraits")

WANTED = "portraits/wanted"
"""The key of the mark."""

WANTED_S = 120.0
"""How long one look keeps workers showing themselves, seconds."""

TREE_BYTES = 48 * 1024
"""The most that a tree may take; a wider one is cut."""

WIDTHS = (200, 100, 50, 25, 10, 5, 2)
"""Children of one supervisor that are shown, from a tree that fits as it is to one that is cut to the bone."""

DECISIONS = 50
"""LLM calls shown, the newest."""

NAME_CHARS = 200
"""A longer name is cut."""

WORDS_CHARS = 500
"""So are longer words on why a deployment fails."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A supervisor or an actor of a worker.

    Attributes:
        name: its own, beneath that of its supervisor.
        kind: "actor", or the supervisor's strategy.
        state: starting, running, stopping, restarting or stopped.
        restarts: how often it was restarted.
        crashes: how often a life of it ended abnormally.
        mailbox: messages that wait.
        capacity: how many may wait; null: no bound.
        handled: messages that it has handled.
        dropped: messages for it that became dead letters.
        children: in the order of their start.
        omitted: children that are not shown, because there are so many.
    """

    name: str
    kind: str
    state: str
    restarts: int = 0
    crashes: int = 0
    mailbox: int = 0
    capacity: int | None = None
    handled: int = 0
    dropped: int = 0
    children: tuple[Part, ...] = ()
    omitted: int = 0


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an LLM call went and why. `at`: when it ended, seconds since the epoch; `tried`: each try's outcome."""

    at: float
    run_id: str
    step: str
    asked_model: str
    deployment: str
    status: str
    reason: str
    seconds: float
    queued_s: float = 0.0
    first_token_s: float | None = None
    tokens: int = 0
    tried: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls that wait for a model, and the seconds that one more would wait; null: until something comes up again."""

    model: str
    waiting: int
    expected_s: float | None = None


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it was `at`, seconds since the epoch."""

    at: float
    tree: Part
    deployments: tuple[LaneSnapshot, ...] = ()
    lines: tuple[Line, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Decisions:
    """The last LLM calls that runs of a worker made."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, str, str, CallRecord]] = deque(maxlen=DECISIONS)

    def note(self, run_id: str, step: str, call: CallRecord) -> None:
        """Take in a call that is over."""
        self._last.append((anyio.current_time(), run_id, step, call))

    def told(self, at: float) -> tuple[Decision, ...]:
        """Return them, the newest first; it is `at` now, by the store's clock."""
        now = anyio.current_time()
        return tuple(
            Decision(
                at=at - (now - noted),
                run_id=run_id,
                step=step,
                asked_model=call.asked_model,
                deployment=call.deployment,
                status=call.status,
                reason=call.reason,
                seconds=call.latency_s,
                queued_s=call.queued_s,
                first_token_s=call.first_token_s,
                tokens=call.input_tokens + call.output_tokens,
                tried=tuple(f"{one.deployment}: {one.outcome}" for one in call.attempts),
            )
            for noted, run_id, step, call in reversed(self._last)
        )


def draw(at: float, tree: TreeNode, router: Router, decisions: Decisions) -> Portrait:
    """Make a worker's portrait. To be called on the event loop."""
    lines = (router.line(model) for model in router.config.models)
    return Portrait(
        at=at,
        tree=cut(tree),
        deployments=tuple(msgspec.structs.replace(one, why=redact(one.why)[:WORDS_CHARS]) for one in router.snapshot()),
        lines=tuple(
            Line(
                model=one.model,
                waiting=one.waiting,
                expected_s=one.expected_s if math.isfinite(one.expected_s) else None,
            )
            for one in lines
        ),
        decisions=decisions.told(at),
    )


def cut(tree: TreeNode, most: int = TREE_BYTES) -> Part:
    """Return a tree as it is shown: whole if it takes no more than `most` bytes, else the narrower the larger it is."""
    secrets = secrets_in(os.environ)
    for width in WIDTHS:
        part = _part(tree, width, secrets)
        if len(msgspec.json.encode(part)) <= most:
            break
    return part


def _part(node: TreeNode, width: int, secrets: Sequence[str]) -> Part:
    shown = node.children
    if len(shown) > width:
        worst = sorted(range(len(shown)), key=lambda n: (-_amiss(shown[n]), n))[:width]
        shown = tuple(shown[n] for n in sorted(worst))
    return Part(
        name=hide(node.path.rsplit("/", 1)[-1], secrets)[:NAME_CHARS],
        kind=node.kind,
        state=node.state,
        restarts=node.restarts,
        crashes=node.crashes,
        mailbox=node.mailbox,
        capacity=node.capacity,
        handled=node.handled,
        dropped=node.dropped,
        children=tuple(_part(child, width, secrets) for child in shown),
        omitted=node.omitted + len(node.children) - len(shown),
    )


def _amiss(node: TreeNode) -> int:
    """How much there is to see of a part: what waits, what crashed, what does not run."""
    return node.mailbox + node.crashes + node.restarts + (node.state != "running")


async def want(transport: Transport) -> None:
    """Ask the workers of a store to show themselves for a while."""
    await transport.cache_put(WANTED, b"1", ttl_s=WANTED_S)


async def portrait_of(transport: Transport, worker: str) -> Portrait | None:
    """Return a worker's portrait; None: it shows none, or its version of greenroom shows another one."""
    found = await transport.cache_get(_key(worker))
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=Portrait)
    except msgspec.DecodeError:
        return None


async def keep_shown(
    transport: Transport, worker: str, drawn: Callable[[float], Portrait], *, every_s: float, kept_s: float
) -> None:
    """Look every `every_s` seconds whether somebody wants to see a worker, and show it then; for ever.

    Args:
        transport: where.
        worker: its name.
        drawn: its portrait at a time of the store's clock.
        every_s: seconds between two looks.
        kept_s: how long a portrait is shown, seconds.
    """
    while True:
        try:
            if await transport.cache_get(WANTED) is not None:
                portrait = drawn(await transport.now())
                await transport.cache_put(_key(worker), msgspec.json.encode(portrait), ttl_s=kept_s)
        except TransportError as error:
            log.warning("portrait not shown", worker=worker, error=str(error))
        await anyio.sleep(every_s)


def _key(worker: str) -> str:
    return f"portraits/{worker}"
