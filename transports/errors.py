"""The one error tree of the transports. Every message says what to do next."""

from __future__ import annotations

from .values import RunState


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
    """Another worker holds a newer lease on the run, this one was given up, or the store has lost records under it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is no longer leased to this worker: it must stop working on the run")
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
        super().__init__(f"{what}: use memory://, sqlite:///file.db, sqlite:////absolute.db or redis://host:port")


class StoreUnavailable(TransportError):
    """The store cannot be opened or reached."""
