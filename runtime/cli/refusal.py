"""What an error means for whoever typed the command: one sentence and a code. An unexpected one keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator

from ...actors import ActorError
from ...transports import RunEnded, RunNotFound, StoreUnavailable, TransportError
from ..client.errors import Unreachable
from ..errors import (
    DecisionConflict,
    GreenroomError,
    RunStopped,
    RunTimedOut,
    UnknownInlet,
    UnknownWorkflow,
    WaitTimedOut,
)
from ..listener import AddressUnavailable
from ..router import RouterError
from ..simulator import PlanInvalid
from .output import say
from .signals import Interrupted

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (BrokenPipeError, 141),
    (KeyboardInterrupt, 130),
    (Interrupted, 130),
    (RunTimedOut, 124),
    (WaitTimedOut, 124),
    (RunStopped, 1),
    (UnknownWorkflow, 4),
    (RunNotFound, 4),
    (UnknownInlet, 4),
    (DecisionConflict, 1),
    (RunEnded, 1),
    (StoreUnavailable, 3),
    (AddressUnavailable, 3),
    (Unreachable, 3),
    (GreenroomError, 2),
    (TransportError, 2),
    (RouterError, 2),
    (PlanInvalid, 2),
    (ActorError, 1),
)
SILENT = {141, 130}


def refuse(error: BaseException) -> int:
    """Say what is wrong and return the code; raise what nobody expected."""
    errors = list(_single(error))
    for kind, code in CODES:
        for one in errors:
            if isinstance(one, kind):
                if code not in SILENT:
                    say(f"greenroom: {one}")
                return code
    raise error


def _single(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _single(inner)
    else:
        yield error
