"""A typed client of the HTTP API: `from greenroom.client import Client`.

client -> wire (tries again, refusals) -> API;   run -> following (one cursor over broken connections)
"""

from ..errors import WaitTimedOut
from .client import Client
from .errors import AnswerInvalid, ClientError, NoResult, Refused, Unreachable
from .objects import ApprovalInfo, Fault, Problem, RunInfo, Shown
from .run import RemoteRun

__all__ = [
    "AnswerInvalid",
    "ApprovalInfo",
    "Client",
    "ClientError",
    "Fault",
    "NoResult",
    "Problem",
    "Refused",
    "RemoteRun",
    "RunInfo",
    "Shown",
    "Unreachable",
    "WaitTimedOut",
]
