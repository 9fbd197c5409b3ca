"""The transport contract: the durable meeting place of the API and the compute layer.

Why: API processes accept and read runs, workers execute them, and the two share nothing but what is
written here. A transport stores runs and their logs as opaque bodies; it knows nothing of what they mean.

Laws kept here (each is a test of the conformance suite that every transport must pass):
1. One idempotency key is one run for ever; the same key with another digest is refused.
2. A log has seqs 1..n without gap, duplicate or reorder; nothing follows a terminal record.
4. Only the holder of the newest lease appends to a run: owner and fence are checked inside the append.
8. No window of a shared limit sees more than the limit, whatever becomes of those who hold a part of it.
9. A call either happens whole or not at all, whatever its caller does meanwhile.

The idea that keeps it small: **a run is claimable when it is due.** Every live run carries one time,
`due`: when queued, the moment it may start; when running, the end of its lease; when waiting, its wake-up
time (or never). Claiming, takeover of a lost worker's run, timers and delayed starts are then one question:
which live runs are due? Renewing a lease moves `due`; a signal or a cancel sets a waiting run's `due` to now.

Times are seconds since the epoch (float), by the store's clock. Hints are only hints: a reader that waits
for one re-reads the log after it or after its own timeout, so that a lost hint costs delay, never an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from .errors import TransportError
from .values import (
    Append,
    Claim,
    Draw,
    Entry,
    Grant,
    LaneCount,
    Lease,
    NewRun,
    Run,
    RunFilter,
    RunPage,
    Stored,
    Terms,
    Transition,
    WorkerInfo,
)

READY = "ready"
"""The topic that is hinted when a run may have become claimable."""


def log_topic(run_id: str) -> str:
    """The topic that is hinted when records were appended to a run."""
    return f"log:{run_id}"


def end_topic(run_id: str) -> str:
    """The topic that is hinted when a run may have ended."""
    return f"end:{run_id}"


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


class Transport(Protocol):
    """What a store must do. Every method is atomic, and safe to call from many tasks of one event loop.

    A call whose caller is canceled may still happen, whole. Any call raises `StoreUnavailable` when the store cannot
    be reached or cannot write; then nothing of it happened.
    """

    url: str
    """Where it is, without secrets (`sqlite:///greenroom.db`)."""

    blob_bytes: int | None
    """Bodies larger than this should be kept as blobs (`wrapped`); None: it takes large ones well."""

    durability: str
    """One sentence: what an acknowledged write survives."""

    forgets: bool
    """Whether a log may lose its last records and go on (a failover to a server that lacks them)."""

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

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        """Make several appends, each of another run; per append None, or what `append` would have raised.

        Each is atomic by itself, and durable when this returns; one that is refused leaves the others alone. This is
        how a worker appends for all of its runs: one commit, one round trip, whatever the store has.

        Raises:
            StoreUnavailable: nothing of all this happened.
        """
        ...

    async def may_append(self, lease: Lease, *, seen: int) -> bool:
        """Whether an append under this lease, with this `seen`, would be accepted now; writes nothing.

        It answers from the moment between call and return, never from an earlier one: what was acknowledged to anybody,
        in any process, before the call (a cancel, a claim by another worker) is known to it. When in doubt it says no.
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

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        """A run's row and, once it has ended, the last record of its log: how.

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

    async def prune(self, before: float, *, keep: int | None = None, limit: int) -> int:
        """Remove at most `limit` runs that ended before this time, or are not among the `keep` that ended last.

        The longest ended goes first; returns how many were removed. A store may keep its newest run a while longer.

        A run goes whole: its row, log, tags and blobs. Its id and key stay known (`RunPruned`).
        """
        ...

    async def blob_put(self, run_id: str, digest: str, data: bytes) -> None:
        """Keep data beside a run's log, under its digest; putting it again changes nothing.

        The run need not be there yet. Blobs go when it is pruned.
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

    async def draw(self, holder: str, draws: Sequence[Draw], *, lease_s: float) -> list[Grant]:
        """Draw on reservoirs of what all workers share: limits, and a word; what came of each, in order.

        What a holder gets it may spend without asking, for `lease_s` seconds from its last draw. It then either draws
        again, or loses it: what it held of a limit with a window counts as spent, what it held of one without comes
        back. A reservoir is made by its first draw, and full then. How it decides: `reservoirs.py`.
        """
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
        """Gather hints on topics (`READY`, or a run's log, control or end), from other processes too."""
        ...
