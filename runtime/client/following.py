"""Following a run's log over connections that break: one cursor, no gap, no duplicate, an end.

Laws kept here: 2 (an event that was seen is not given again, and the next one asked for is the one behind it).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypeVar

import httpx2
import msgspec

from ...transports import Stored
from ..records import Event, decode
from .errors import AnswerInvalid, refusal
from .objects import Problem
from .wire import Patience, Wire, retry_after, stranger

ENDS = frozenset({"run.completed", "run.failed", "run.canceled", "run.timed_out"})
SHUTDOWN = "server-shutdown"
PROBLEM = "problem"
T = TypeVar("T")


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event; `id` is the cursor of whoever has it."""

    event: str
    data: str
    id: str = ""


class Envelope(msgspec.Struct, frozen=True):
    """What a record is wrapped in."""

    seq: int
    ts: float
    type: str
    data: msgspec.Raw


async def follow(wire: Wire, path: str, after: int) -> AsyncGenerator[Event]:
    """Give the events behind a cursor, and connect again until the run has ended.

    Raises:
        Refused: there is no such log, the cursor is not one of it, or the store has lost records that were given.
        Unreachable: nothing came for as long as the client's patience lasts, and no connection held.
    """
    patience, cursor = Patience(wire.patience_s), str(after) if after else ""
    while True:
        reason, pause_s = "the stream broke off", 0.0
        try:
            async with wire.stream(path, cursor) as response:
                if response.status_code == 204:
                    return
                if wire.pausing(response):
                    reason, pause_s = f"the stream was answered with {response.status_code}", retry_after(response)
                elif response.status_code != 200:
                    wire.read(response, object)
                elif not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise stranger(response)
                else:
                    patience.answered()
                    async for frame in frames(response):
                        if frame.event == SHUTDOWN:
                            reason = "the server is shutting down"
                            break
                        if frame.event == PROBLEM:
                            raise refusal(_read(frame, Problem))
                        event = _event(frame)
                        patience.renew()
                        if event.seq <= after:
                            continue
                        after, cursor = event.seq, frame.id or str(event.seq)
                        yield event
                        if event.kind in ENDS:
                            return
        except httpx2.TransportError as error:
            reason = f"the stream broke off ({str(error) or type(error).__name__})"
        await patience.pause(reason, pause_s)


async def frames(response: httpx2.Response) -> AsyncGenerator[Frame]:
    """Read server-sent events; one that is cut off is none."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if not line:
            if "data" in fields:
                yield Frame(fields.get("event", "message"), fields["data"], fields.get("id", ""))
            fields = {}
        elif name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _event(frame: Frame) -> Event:
    told = _read(frame, Envelope)
    try:
        return decode(Stored(told.seq, told.ts, told.type, bytes(told.data)))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise _odd(frame, error) from None


def _read(frame: Frame, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(frame.data, type=type_)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise _odd(frame, error) from None


def _odd(frame: Frame, error: Exception) -> AnswerInvalid:
    return AnswerInvalid(f"an event of type {frame.event!r} cannot be read ({error}): is this greenroom's API?")
