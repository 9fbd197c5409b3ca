"""A provider's event stream on its way to the caller: passed on as it comes, and checked as it passes.

Laws kept here: a stream that was cut is never a silent end; an error inside a 200 counts as an error; tokens are known
even if the caller did not ask for them. Until the first token nothing has been shown, so the router may still go
elsewhere: `Events.open` reads up to there. After it a failure is shown as an error event, which the SDK raises as
`APIError` with its message: a stream ends as the provider ends it, or with an error event, and never just so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any, Self

import anyio
import httpx2
import msgspec

from .deployment import Deployment
from .failures import Broken, Refusal
from .protocol import usage_of
from .remarks import NONE, remarks_of

LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes of an event that does not end, before it counts as malformed."""


LAST_S = 0.05
"""How long the end of a connection's stream may come after the last event, seconds."""


def blocks_of(response: httpx2.Response) -> AsyncIterable[bytes]:
    """Return the body as it comes, unpacked where it was packed."""
    if isinstance(response.stream, httpx2.AsyncByteStream) and "content-encoding" not in response.headers:
        return response.stream
    return response.aiter_bytes()


class Events:
    """The events of one answer.

    Args:
        response: a streamed answer with status 200.
        deployment: whose it is.
        show_usage: whether the caller asked for a chunk with usage.

    Attributes:
        usage: (input tokens, output tokens), when known.
        remarks: what the answer has said of itself.
        finished: whether the provider said that it is complete.
    """

    def __init__(self, response: httpx2.Response, deployment: Deployment, *, show_usage: bool) -> None:
        self.usage: tuple[int, int] | None = None
        self.remarks = NONE
        self.finished = False
        self._response = response
        self._source = aiter(blocks_of(response))
        self._show_usage = show_usage
        self._between_s = deployment.timeouts.between_tokens
        self._spoken = deployment.spoken
        self._bytes = b""
        self._ready: deque[bytes] = deque()
        self._shown = False
        self._moved = False
        self._ended = False
        self._failure: Broken | None = None

    async def open(self) -> None:
        """Read up to the first token, or the end.

        Raises:
            Broken: it failed before showing anything.
        """
        while not self._shown and not self._ended:
            await self._read()
        if self._failure is not None and not self._shown:
            raise self._failure

    async def next(self) -> bytes | None:
        """Return what has come, one event or more; None at the end.

        Raises:
            Broken: it is cut, stalls, is not what it claims to be, or carries an error.
        """
        while not self._ready and not self._ended:
            try:
                async with asyncio.timeout(self._between_s):
                    self._moved = False
                    while not self._moved and not self._ended:
                        await self._read()
            except TimeoutError:
                self._end(Broken.unavailable(f"no data for {self._between_s:g} s in a stream"))
        if self._ready:
            events = b"".join(self._ready) if len(self._ready) > 1 else self._ready[0]
            self._ready.clear()
            return events
        if self._failure is not None:
            raise self._failure
        return None

    async def aclose(self) -> None:
        """Close the connection's stream."""
        with anyio.CancelScope(shield=True):
            if self.finished and not self._ended:  # so that the connection can be used again
                with anyio.move_on_after(LAST_S):
                    while not self._ended:
                        await self._read()
            await self._response.aclose()

    async def _read(self) -> None:
        """Read a block. What is complete before a failure is still the caller's."""
        try:
            block = await anext(self._source, None)
        except (httpx2.RequestError, httpx2.StreamError) as error:
            self._end(Broken.unavailable(f"stream cut: {type(error).__name__}"))
            return
        self._bytes += block or b""
        if b"\r" in self._bytes:
            self._bytes = self._bytes.replace(b"\r\n", b"\n")
        *events, self._bytes = self._bytes.split(b"\n\n")
        if block is None:
            events.append(self._bytes)
        try:
            for event in events:
                if event.strip() and self._look(event):
                    self._ready.append(event + b"\n\n")
        except Broken as broken:
            self.finished = False
            self._end(broken)
        if block is None:
            self._end(Broken.unavailable("stream cut before its end"))
        elif len(self._bytes) > LONGEST_EVENT:
            self._end(Broken.unavailable("malformed event in a stream: it does not end"))

    def _end(self, failure: Broken) -> None:
        """Nothing more comes. That is a failure, unless the provider had said that it is complete."""
        if not self._ended:
            self._ended = True
            self._failure = None if self.finished else failure

    def _look(self, event: bytes) -> bool:
        """Look at an event; say whether it is the caller's to see."""
        if event.startswith(b"data:") and b"\n" not in event:
            data = event[5:].strip()
        else:
            data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data:
            return True
        self._moved = True
        if data == b"[DONE]":
            self.finished = True
            return True
        if self._shown and (chunk := _plain(data)) is not None:
            return chunk
        try:
            found = msgspec.json.decode(data)
        except msgspec.DecodeError:
            found = None
        if error := self._spoken.error_in(found):
            raise Broken(self._spoken.hidden(error, "stream"))
        if not isinstance(found, dict):
            raise Broken.unavailable("malformed event in a stream")
        return self._look_response(found) if "type" in found else self._look_chunk(found)

    def _look_chunk(self, found: dict[str, Any]) -> bool:
        self.usage = usage_of(found) or self.usage
        self.remarks = remarks_of(found, self.remarks)
        choices = [choice for choice in found.get("choices") or () if isinstance(choice, dict)]
        for choice in choices:
            self.finished = self.finished or bool(choice.get("finish_reason"))
            delta = choice.get("delta") or {}
            self._shown = self._shown or any(value for name, value in delta.items() if name != "role")
        return bool(choices) or self._show_usage or "usage" not in found

    def _look_response(self, found: dict[str, Any]) -> bool:
        kind, answer = str(found["type"]), found.get("response")
        if kind in ("error", "response.failed"):
            raise Broken(self._spoken.hidden(self._spoken.error_in(answer) or found, "stream"))
        if kind in ("response.completed", "response.incomplete"):
            self.finished = True
            self.usage = usage_of(answer) or self.usage
            self.remarks = remarks_of(answer, self.remarks)
        self._shown = self._shown or kind.endswith(".delta")
        return True


class _Choice(msgspec.Struct):
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
    type: Any = None
    error: Any = None
    usage: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


def _plain(data: bytes) -> bool | None:
    """Say that a chunk is one of the many that hold a piece of text and nothing else; None: look at it closely."""
    try:
        chunk = _decode(data)
    except msgspec.DecodeError:
        return None
    if chunk.type is not None or chunk.error is not None or chunk.usage is not None or not chunk.choices:
        return None
    return None if any(choice.finish_reason for choice in chunk.choices) else True


class RoutedStream(httpx2.AsyncByteStream):
    """What the caller reads.

    Args:
        events: opened.
        deployment: whose it is.
        total_s: how long it may take from here, seconds. A reader that went away without closing holds a place in
            the deployment's concurrency no longer than that.
        done: called once with (outcome, refusal) when the stream is over.
        code: of the error event that a broken stream ends with.
    """

    def __init__(
        self,
        events: Events,
        deployment: Deployment,
        total_s: float,
        done: Callable[[str, Refusal | None], None],
        code: str = "stream_broken",
    ) -> None:
        self._events = events
        self._deployment = deployment
        self._done: Callable[[str, Refusal | None], None] | None = done
        self._code = code
        self._ended = False
        self._expired: Broken | None = None
        self._watch = asyncio.get_running_loop().call_later(total_s, self._expire)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        try:
            event = await self._events.next()
            if self._expired is not None:
                raise self._expired
        except Broken as broken:
            self._ended = True
            message = self._deployment.key.hide(broken.refusal.message)
            refusal = msgspec.structs.replace(broken.refusal, message=message)
            self._finish(refusal.kind, refusal)
            return error_event(f"{self._deployment.name}: {message}", self._code)
        if event is None:
            self._ended = True
            self._finish("ok", None)
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the stream, read to its end or not."""
        self._finish("ok" if self._events.finished else "closed", None)
        await self._events.aclose()

    def _expire(self) -> None:
        self._expired = Broken.unavailable("a stream took longer than its total timeout")
        self._finish(self._expired.refusal.kind, self._expired.refusal)

    def _finish(self, outcome: str, refusal: Refusal | None) -> None:
        self._watch.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(outcome, refusal)


def error_event(message: str, code: str) -> bytes:
    """Write an error as an event of a stream."""
    error = {"message": message, "type": "router_error", "param": None, "code": code}
    return b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
