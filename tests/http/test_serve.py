"""Serving on a socket: unsafe binds are refused, ports explained, and stopping is quick and in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from greenroom import ConfigInvalid
from greenroom.runtime.http import AddressUnavailable, ApiOptions, api, serve
from greenroom.runtime.http.connection import Connection
from greenroom.runtime.listener import listen
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

from .conftest import Hand, newsroom, open_house, served

PROGRAM = """
import sys
import anyio
from greenroom import workflow
from greenroom.runtime.http import api, serve
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

@workflow
async def newsroom(topic: str) -> str:
    return topic

async def main() -> None:
    async with open_transport("memory://") as store:
        await serve(api(Runs(store, {"newsroom": newsroom})), port=0, ready=lambda url: print(url, flush=True))
    print("cleaned up", flush=True)

anyio.run(main)
"""


def closed() -> Runs:
    raise AssertionError("not asked for in these tests")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_and_then_the_server_within_a_second(tmp_path: Path, number: signal.Signals) -> None:
    """In a process of its own. The client is told; what surrounds `serve` gets to clean up."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            body = {"input": {"topic": "tea"}}
            headers = {"accept": "text/event-stream"}
            with (
                httpx2.Client(base_url=url, timeout=20) as client,
                client.stream("POST", "/v1/workflows/newsroom/runs", json=body, headers=headers) as response,
            ):
                lines = response.iter_lines()
                while "run.queued" not in next(lines):
                    pass
                signalled = time.monotonic()
                process.send_signal(number)
                assert "event: server-shutdown" in list(lines)
            process.wait(20)
            took = time.monotonic() - signalled
        finally:
            process.kill()
        assert (process.returncode, process.stdout.read()) == (0, "cleaned up\n")
        assert "Traceback" not in process.stderr.read()
        assert took < 1.5


async def test_cancelling_serve_ends_streams_and_then_the_server(anyio_backend: Any) -> None:
    """The way a program stops it that does more than serve."""
    lines: list[str] = []
    async with (
        open_transport("memory://") as store,
        httpx2.AsyncClient(timeout=20) as client,
        anyio.create_task_group() as group,
    ):
        runs = Runs(store, {"newsroom": newsroom})
        run, _ = await runs.start("newsroom", b'{"topic": "tea"}')
        app = api(runs)

        async def follow(url: str) -> None:
            async with client.stream("GET", f"{url}/v1/runs/{run.run_id}/events") as response:
                async for line in response.aiter_lines():
                    lines.append(line)

        async with served(app) as url:
            group.start_soon(follow, url)
            while "event: run.queued" not in lines:
                await anyio.lowlevel.checkpoint()
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 1.5
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)
    assert [line for line in lines if line.startswith("event")] == ["event: run.queued", "event: server-shutdown"]
    assert lines.count("id: 1") == 1


@pytest.mark.parametrize("between", [False, True], ids=["the app alone", "something between"])
async def test_streams_are_told_at_once_unless_something_was_added_to_the_app(
    monkeypatch: pytest.MonkeyPatch, between: bool
) -> None:
    """What is added sees all that is sent."""
    told_at_once: list[bytes] = []
    seen: list[bytes] = []
    say = Connection.say_at_once

    def say_at_once(connection: Connection, body: bytes, *, more: bool = True) -> bool:
        done = say(connection, body, more=more)
        told_at_once.extend([body] * done)
        return done

    class Between:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def sees(message: Any) -> None:
                seen.append(message.get("body", b""))
                await send(message)

            await self.app(scope, receive, sees)

    monkeypatch.setattr(Connection, "say_at_once", say_at_once)
    async with open_transport("memory://") as store, httpx2.AsyncClient(timeout=20) as client:
        runs, hand = Runs(store, {"newsroom": newsroom}), Hand(store, "newsroom")
        run, _ = await runs.start("newsroom", b'{"topic": "tea"}')
        await hand.claim(run.run_id)
        app = api(runs)
        if between:
            app.add_middleware(Between)
        async with served(app) as url, client.stream("GET", f"{url}/v1/runs/{run.run_id}/events") as response:
            lines = response.aiter_lines()
            for seq in range(4, 8):
                while f"id: {seq - 1}" != await anext(lines):
                    pass
                await hand.say(run.run_id, "word")
            while await anext(lines) != "id: 7":
                pass
            await hand.complete(run.run_id)
            assert "event: run.completed" in [line async for line in lines]
    assert bool(told_at_once) is not between
    assert (b"id: 7" in b"".join(seen)) is between


async def test_a_port_in_use_is_explained_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable) as refused:
            await serve(api(closed), port=port)
    assert str(port) in str(refused.value)
    assert "choose another port" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_responses_do_not_wait_for_acknowledgements() -> None:
    """Accepted sockets inherit the protocol, and asyncio sets TCP_NODELAY on what is TCP by name only."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP


async def test_a_host_of_another_machine_is_explained() -> None:
    with pytest.raises(AddressUnavailable, match=r"203\.0\.113\.1"):
        await serve(api(closed), host="203.0.113.1", port=0, insecure=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_beyond_loopback_a_token_is_required(host: str) -> None:
    with pytest.raises(ConfigInvalid, match="GREENROOM_TOKEN"):
        await serve(api(closed), host=host, port=0)


async def test_with_a_token_or_when_told_it_listens_everywhere(anyio_backend: Any) -> None:
    for app, options in (
        (api(closed, options=ApiOptions(token="x" * 16)), {}),
        (api(closed), {"insecure": True}),
    ):
        async with served(app, host="0.0.0.0", **options) as url, httpx2.AsyncClient() as client:
            port = url.rpartition(":")[2]
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200


async def test_signals_are_given_back(anyio_backend: Any) -> None:
    """After serving they mean what they meant before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with open_house() as house:
        assert (await house.client.get("/livez")).status_code == 200
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


async def test_a_signal_in_an_embedding_program_drains_and_then_does_what_it_did(anyio_backend: Any) -> None:
    """The host's own handler still runs, after the streams were told."""
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        streams = api(closed).state.streams
        with streams.drained_by_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            while not streams.draining:
                await anyio.lowlevel.checkpoint()
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)
