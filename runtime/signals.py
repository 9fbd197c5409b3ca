"""What reaches a run from outside: signals and approvals. Definitions, as frozen and as plain as components.

Why: both have a name and a type, so what is sent can be checked at the edge, before it is written (law 9), and the
workflow gets a value of that type.

    publish = Approval("publish", Decision)

    @workflow(approvals=[publish])
    async def newsroom(topic: str) -> str:
        ...
        decision = await publish.request("Publish it?", data=draft, timeout=86_400)
"""

from __future__ import annotations

from typing import Any, TypeVar, cast, overload

import msgspec

from .definitions import MISSING, Inlet
from .errors import GreenroomError
from .payload import from_json, to_json
from .scope import current_scope
from .waits import ForApproval, ForSignal

T = TypeVar("T")


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What most approvals ask for."""

    approved: bool
    comment: str = ""


class Signal(Inlet[T]):
    """Values that a run takes one by one, in the order in which they came; each is taken once."""

    @overload
    async def receive(self, *, timeout: float | None = None) -> T: ...

    @overload
    async def receive(self, *, timeout: float, default: T) -> T: ...

    async def receive(self, *, timeout: float | None = None, default: Any = MISSING) -> T:
        """Wait for the next value; it may have come before. While a run only waits it is parked.

        Args:
            timeout: seconds to wait; None for as long as it takes.
            default: what to return when time is up.

        Raises:
            StepFailed: time is up and there is no default; `failure.type` is `WaitTimedOut`.
        """
        fallback = None if default is MISSING else msgspec.Raw(to_json(default, f"the default of {self.name}"))
        return _read(self, await _scope(self).wait(ForSignal(self.name, timeout, fallback)))


class Approval(Inlet[T]):
    """A question whose answer somebody outside decides, once."""

    async def request(self, question: str, *, data: object = None, timeout: float | None = None) -> T:
        """Ask, and wait for the decision. While a run only waits it is parked.

        Args:
            question: one line for people.
            data: what they need to decide, as JSON.
            timeout: seconds to wait; None for as long as it takes.

        Raises:
            StepFailed: time is up; `failure.type` is `WaitTimedOut`.
        """
        raw = msgspec.Raw(to_json(data, f"the data of approval {self.name}"))
        return _read(self, await _scope(self).wait(ForApproval(self.name, question, raw, timeout)))


def _read(inlet: Inlet[T], raw: msgspec.Raw) -> T:
    return cast("T", from_json(raw, inlet.type))


def _scope(inlet: Inlet[Any]) -> Any:
    scope = current_scope()
    if scope is None:
        raise GreenroomError(f"{inlet.name} was waited for outside a run, where nobody can send it: start a run")
    return scope
