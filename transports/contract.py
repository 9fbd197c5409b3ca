"""The transport contract: the durable meeting place of the API and the compute layer.

Why: API processes accept and read runs, workers execute them, and the two share nothing but what is
written here. A transport stores runs and their logs as opaque bodies; it knows nothing of what they mean.

Laws kept here (each is a test of the conformance suite that every transport must pass):
1. One idempotency key is one run for ever; the same key with another digest is refused.
2. A log has seqs 1..n without gap, duplicate or reorder; nothing follows a terminal record.
4. Only the holder of the newest lease appends to a run: owner and fence are checked inside the append.
9. A call either happens whole or not at all, whatever its caller does meanwhile.

The idea that keeps it small: **a run is claimable when it is due.** Every live run carries one time,
`due`: when queued, the moment it may start; when running, the end of its lease; when waiting, its wake-up
time (or never). Claiming, takeover of a lost worker's run, timers and delayed starts are then one question:
which live runs are due? Renewing a lease moves `due`; a signal or a cancel sets a waiting run's `due` to now.

Times are seconds since the epoch (float), by the store's clock. Hints are only hints: a reader that waits
for one re-reads the log after it or after its own timeout, so that a lost hint costs delay, never an event.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

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


class Claim(msgspec.Struct, frozen=True):
    """A claimed run: the lease, and the row as it stands now. `run.fence > 1` means it was claimed before."""

    lease: Lease
    run: Run


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


class TransportError(Exception):
    """Root of this layer's errors.

    TransportError
    ├── Fenced              the lease is not the newest: another worker owns the run now; stop at once
    ├── ControlPending      control records came that the appender has not seen; read them, decide again
    ├── RunEnded            the run is terminal: nothing can follow
    ├── RunNotFound         no such run
    │   └── RunPruned       it has ended, and its log was removed to keep the store small
    ├── BlobNotFound        a run has no blob of this digest
    ├── KeyConflict         the idempotency key belongs to a run with another payload
    ├── InvalidCursor       a list cursor that this store did not give out
    ├── UnknownTransport    a URL of a store that greenroom does not speak
    └── StoreUnavailable    the store cannot be opened or reached; the message says why and what to do
    """


class Fenced(TransportError):
    """Another worker holds a newer lease on the run, or this one was given up."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is leased to another worker now: this one must stop working on it")
        self.run_id = run_id


class ControlPending(TransportError):
    """Control records stand in the log that the appender has not seen."""

    def __init__(self, run_id: str, control_seq: int) -> None:
        super().__init__(f"run {run_id} has control records up to {control_seq}: read them, then decide again")
        self.run_id = run_id
        self.control_seq = control_seq


class RunEnded(TransportError):
    """The run is terminal."""

    def __init__(self, run_id: str, state: RunState) -> None:
        super().__init__(f"run {run_id} has ended ({state.value}): nothing can be added to it")
        self.run_id = run_id
        self.state = state


class RunNotFound(TransportError):
    """No run has this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id!r}: check the id, or the store that you look in")
        self.run_id = run_id


class RunPruned(RunNotFound):
    """The run has ended, and its log was removed by retention."""

    def __init__(self, run_id: str) -> None:
        TransportError.__init__(self, f"run {run_id} has ended and its log was pruned: only its id and key are kept")
        self.run_id = run_id


class BlobNotFound(TransportError):
    """A run has no blob of this digest."""

    def __init__(self, run_id: str, digest: str) -> None:
        super().__init__(f"run {run_id} has no blob {digest}: the store has lost it, or the digest is wrong")
        self.run_id = run_id
        self.digest = digest


class KeyConflict(TransportError):
    """An idempotency key came again with another payload."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(
            f"idempotency key {key!r} belongs to run {run_id}, which was started with another payload: "
            "send the same payload again, or use a new key"
        )
        self.key = key
        self.run_id = run_id


class InvalidCursor(TransportError):
    """A list cursor that this store did not give out."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"cursor {cursor!r} is not one of this store: leave it out to start from the newest run")
        self.cursor = cursor


class UnknownTransport(TransportError):
    """A URL of a store that greenroom does not speak."""

    def __init__(self, scheme: str) -> None:
        what = f"no store is spoken to by {scheme}://" if scheme else "a store is named by a URL"
        super().__init__(f"{what}: use memory://, sqlite:///relative.db or sqlite:////absolute.db")


class StoreUnavailable(TransportError):
    """The store cannot be opened or reached."""


READY = "ready"
"""The topic that is hinted when a run may have become claimable."""


def log_topic(run_id: str) -> str:
    """The topic that is hinted when records were appended to a run."""
    return f"log:{run_id}"


def control_topic(run_id: str) -> str:
    """The topic that is hinted when a control record was appended to a run."""
    return f"control:{run_id}"


def digest(data: bytes) -> str:
    """A payload's identity: 128 bits of BLAKE2b, in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Watch(Protocol):
    """Hints on some topics, gathered from the moment the watch was opened."""

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint since the last call, at most `timeout` seconds. True if there was one."""
        ...


@runtime_checkable
class Transport(Protocol):
    """What a store must do. Every method is atomic, and safe to call from many tasks of one event loop.

    A call whose caller is canceled may still happen, whole. Any call raises `StoreUnavailable` when the store cannot
    be reached or cannot write; then nothing of it happened.
    """

    url: str
    """Where it is, without secrets (`sqlite:///greenroom.db`)."""

    durability: str
    """One sentence: what an acknowledged write survives."""

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        """Write a run and its first records (from seq 1), due at `new.due`; return its row and whether it is new.

        With a key that is known: the run of that key and False, if the digest is the same.

        Raises:
            KeyConflict: the key is known with another digest, or the run id exists.
            RunPruned: the key's run has been pruned.
        """
        ...

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        """Append under the lease, then make the transition, as one atomic act; return the row after it.

        With `seen`: nothing happens if a control record with a higher seq stands in the log. So whatever a
        worker appends was decided with every signal and cancel before it known.

        An append that returns is durable (see `durability`). `Finish` and `Park` and `HandOver` give up
        the lease. `entries` may be empty when there is a transition other than `Finish`.

        Raises:
            Fenced: the lease is not the run's current one, or the run is not running.
            ControlPending: the run's `control_seq` is higher than `seen`; nothing was appended.
            RunNotFound: no such run.
        """
        ...

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        """Append control records (signal, cancel) without a lease; a waiting run becomes due at once.

        Raises:
            RunEnded: the run is terminal.
            RunNotFound: no such run.
        """
        ...

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        """The records with `seq > after` in order, at most `limit`; with `control`, only control records.

        Raises:
            RunNotFound: no such run.
        """
        ...

    async def run(self, run_id: str) -> Run:
        """A run's row.

        Raises:
            RunNotFound: no such run.
        """
        ...

    async def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> RunPage:
        """Runs that match, newest first, a page at a time (limit 1 to 1000).

        Raises:
            InvalidCursor: the cursor is not one that this store gave out.
        """
        ...

    async def claim(
        self, worker: str, terms: Mapping[str, Terms], *, build: str = "", limit: int, lease_s: float
    ) -> list[Claim]:
        """Lease at most `limit` due runs of these workflows for `lease_s` seconds, each as soon as its turn comes.

        Whose turn it is: lanes of a higher priority first; of one priority, the tenant with the fewest runs at work;
        in a lane, the longest due. Lanes of another build than this are passed by, and so are those whose gate has no
        room by the terms of their workflow.

        Each run gets a fence one higher than its last and an owner that no other claim has; its state becomes
        running, and by pinned terms its lane that of this build. A run whose lease ended is claimed like a queued one:
        that is the takeover of a lost worker, and it needs no new room at its gate.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, lease_s: float) -> Mapping[str, int]:
        """Extend leases to `lease_s` seconds from now; per run still held, its `control_seq`.

        A run that is missing from the answer is lost: its next append would be refused.
        """
        ...

    async def next_due(self, terms: Mapping[str, Terms], *, build: str = "") -> float | None:
        """When a claim by these terms may next find something, or None when nothing will come due by itself.

        A lane whose gate is full does not count: the end of a run there hints `READY`.
        """
        ...

    async def lanes(self) -> list[LaneCount]:
        """Every lane in which live runs stand, in a stable order."""
        ...

    async def unpin(self, build: str) -> int:
        """Let any build claim the live runs that are pinned to this one; how many there were."""
        ...

    async def prune(self, before: float, *, limit: int) -> int:
        """Remove at most `limit` runs that ended before this time, the longest ended first; how many were removed.

        A run goes whole: its row, log, tags and blobs. Its id and key stay known (`RunPruned`).
        """
        ...

    async def blob_put(self, run_id: str, digest: str, data: bytes) -> None:
        """Keep data beside a run's log, under its digest; putting it again changes nothing.

        Raises:
            RunNotFound: no such run.
        """
        ...

    async def blob_get(self, run_id: str, digest: str) -> bytes:
        """Return what was put.

        Raises:
            BlobNotFound: nothing was.
        """
        ...

    async def cache_get(self, key: str) -> bytes | None:
        """A cached value that has not expired."""
        ...

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a value for `ttl_s` seconds; a later put wins."""
        ...

    async def beat(self, info: WorkerInfo) -> None:
        """Write a worker's heartbeat (`info.beat` is set by the store)."""
        ...

    async def forget_worker(self, name: str) -> None:
        """Remove a worker that has left."""
        ...

    async def workers(self) -> list[WorkerInfo]:
        """All workers whose last heartbeat is younger than an hour, by name."""
        ...

    async def now(self) -> float:
        """The store's clock."""
        ...

    def watch(self, *topics: str) -> AbstractAsyncContextManager[Watch]:
        """Gather hints on topics (`READY`, `log_topic(id)`, `control_topic(id)`), from other processes too."""
        ...
