"""One attempt: a call is sent to the deployment that its ticket is for, and what comes back is judged.

Laws kept here: 10 (keys are revealed to the request that carries them and to nothing else), 7 (a response that nobody
gets is closed). The transport is used without an HTTP client on top: what a client adds (redirects, cookies, the
environment's proxies and keys) is what a router must not do.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import anyio
import httpx2
import msgspec

from . import answer
from .call import Call
from .connections import Connections
from .deployment import Deployment
from .failures import Broken, Refusal
from .lane import Ticket
from .protocol import is_answer, usage_of
from .remarks import remarks_of
from .stream import Events, RoutedStream, blocks_of


class Sender:
    """Sends attempts.

    Args:
        transport: what carries requests to providers.
        clock: seconds.
        restarts: whether a stream that breaks after its first token asks its caller to start again.
    """

    def __init__(
        self, transport: httpx2.AsyncBaseTransport, clock: Callable[[], float], *, restarts: bool = False
    ) -> None:
        self._transport = transport
        self._now = clock
        self._restarts = restarts
        self._connections = transport if isinstance(transport, Connections) else None

    def begin(self, call: Call, ticket: Ticket) -> None:
        """Send the call at this moment, if a connection is open: its task may have to wait for its turn."""
        if self._connections is not None:
            ticket.begun = self._connections.begin(self._request(call, ticket))

    async def attempt(self, call: Call, ticket: Ticket) -> tuple[httpx2.Response, Refusal | None]:
        """Send the call to one deployment; return its answer, and how it refused.

        An answer that is final (no refusal) has been accounted for, a stream when it is over.
        """
        deployment = ticket.lane.deployment
        response: httpx2.Response | None = None
        usage: tuple[int, int] | None = None
        try:
            times = deployment.timeouts
            started = self._now()
            limit = times.first_token if call.stream else times.total
            try:
                async with asyncio.timeout_at(started + limit) as timer:
                    response = await self._asked(call, ticket)
                    ticket.told(response.headers)
                    if response.status_code == 200 and call.stream:
                        return await self._open(call, ticket, response, started + times.total), None
                    body = await self._read(response, timer, started + limit, times.between_tokens)
            except TimeoutError:
                what = "first token" if call.stream else "answer"
                late = f"timed out: no {what} within {limit:g} s"
                if self._now() < started + limit - 0.001:
                    late = f"timed out: no data for {times.between_tokens:g} s in an answer"
                raise Broken.unavailable(late) from None
            except (httpx2.RequestError, httpx2.StreamError) as error:
                raise Broken(_unconnected(deployment, error)) from None
            if response.status_code >= 300:
                raise Broken(deployment.spoken.refusal(response.status_code, response.headers, body))
            found = _whole(call.path, deployment, body)
            usage = usage_of(found)
        except Broken as broken:
            if response is not None:
                await response.aclose()
            refusal = broken.refusal
            message = deployment.key.hide(refusal.message)
            refusal = msgspec.structs.replace(refusal, message=message)
            call.attempted(ticket, refusal.kind, message)
            ticket.answered(None if refusal.kind == "unavailable" else 0, refusal)
            if response is not None and response.status_code >= 400:
                by = ticket.lane.name if refusal.kind in ("refused", "quota") else ""
                return answer.told(response, body, deployment, by), refusal
            return answer.refuse(503, refusal.kind, f"{ticket.lane.name}: {message}"), refusal
        except BaseException:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            raise
        ticket.lane.durations.add(self._now() - ticket.at)
        call.attempted(ticket, "ok")
        ticket.answered(sum(usage) if usage else None)
        call.remarks = remarks_of(found)
        call.over("ok", usage)
        return answer.told(response, body, deployment), None

    async def _asked(self, call: Call, ticket: Ticket) -> httpx2.Response:
        begun, ticket.begun = ticket.begun, None
        response = await begun.response() if begun is not None else None
        return response or await self._transport.handle_async_request(self._request(call, ticket))

    def _request(self, call: Call, ticket: Ticket) -> httpx2.Request:
        deployment = ticket.lane.deployment
        total_s = deployment.timeouts.total
        extensions: dict[str, Any] = {
            "timeout": {
                "connect": deployment.timeouts.connect,
                "read": total_s,
                "write": total_s,
                "pool": total_s,
            }
        }
        if self._connections is not None:
            extensions["sent"] = ticket.left
        else:
            ticket.left()
        return httpx2.Request(
            "POST",
            _url(deployment.base_url, call.path),
            content=msgspec.json.encode(
                deployment.spoken.prepare(call.path, call.body, deployment.model, stream=call.stream)
            ),
            headers={
                "authorization": f"Bearer {deployment.key.reveal()}",
                "content-type": "application/json",
                "accept-encoding": "identity",
            },
            extensions=extensions,
        )

    async def _read(self, response: httpx2.Response, timer: asyncio.Timeout, until: float, between_s: float) -> bytes:
        """Read a whole answer: once it has begun it may not stall."""
        blocks = []
        async for block in blocks_of(response):
            blocks.append(block)
            timer.reschedule(min(until, self._now() + between_s))
        await response.aclose()
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def _open(self, call: Call, ticket: Ticket, response: httpx2.Response, until: float) -> httpx2.Response:
        """Read a stream up to its first token; from there on it is the caller's."""
        deployment = ticket.lane.deployment
        if "text/event-stream" not in response.headers.get("content-type", ""):
            raise Broken.unavailable("a stream was asked for, and something else came with status 200")
        options = call.body.get("stream_options")
        show_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        events = Events(response, deployment, show_usage=show_usage)
        await events.open()
        call.first_token_s = self._now() - call.started
        ticket.lane.durations.add(self._now() - ticket.at)

        def done(outcome: str, refusal: Refusal | None) -> None:
            call.attempted(ticket, outcome, refusal.message if refusal is not None else None)
            used = sum(events.usage) if events.usage else None
            if outcome == "closed":
                ticket.dropped(outcome, used)
            else:
                ticket.answered(used, refusal)
            call.remarks = events.remarks
            call.over("failed" if refusal is not None else outcome, events.usage)

        code = "stream_reset" if self._restarts else "stream_broken"
        stream = RoutedStream(events, deployment, until - self._now(), done, code)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)


def _unconnected(deployment: Deployment, error: Exception) -> Refusal:
    """Say what it means that there is no connection: a name that does not exist is no outage."""
    host = _url(deployment.base_url, "").netloc.decode()
    cause = error.__cause__
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return Refusal("refused", f"there is no host {host}: see to its base_url")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refusal("refused", f"the certificate of {host} is not trusted: {cause.verify_message}")
    why = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else type(error).__name__
    return Refusal("unavailable", f"no connection to {host}: {why}")


@lru_cache(maxsize=256)
def _url(base: str, path: str) -> httpx2.URL:
    return httpx2.URL(base.rstrip("/") + path)


def _whole(path: str, deployment: Deployment, body: bytes) -> Any:
    """Decode an answer with status 200; what is not what was asked for is no answer."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise Broken.unavailable("an answer with status 200 is not JSON") from None
    if not is_answer(path, found):
        raise Broken(deployment.spoken.hidden(deployment.spoken.error_in(found), "answer"))
    return found
