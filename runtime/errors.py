"""The one error tree of the runtime. Every message says what happened, where, and what to do next.

    GreenroomError
    ├── ConfigInvalid       a setting is wrong; names the field and the fix
    ├── NotStarted          the runtime is not open
    ├── DefinitionInvalid   a component or workflow cannot be defined like this
    ├── InputInvalid        arguments do not fit; names the path and the expected type
    ├── UnknownWorkflow     no workflow has this name; names those there are
    ├── UnknownInlet        the workflow takes no such signal, or the run asked for no such approval
    ├── DecisionConflict    the approval was decided otherwise
    ├── ForkInvalid         a run cannot be forked there, or has not failed and needs no retry
    ├── PayloadInvalid      a value cannot be written to the log
    ├── StepFailed          all attempts of a step failed; raised where the workflow called it
    ├── StepTimedOut        an attempt took longer than its timeout
    ├── RunStopped          asked for the result of a run that has none
    │   ├── RunFailed
    │   ├── RunCanceled
    │   └── RunTimedOut
    ├── WaitTimedOut        the run goes on, but the caller did not want to wait longer
    ├── CursorAhead         a reader's cursor lies beyond the end of the log
    └── LogCutBack          the store lost records that a reader has, and has others in their place

The layers below have trees of their own: `actors.ActorError`, `transports.TransportError`, `router.RouterError`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .records import Failure


class GreenroomError(Exception):
    """Root of the runtime's errors."""


class ConfigInvalid(GreenroomError):
    """A setting is wrong."""


class NotStarted(GreenroomError):
    """The runtime is used before it is open, or after it was closed."""


class DefinitionInvalid(GreenroomError):
    """A component or workflow cannot be defined like this."""


class InputInvalid(GreenroomError):
    """Arguments do not fit the signature. `path` is where (`$.topic`), `detail` says what was expected."""

    def __init__(self, name: str, path: str, detail: str) -> None:
        super().__init__(f"input of {name} is invalid at {path}: {detail}")
        self.name = name
        self.path = path
        self.detail = detail


class UnknownWorkflow(GreenroomError):
    """No workflow has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"no workflow is named {name!r}: this runtime has {names}")
        self.name = name


class UnknownInlet(GreenroomError):
    """A workflow takes no signal of this name, or a run asked for no such approval."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no {what} {name!r} here: there is {names}")
        self.name = name


class DecisionConflict(GreenroomError):
    """Somebody decided otherwise first; the first decision counts."""

    def __init__(self, approval: str, decision: bytes) -> None:
        super().__init__(f"approval {approval} has been decided otherwise: {decision.decode()[:200]}")
        self.approval = approval
        self.decision = decision


class ForkInvalid(GreenroomError):
    """A run cannot be forked there, or has not failed and needs no retry."""


class PayloadInvalid(GreenroomError):
    """A value cannot be written to the log."""


class StepFailed(GreenroomError):
    """All attempts of a step failed. The same error is raised live and on replay: look at `failure`, not at its cause.

    `failure.type` is the name of the exception's class, `failure.message` its text.
    """

    def __init__(self, name: str, failure: Failure) -> None:
        super().__init__(f"step {name} failed: {failure.type}: {failure.message}")
        self.name = name
        self.failure = failure


class StepTimedOut(GreenroomError):
    """An attempt of a step took longer than its timeout allows."""


class Crash(GreenroomError):
    """Raise it in a class component to say that its instance is broken.

    The attempt fails, and the component's supervisor closes the instance and opens a new one.
    """


class RunStopped(GreenroomError):
    """The run ended without a result."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(f"run {run_id} {message}")
        self.run_id = run_id


class RunFailed(RunStopped):
    """The workflow raised; `failure` tells what."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        super().__init__(run_id, f"failed: {failure.type}: {failure.message}")
        self.failure = failure


class RunCanceled(RunStopped):
    """The run was canceled."""


class RunTimedOut(RunStopped):
    """The run's deadline passed."""


class WaitTimedOut(GreenroomError):
    """The run had not ended when the caller's patience did."""


class CursorAhead(GreenroomError):
    """A reader's cursor lies beyond the end of the log: it is another run's, or the store lost records."""

    def __init__(self, run_id: str, after: int, seq: int) -> None:
        super().__init__(f"cursor {after} is ahead of run {run_id}, which ends at {seq}: read again from 0")
        self.run_id = run_id
        self.after = after
        self.seq = seq


class LogCutBack(GreenroomError):
    """The store lost records that a reader has, and has others in their place."""

    def __init__(self, run_id: str, seq: int) -> None:
        super().__init__(
            f"record {seq} of run {run_id} is not the one that was read: the store lost the end of the log, "
            "and the run went on without it: read again from 0"
        )
        self.run_id = run_id
        self.seq = seq
