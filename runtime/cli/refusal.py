"""What an error means for whoever typed the command: one sentence and a code. An unexpected one keeps its traceback."""

from __future__ import annotations

import sys

from ...transports import RunEnded, RunNotFound, StoreUnavailable, TransportError
from ..errors import GreenroomError, RunStopped, RunTimedOut, UnknownWorkflow, WaitTimedOut
from ..listener import AddressUnavailable
from ..router import RouterError
from ..simulator import PlanInvalid

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (RunTimedOut, 124),
    (WaitTimedOut, 124),
    (RunStopped, 1),
    (UnknownWorkflow, 4),
    (RunNotFound, 4),
    (RunEnded, 1),
    (StoreUnavailable, 3),
    (AddressUnavailable, 3),
    (GreenroomError, 2),
    (TransportError, 2),
    (RouterError, 2),
    (PlanInvalid, 2),
)


def refuse(error: BaseException) -> int:
    """Say what is wrong and return the code; raise what nobody expected."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt):
        return 130
    for kind, code in CODES:
        if isinstance(error, kind):
            print(f"greenroom: {error}", file=sys.stderr)
            return code
    raise error
