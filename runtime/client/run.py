"""A run on the other side of an API: follow it, wait for it, reach it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar, overload
from urllib.parse import quote
from uuid import uuid4

import anyio
import msgspec

from ...transports import RunState
from ..errors import WaitTimedOut
from ..log import Output
from ..payload import from_json, to_json
from ..records import Event, OutputDelta, OutputReset
from .errors import AnswerInvalid, refusal
from .following import follow
from .objects import ApprovalInfo, Approvals, RunInfo, Shown
from .wire import Wire, retry_after

T = TypeVar("T")

LONGEST_WAIT_S = 30


class RemoteRun:
    """A run by its id; it can be dropped and made again, anywhere.

    Attributes:
        id: the run's.
        info: the run as it was told last; None while nothing was asked.
    """

    def __init__(self, wire: Wire, run_id: str, info: RunInfo | None = None) -> None:
        self.id = run_id
        self.info = info
        self._wire = wire
        self._path = f"v1/runs/{quote(run_id, safe='')}"

    def __repr__(self) -> str:
        return f"RemoteRun({self.id!r})"

    async def view(self) -> RunInfo:
        """Look at the run as it stands.

        Raises:
            Refused: there is no such run.
        """
        _, info = await self._wire.call("GET", self._path, RunInfo)
        self.info = info
        return info

    async def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """Follow its log from a cursor on: every record once, in order, over any number of connections, to its end.

        Args:
            after: the last `seq` that is known.

        Raises:
            Refused: there is no such run, or the cursor is beyond its log.
            Unreachable: the client's patience is at its end.
        """
        async with aclosing(follow(self._wire, f"{self._path}/events", after)) as events:
            async for event in events:
                yield event

    async def text_stream(self) -> AsyncGenerator[Shown]:
        """Follow its text: what was added, or that something was taken back, each with all the text that counts."""
        output, text = Output(), ""
        path = f"{self._path}/output"
        async with aclosing(follow(self._wire, path, 0)) as events:
            async for event in events:
                output.apply(event)
                match event.record:
                    case OutputDelta() as delta:
                        text += delta.text
                        yield Shown(text, delta.text)
                    case OutputReset() if output.text != text:
                        text = output.text
                        yield Shown(text, taken_back=True)

    async def output(self) -> str:
        """Wait for its end, however it ends, and give the text that counts."""
        text = ""
        async with aclosing(self.text_stream()) as stream:
            async for shown in stream:
                text = shown.text
        return text

    @overload
    async def result(self, timeout: float | None = None) -> Any: ...

    @overload
    async def result(self, timeout: float | None = None, *, as_type: type[T]) -> T: ...

    async def result(self, timeout: float | None = None, *, as_type: Any = Any) -> Any:
        """Wait for the result.

        Args:
            timeout: seconds to wait; None for as long as it takes.
            as_type: what to read it as; by default as plain JSON values.

        Raises:
            NoResult: the run failed, was canceled or timed out.
            WaitTimedOut: it goes on.
            AnswerInvalid: the result is no `as_type`.
        """
        info = self.info
        with anyio.move_on_after(timeout):
            while info is None or not info.status.terminal:
                response, raw = await self._wire.call("GET", f"{self._path}/result", msgspec.Raw, wait_s=_wait(timeout))
                if response.status_code == 200:
                    return self._as(raw, as_type)
                info = self.info = msgspec.json.decode(raw, type=RunInfo)
                await anyio.sleep(retry_after(response))
            if info.status is RunState.COMPLETED:
                return self._as(info.result, as_type)
            if info.error is not None:
                raise refusal(info.error)
            await self._wire.call("GET", f"{self._path}/result", msgspec.Raw)
        raise WaitTimedOut(f"run {self.id} has not ended within {timeout} s: it goes on; ask again later")

    async def cancel(self, reason: str = "") -> RunInfo:
        """Ask it to stop.

        Raises:
            Refused: `run-ended`.
        """
        _, info = await self._wire.call("POST", f"{self._path}/cancel", RunInfo, body={"reason": reason})
        self.info = info
        return info

    async def signal(self, name: str, data: object = None, *, key: str | None = None) -> RunInfo:
        """Send a signal, once, however often the connection breaks.

        Args:
            name: of a signal that its workflow declares.
            data: what fits the signal's type.
            key: of several signals with one key only the first counts; by default each call is one of its own.

        Raises:
            Refused: `unknown-inlet`, `invalid-input`, `run-ended`.
        """
        body = {"data": msgspec.Raw(to_json(data, f"signal {name}"))}
        path = f"{self._path}/signals/{quote(name, safe='')}"
        _, info = await self._wire.call("POST", path, RunInfo, body=body, key=key or uuid4().hex)
        self.info = info
        return info

    async def approvals(self) -> tuple[ApprovalInfo, ...]:
        """List what it has asked for, in the order of the questions."""
        _, approvals = await self._wire.call("GET", f"{self._path}/approvals", Approvals)
        return approvals.data

    async def decide(self, approval: str, decision: object, *, by: str = "") -> ApprovalInfo:
        """Decide what it asked; the same decision again changes nothing.

        Raises:
            Refused: `decided` otherwise, `unknown-inlet`, `invalid-input`, `run-ended`.
        """
        body = {"decision": msgspec.Raw(to_json(decision, f"the decision on {approval}")), "by": by}
        path = f"{self._path}/approvals/{quote(approval, safe='')}"
        _, decided = await self._wire.call("POST", path, ApprovalInfo, body=body)
        return decided

    async def fork(self, *, at: str | None = None, input: object = None, key: str | None = None) -> RemoteRun:  # noqa: A002
        """Start a new run with the results of this one.

        Args:
            at: the step to make again, with all that ended after it began; None: keep all results.
            input: other arguments by name; None: the same.
            key: idempotency key.

        Raises:
            Refused: `no-fork`, `invalid-input`.
        """
        body: dict[str, object] = {"at": at}
        if input is not None:
            body["input"] = msgspec.Raw(to_json(input, "the fork's input"))
        return await self._again("fork", body, key)

    async def retry(self, *, key: str | None = None) -> RemoteRun:
        """Start it again from its last good step, as a new run.

        Raises:
            Refused: `no-fork`, it has not failed.
        """
        return await self._again("retry", None, key)

    async def _again(self, verb: str, body: object, key: str | None) -> RemoteRun:
        _, info = await self._wire.call("POST", f"{self._path}/{verb}", RunInfo, body=body, key=key or uuid4().hex)
        return RemoteRun(self._wire, info.id, info)

    def _as(self, raw: msgspec.Raw, type_: Any) -> Any:
        try:
            return from_json(raw, type_)
        except msgspec.ValidationError as error:
            raise AnswerInvalid(f"the result of run {self.id} does not fit as_type: {error}") from None


def _wait(timeout: float | None) -> float:
    return LONGEST_WAIT_S if timeout is None else min(LONGEST_WAIT_S, max(1, int(timeout)))
