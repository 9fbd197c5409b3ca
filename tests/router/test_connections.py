"""Connections to providers, against a server that answers byte by byte as a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime.router.connection import HIGH_WATER, Answer, Connection
from greenroom.runtime.router.connections import Connections

from .conftest import LOOPS

ASKED = b'{"model": "m"}'
OK = b"HTTP/1.1 200 OK\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def server(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run `script` for every connection; its last argument counts them from 1."""
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            await script(reader, writer, count)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with listener:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/chat/completions"


def answers(*pieces: bytes, then_close: bool = False) -> Script:
    """Answer every request with these pieces, each in a write of its own."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await read_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if then_close:
                return

    return script


async def ask(to: Connections, url: str) -> httpx2.Response:
    with anyio.fail_after(10):
        return await to.handle_async_request(httpx2.Request("POST", url, content=ASKED))


async def body(to: Connections, url: str) -> bytes:
    response = await ask(to, url)
    with anyio.fail_after(10):
        return await response.aread()


@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_tls_is_spoken_and_checked_and_a_refused_certificate_holds_up_no_end(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with server(answers(LENGTH), tls) as url:
        with anyio.fail_after(20):
            async with Connections() as stranger:
                with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
                    await ask(stranger, url)
        trusted = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr(httpx2, "create_ssl_context", lambda **options: trusted)
        with anyio.fail_after(20):
            async with Connections() as connections:
                assert [await body(connections, url) for _ in range(2)] == [b"hello", b"hello"]


LENGTH = OK + b"Content-Length: 5\r\nX-Kind: a\r\n\r\nhello"
CHUNKS = OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\ntrailer: 1\r\n\r\n"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKS], ids=["length", "chunks"])
async def test_an_answer_is_the_same_however_it_is_cut(answer: bytes) -> None:
    for size in (1, 2, 7, len(answer)):
        pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
        async with server(answers(*pieces)) as url, Connections() as connections:
            assert [await body(connections, url) for _ in range(2)] == [b"hello", b"hello"]


async def test_a_connection_is_used_again_when_all_of_its_answer_has_come() -> None:
    opened = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal opened
        opened = number
        await answers(LENGTH if number == 1 else LENGTH[:-1])(reader, writer, number)

    async with server(script) as url, Connections() as connections:
        unread = [await ask(connections, url) for _ in range(3)]
        assert opened == 1
        assert [await response.aread() for response in unread] == [b"hello"] * 3
        first = next(iter(connections._all))
        first.close()
        await first.lost.wait()
        for number in (2, 3):
            response = await ask(connections, url)
            await response.aclose()  # not all of it has come
            assert opened == number


async def test_a_request_on_a_connection_that_the_server_had_closed_goes_out_on_a_new_one() -> None:
    async with server(answers(LENGTH, then_close=True)) as url, Connections() as connections:
        for _ in range(3):
            assert await body(connections, url) == b"hello"


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with server(answers(OK + b"\r\n", b"hel", b"lo", then_close=True)) as url, Connections() as connections:
        assert await body(connections, url) == b"hello"


async def test_interim_answers_are_not_the_answer() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with server(answers(interim + interim[:10], interim[10:] + LENGTH)) as url, Connections() as connections:
        response = await ask(connections, url)
        assert response.status_code == 200
        assert response.headers["x-kind"] == "a"


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"", httpx2.RemoteProtocolError, "hung up without an answer"),
        (b"SSH-2.0-x\r\n\r\n", httpx2.RemoteProtocolError, "not HTTP"),
        (OK + b"content-length: 9\r\n\r\nhello", httpx2.RemoteProtocolError, "in the middle"),
        (OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", httpx2.RemoteProtocolError, "or two"),
        (OK + b"content-length: -5\r\n\r\nhello", httpx2.RemoteProtocolError, "no number"),
        (OK + b"no colon\r\n\r\n", httpx2.RemoteProtocolError, "header is malformed"),
        (OK + b"transfer-encoding: gzip\r\n\r\n", httpx2.RemoteProtocolError, "not known"),
        (OK + b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n", httpx2.RemoteProtocolError, "no number"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhelloXX", httpx2.RemoteProtocolError, "does not end"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", httpx2.RemoteProtocolError, "in the middle"),
        (OK + b"x: " + b"y" * 70_000, httpx2.RemoteProtocolError, "longer than"),
    ],
)
async def test_what_is_no_answer_is_an_error(answer: bytes, error: type[Exception], says: str) -> None:
    async with server(answers(answer, then_close=True)) as url, Connections() as connections:
        with pytest.raises(error, match=says):
            await body(connections, url)


async def test_nobody_there_is_a_connect_error() -> None:
    async with Connections() as connections:
        with pytest.raises(httpx2.ConnectError):
            await ask(connections, "http://127.0.0.1:9/v1/models")


async def test_a_body_is_read_no_faster_than_its_reader_takes_it() -> None:
    size, written = 64 * 1024 * 1024, 0
    stuck = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(OK + b"content-length: %d\r\n\r\n" % size)
        block = b"x" * 65536
        while written < size:
            writer.write(block)
            written += len(block)
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await writer.drain()

    async with server(script) as url, Connections() as connections:
        response = await ask(connections, url)
        with anyio.fail_after(20):
            await stuck.wait()
        assert written < size / 2
        assert isinstance(response.stream, Answer)
        assert response.stream._held < 3 * HIGH_WATER
        assert len(await response.aread()) == size


async def test_closing_ends_connections_that_are_in_use_and_those_that_are_not() -> None:
    async with server(answers(LENGTH[:-1])) as url:
        connections = Connections()
        async with connections:
            await ask(connections, url)
            assert len(connections._all) == 1
        assert not connections._all


async def test_a_request_that_is_given_up_takes_its_connection_along() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        await reader.read()

    async with server(silent) as url, Connections() as connections:
        with anyio.move_on_after(0.05) as scope:
            await connections.handle_async_request(httpx2.Request("POST", url, content=ASKED))
        assert scope.cancelled_caught
        with anyio.fail_after(10):
            for connection in list(connections._all):
                await connection.lost.wait()
        assert not connections._all


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_chunks_come_out_as_they_went_in_whatever_the_pieces(chunks: list[bytes], data: st.DataObject) -> None:
    wire = OK + b"transfer-encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    connection = Connection(Connections(), ("http", "h", 80))
    connection._answer = answer = Answer(connection)
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        assert not answer.ended
        connection._take(answer, connection._bytes + wire[start:end])
    assert answer.ended
    assert b"".join(answer._blocks) == b"".join(chunks)


async def test_a_request_to_this_machine_leaves_at_once_and_is_answered_later() -> None:
    arrived = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        arrived.set()
        writer.write(LENGTH)
        await reader.read()

    async with server(script) as url, Connections() as connections:
        begun = connections.begin(httpx2.Request("POST", url, content=ASKED))
        assert begun is not None
        with anyio.fail_after(10):
            await arrived.wait()  # nobody has asked for the answer yet
            response = await begun.response()
            assert response is not None
            assert await response.aread() == b"hello"
            again = connections.begin(httpx2.Request("POST", url, content=ASKED))
            assert again is not None
            again.close()
        assert connections.begin(httpx2.Request("POST", "https://127.0.0.1:9/", content=ASKED)) is None
        assert connections.begin(httpx2.Request("POST", "http://127.0.0.1:9/", content=ASKED)) is None


async def test_a_large_request_to_this_machine_arrives_whole() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        request = await read_request(reader)
        text = b"%d" % len(request.partition(b"\r\n\r\n")[2])
        writer.write(OK + b"content-length: %d\r\n\r\n%b" % (len(text), text))

    async with server(script) as url, Connections() as connections:
        with anyio.fail_after(20):
            request = httpx2.Request("POST", url, content=b"x" * 20_000_000)
            response = await connections.handle_async_request(request)
            assert await response.aread() == b"20000000"


async def test_what_was_sent_and_not_asked_for_is_closed_with_the_rest() -> None:
    async with server(answers(LENGTH)) as url:
        async with Connections() as connections:
            assert connections.begin(httpx2.Request("POST", url, content=ASKED)) is not None
        assert not connections._all
