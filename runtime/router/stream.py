"""A provider's event stream on its way to the caller: passed on as it comes, and checked as it passes.

Laws kept here: a stream that was cut is never a silent end; an error inside a 200 counts as an error; tokens are known
even if the caller did not ask for them. Until the first token nothing has been shown, so the router may still go
elsewhere: `open_stream` reads up to there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import msgspec

from .failures import Refusal
from .providers import usage_of


class Broken(Exception):
    """The stream failed; `refusal` says how."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Chunks:
    """The events of one answer.

    Attributes:
        usage: (input tokens, output tokens), when known.
        finished: whether the provider said that it is complete.
        error: the error that came inside the stream.
    """

    def __init__(self, response: httpx2.Response, *, show_usage: bool, between_s: float) -> None:
        self.usage: tuple[int, int] | None = None
        self.finished = False
        self.error: str | None = None
        self._response = response
        self._source = response.aiter_raw() if "content-encoding" not in response.headers else response.aiter_bytes()
        self._show_usage = show_usage
        self._between_s = between_s
        self._rest = b""

    async def events(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield (the event's bytes, whether it shows something to the reader).

        Raises:
            Broken: it is cut, stalls or is not what it claims to be.
        """
        while True:
            try:
                with anyio.fail_after(self._between_s):
                    block = await anext(self._source, None)
            except TimeoutError:
                raise Broken(Refusal("unavailable", f"no data for {self._between_s:g} s in a stream")) from None
            except httpx2.TransportError as error:
                raise Broken(Refusal("unavailable", f"stream cut: {type(error).__name__}")) from None
            if block is None:
                break
            *whole, self._rest = (self._rest + block).replace(b"\r\n", b"\n").split(b"\n\n")
            for event in whole:
                shows = self._read(event)
                if shows is not None:
                    yield event + b"\n\n", shows
        if not self.finished and self.error is None:
            raise Broken(Refusal("unavailable", "stream cut before its end"))

    async def aclose(self) -> None:
        """Close the connection's stream."""
        await self._response.aclose()

    def _read(self, event: bytes) -> bool | None:
        """Look at an event: True if it shows something, None if it is to be hidden."""
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if data == b"[DONE]":
            self.finished = True
            return False
        if not data:
            return False
        try:
            found = msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise Broken(Refusal("unavailable", "malformed event in a stream")) from None
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            raise Broken(Refusal("unavailable", "malformed event in a stream"))
        if found.get("error"):
            error = found["error"]
            self.error = str(error.get("message") if isinstance(error, dict) else error)[:200]
            return False
        if "type" in found:
            return self._read_response(found)
        self.usage = usage_of(found) or self.usage
        choices = found.get("choices") or []
        if not choices and "usage" in found and not self._show_usage:
            return None
        shows = False
        for choice in choices:
            if choice.get("finish_reason"):
                self.finished = True
            delta = choice.get("delta") or {}
            shows = shows or bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
        return shows

    def _read_response(self, found: dict[str, Any]) -> bool:
        kind = str(found["type"])
        if kind in ("response.completed", "response.incomplete"):
            self.finished = True
            self.usage = usage_of(found.get("response")) or self.usage
        elif kind in ("error", "response.failed"):
            self.error = str(found.get("message") or "the provider failed inside the stream")[:200]
        return kind.endswith(".delta")


class RoutedStream(httpx2.AsyncByteStream):
    """What the caller reads.

    Args:
        ahead: events that were read before the first token.
        events: those to come.
        done: called once with (status, error) when the stream is over.
    """

    def __init__(
        self,
        chunks: Chunks,
        ahead: list[bytes],
        events: AsyncIterator[tuple[bytes, bool]],
        done: Callable[[str, Refusal | None], None],
    ) -> None:
        self._chunks = chunks
        self._ahead = ahead
        self._events = events
        self._done: Callable[[str, Refusal | None], None] | None = done

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._ahead:
            yield event
        try:
            async for event, _ in self._events:
                yield event
        except Broken as broken:
            self._finish("failed", broken.refusal)
            raise httpx2.RemoteProtocolError(str(broken)) from None
        if self._chunks.error is not None:
            self._finish("failed", Refusal("unavailable", f"error inside the stream: {self._chunks.error}"))
        else:
            self._finish("ok", None)

    async def aclose(self) -> None:
        """Close the stream, read to its end or not."""
        self._finish("ok" if self._chunks.finished else "closed", None)
        with anyio.CancelScope(shield=True):
            await self._chunks.aclose()

    def _finish(self, status: str, refusal: Refusal | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(status, refusal)


async def open_stream(
    response: httpx2.Response, *, show_usage: bool, first_s: float, between_s: float
) -> tuple[Chunks, list[bytes], AsyncIterator[tuple[bytes, bool]]]:
    """Read a stream up to its first token.

    Raises:
        Broken: it failed before showing anything.
    """
    chunks = Chunks(response, show_usage=show_usage, between_s=between_s)
    events = chunks.events()
    ahead: list[bytes] = []
    try:
        with anyio.fail_after(first_s):
            async for event, shows in events:
                if chunks.error is not None:
                    raise Broken(Refusal("unavailable", f"error inside the stream: {chunks.error}"))
                ahead.append(event)
                if shows:
                    break
    except TimeoutError:
        raise Broken(Refusal("unavailable", f"no first token within {first_s:g} s")) from None
    return chunks, ahead, events
