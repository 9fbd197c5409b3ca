"""What the contract's calls take and give: runs, lanes, records, leases, transitions. Frozen values."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import msgspec


class RunState(enum.StrEnum):
    """Where a run stands; the last four are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"

    @property
    def terminal(self) -> bool:
        """Whether nothing can follow."""
        return self not in _LIVE


_LIVE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.WAITING})


class Entry(msgspec.Struct, frozen=True):
    """One record to append: its kind (`step.completed`) and its encoded body."""

    kind: str
    body: bytes


class Stored(msgspec.Struct, frozen=True):
    """One record as it stands in a log: `seq` counts 1, 2, 3 ...; `ts` is the store's time of the append."""

    seq: int
    ts: float
    kind: str
    body: bytes


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The line that a run stands in until it is claimed; runs of one lane are claimed the longest due first.

    Attributes:
        workflow: only workers that have it claim the run.
        build: only workers of this build do; "" for any.
        priority: lanes of a higher one go first.
        tenant: lanes of one priority take turns: the tenant with the fewest runs at work goes first.
        gate: what limits of the workflow are counted by (`Terms`), such as a user's id.
    """

    workflow: str
    build: str = ""
    priority: int = 0
    tenant: str = ""
    gate: str = ""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker claims the runs of one workflow.

    Attributes:
        pinned: a run stays with the build of the worker that claims it first.
        concurrency: runs of one gate at work at once, over all workers; None for no bound.
        starts: runs of one gate started in `per_s` seconds (a token bucket that holds as many); None for no bound.
            A run that was claimed before does not count.
        per_s: seconds.
    """

    pinned: bool = False
    concurrency: int | None = None
    starts: float | None = None
    per_s: float = 1.0


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """What creating a run takes. `digest` identifies the request's payload for its idempotency key.

    `entries` are its first records, one or more. `due` is when it may start; None: at once.
    """

    run_id: str
    lane: Lane
    entries: tuple[Entry, ...]
    key: str | None = None
    digest: str = ""
    tags: tuple[str, ...] = ()
    due: float | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run's row: everything about it that can be known without reading its log.

    `seq` is the last record's position, `control_seq` that of the last control record (signal, cancel).
    `owner` and `fence` are those of the newest lease; the fence counts the claims of this run.
    `due` is None when nothing will wake the run by itself, and in every terminal state.
    """

    run_id: str
    lane: Lane
    state: RunState
    seq: int
    control_seq: int
    created: float
    updated: float
    due: float | None
    owner: str | None
    fence: int
    waiting_on: str | None
    key: str | None
    tags: tuple[str, ...]

    @property
    def workflow(self) -> str:
        """Whose run it is."""
        return self.lane.workflow


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to append to a run: `owner` is unique to one claim, `fence` rises with every claim."""

    run_id: str
    owner: str
    fence: int


SHORT = 4
"""Records of a log that comes along with a claim, at most."""


class Claim(msgspec.Struct, frozen=True):
    """A claimed run: the lease, and the row as it stands now. `run.fence > 1` means it was claimed before.

    `records` is its log up to `run.seq` where the store had it at hand, as of a run that begins; else nothing.
    """

    lease: Lease
    run: Run
    records: Sequence[Stored] = ()


class Finish(msgspec.Struct, frozen=True):
    """With an append: the run ends in `state` (terminal) with the last appended record."""

    state: RunState


class Park(msgspec.Struct, frozen=True):
    """With an append: the run gives up its lease and waits, until `due` or until a control record comes.

    `seen` is the last control record the run has seen: if a newer one stands in the log, the run is due at
    once (it cannot sleep through a signal that came while it was parking).
    """

    due: float | None
    waiting_on: str
    seen: int


class HandOver(msgspec.Struct, frozen=True):
    """With an append: the run gives up its lease and is queued again, due at once (a draining worker)."""


Transition = Finish | Park | HandOver


class Append(msgspec.Struct, frozen=True):
    """An append as it is asked for: what `Transport.append` takes."""

    lease: Lease
    entries: Sequence[Entry]
    to: Transition | None = None
    seen: int | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; None means any. `created_after` in seconds since the epoch, exclusive."""

    workflow: str | None = None
    state: RunState | None = None
    tenant: str | None = None
    tag: str | None = None
    created_after: float | None = None


class LaneCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many live runs stand in a lane: all of them, and those at work."""

    lane: Lane
    live: int
    running: int


class RunPage(msgspec.Struct, frozen=True):
    """Runs, newest first, and the cursor of the next page (None: this was the last)."""

    runs: tuple[Run, ...]
    next_cursor: str | None


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's heartbeat as others see it."""

    name: str
    build: str
    started: float
    beat: float
    running: int
    draining: bool


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of a reservoir.

    Attributes:
        limit: how much in any `window_s` seconds; without a window, how much at once.
        window_s: 0: what is held comes back when it is given back, or when its holder's lease ends.
        burst: the most that may go out at once, refilled by `per_s` a second; None: no more than `limit` says.
    """

    limit: float
    window_s: float = 0.0
    burst: float | None = None
    per_s: float = 0.0


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder says of one limit, and asks of it.

    Attributes:
        spent: what went out since it last said so.
        keep: what it holds and has not spent; the rest of what it held is given back.
        least: the least addition that is of use; 0: none is needed now.
        want: the most that it can use.
        back: (when, how much) of what was spent, by `Grant.at`, turned out not to be.
        left: no more than this may go out at once now, as the provider says; None: it says nothing.
        ago_s: how long ago, seconds, the last of what was spent went out, when this was said.
    """

    spent: float = 0.0
    keep: float = 0.0
    least: float = 0.0
    want: float = 0.0
    back: tuple[tuple[float, float], ...] = ()
    left: float | None = None
    ago_s: float = 0.0


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder says of one reservoir, and asks of it.

    Attributes:
        reservoir: its name.
        bounds: its limits as this holder knows them: they count if the holder has read the last word.
        needs: by limit; one that is not named is like one of which nothing was spent and nothing is kept.
        known: the number of the last word that the holder has read.
        word: the next word; it counts if the holder has read the last one.
    """

    reservoir: str
    bounds: Mapping[str, Bound]
    needs: Mapping[str, Need] = {}
    known: int = 0
    word: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a draw came to.

    Attributes:
        got: by limit, what the holder has now besides what it keeps: every `least`, or nothing at all.
        again_s: when to ask again for what is still wanted, seconds; 0: nothing is.
        room: by limit, what is left for others.
        share: by limit without a window, how much the holder should hold at most, as others wait; infinity: no less.
        number: of the last word; 0: there was none.
        word: the last word, if the holder has not read it.
        at: when this was, for `Need.back`.
    """

    got: dict[str, float]
    again_s: float
    room: dict[str, float]
    share: dict[str, float]
    number: int
    word: str | None
    at: float
