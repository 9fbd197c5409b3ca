"""What can go wrong between a client and an API; every message says what to do next.

    GreenroomError
    └── ClientError
        ├── Refused          the API answered with a problem; decide by `type`
        │   └── NoResult     the run ended without a result: failed, canceled, timed out
        ├── Unreachable      no answer for as long as the client's patience lasts
        └── AnswerInvalid    something else answered, or a value of another type

`WaitTimedOut` (of the runtime) is raised where the caller wanted to wait no longer.
"""

from __future__ import annotations

from ..errors import GreenroomError
from .objects import Problem

TYPE = "urn:greenroom:problem:"

_NEXT = {
    "unauthorized": "pass the server's token: Client(url, token=...)",
    "misdirected": "use one of these names in the client's URL, or add yours to the server's ApiOptions.hosts",
    "log-cut-back": "drop what was read of it, and follow it again from 0",
    "pruned": "its log was removed by retention; start it again",
    "key-reused": "use another key=, or send what the key was first sent with",
    "not-started": "the server's app must open its runtime: give it lifespan=runtime.lifespan",
}


class ClientError(GreenroomError):
    """Root of the client's errors."""


class Refused(ClientError):
    """The API refused. `problem` is what it said.

    Attributes:
        type: the kind of problem, such as `unknown-run`: decide by it.
        status: of the HTTP response.
        detail: for people.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.type = problem.type.removeprefix(TYPE)
        self.status = problem.status
        self.detail = problem.detail
        hint = _NEXT.get(self.type)
        super().__init__(f"{problem.detail} ({self.type}, {problem.status})" + (f": {hint}" if hint else ""))


class NoResult(Refused):
    """The run ended without a result; `type` is `run-failed`, `run-canceled` or `run-timed-out`."""


class Unreachable(ClientError):
    """Nothing answered while the client's patience lasted."""


class AnswerInvalid(ClientError):
    """The answer is not what the API gives, or does not fit the type that was asked for."""


def refusal(problem: Problem) -> Refused:
    """Make the exception that carries a problem."""
    ended = problem.type.removeprefix(TYPE) in ("run-failed", "run-canceled", "run-timed-out")
    return NoResult(problem) if ended else Refused(problem)
