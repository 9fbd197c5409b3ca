"""One connection to an API: requests, their refusals, and trying again.

Laws kept here: 1 (only what can be repeated is: reads, and writes with a key), 10 (the token is in no message).

A call is tried again as long as the client's patience lasts: when no connection was made, and, if it can be repeated,
when it broke or was answered with 429, 502, 503 or 504. Pauses grow, are random in part, and obey `Retry-After`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import httpx2
import msgspec

from .errors import AnswerInvalid, Unreachable, refusal
from .objects import Problem

T = TypeVar("T")

SILENCE_S = 45.0
"""How long a stream may say nothing: the API sends a comment every 15 s."""

FIRST_S, MOST_S = 0.1, 5.0
_AGAIN = frozenset({429, 502, 503, 504})


class Patience:
    """How long to go on without an answer: the pauses of one call, or of a stream between two events."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._tried = 0
        self._until: float | None = None

    def answered(self) -> None:
        """Note that the server is there; if it does not help, pauses grow on, so that a loop is a slow one."""
        self._until = None

    def renew(self) -> None:
        """Begin anew: what was asked for came."""
        self._tried, self._until = 0, None

    async def pause(self, reason: str, at_least_s: float = 0.0) -> None:
        """Wait before the next try.

        Raises:
            Unreachable: patience is at its end, or would be before the next try.
        """
        now = anyio.current_time()
        if self._until is None:
            self._until = now + self.seconds
        grown = min(MOST_S, FIRST_S * 2**self._tried)
        pause = max(at_least_s, random.uniform(grown / 2, grown))  # noqa: S311 - jitter
        if now + pause > self._until:
            raise Unreachable(
                f"{reason}; gave up after {self.seconds:g} s: see that the server runs and can be reached, "
                "or give Client more patience_s"
            )
        self._tried += 1
        await anyio.sleep(pause)


class Wire:
    """Requests to one API.

    Args:
        http: has the base URL and the token.
        patience_s: how long to try to reach a server that does not answer, seconds.
    """

    def __init__(self, http: httpx2.AsyncClient, patience_s: float) -> None:
        self._http = http
        self.patience_s = patience_s
        self.place = shown(http.base_url)

    async def call(
        self,
        method: str,
        path: str,
        type_: type[T],
        *,
        body: object = None,
        key: str | None = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> tuple[httpx2.Response, T]:
        """Make a request; its response, and its body as `type_`.

        Args:
            method: GET or POST.
            path: under the base URL.
            type_: what to read the body as.
            body: sent as JSON.
            key: makes a POST repeatable.
            query: parameters.
            headers: more headers.
            wait_s: how long the server may take on purpose, seconds (`Prefer: wait`).

        Raises:
            Refused: the API answered with a problem.
            Unreachable: nothing answered.
            AnswerInvalid: something else did.
        """
        sent = dict(headers or {})
        if key is not None:
            sent["idempotency-key"] = key
        if wait_s:
            sent["prefer"] = f"wait={int(wait_s)}"
        content = b"" if body is None else msgspec.json.encode(body)
        if content:
            sent["content-type"] = "application/json"
        repeatable = method == "GET" or key is not None
        patience = Patience(self.patience_s)
        while True:
            request = self._http.build_request(
                method, path, content=content, params=query, headers=sent, timeout=httpx2.Timeout(10, read=30 + wait_s)
            )
            try:
                response = await self._http.send(request)
            except httpx2.TransportError as error:
                if not (repeatable or isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))):
                    raise self._broken(method, path, error) from error
                await patience.pause(self._said(error))
                continue
            if response.status_code in _AGAIN and repeatable:
                await patience.pause(f"{self.place} answered {response.status_code}", retry_after(response))
                continue
            return response, self.read(response, type_)

    @asynccontextmanager
    async def stream(self, path: str, cursor: str) -> AsyncIterator[httpx2.Response]:
        """Open an event stream behind a cursor; empty: at its start.

        It breaks as `httpx2.TransportError`; opening it is not tried again.
        """
        headers = {"accept": "text/event-stream"} | ({"last-event-id": cursor} if cursor else {})
        timeout = httpx2.Timeout(10, read=SILENCE_S)
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.status_code not in (200, 204):
                await response.aread()
            yield response

    def read(self, response: httpx2.Response, type_: type[T]) -> T:
        """Read a response's body.

        Raises:
            Refused: it is a problem.
            AnswerInvalid: it is neither that nor a `type_`.
        """
        problem = response.headers.get("content-type", "").startswith("application/problem+json")
        try:
            if not problem and response.is_success:
                return msgspec.json.decode(response.content, type=type_)
            raise refusal(msgspec.json.decode(response.content, type=Problem))
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
            raise stranger(response) from None

    def pausing(self, response: httpx2.Response) -> bool:
        """Whether this answer is one to ask again after."""
        return response.status_code in _AGAIN

    def _said(self, error: Exception) -> str:
        return f"{self.place} cannot be reached ({str(error) or type(error).__name__})"

    def _broken(self, method: str, path: str, error: Exception) -> Unreachable:
        return Unreachable(
            f"the connection broke during {method} {path} ({str(error) or type(error).__name__}), so it may or may not "
            "have been done: look at the run before you do it again"
        )


def shown(url: httpx2.URL) -> str:
    """Write a URL as messages may have it: without a password and without a query."""
    return str(url.copy_with(userinfo=b"", query=None))


def stranger(response: httpx2.Response) -> AnswerInvalid:
    """Make the error of an answer that the API does not give."""
    return AnswerInvalid(
        f"{shown(response.request.url)} answered {response.status_code} with something that the API does not say: "
        "check the client's URL, and that nothing in between answers instead"
    )


def retry_after(response: httpx2.Response) -> float:
    """Read `Retry-After`, seconds; a date or nonsense counts as none."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 7 else 0.0
