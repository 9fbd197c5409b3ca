"""A provider that answers every call with the same bytes, so that what is measured is the client.

The simulator draws texts and keeps limits; that takes longer than some clients do. This one only reads to the end of a
request and writes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CHUNKS = 100
"""Pieces of text in a stream."""

WORD = "lighthouse "
ANSWER = json.dumps(
    {
        "id": "bare-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": WORD * 16},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25},
    }
).encode()


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    chunk = {"id": "bare-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": choices, **more}).encode() + b"\n\n"


def _piece(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "finish_reason": finish}])


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 9}
EVENTS = (
    *(_chunked(_piece({"role": "assistant", "content": WORD})) for _ in range(CHUNKS)),
    _chunked(_piece({}, "stop")) + _chunked(_event([], usage=USAGE)),
    _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n",
)


class _Bare(asyncio.Protocol):
    """Answers what comes on one connection; a stream's events go out one by one, each in a turn of the loop."""

    def __init__(self) -> None:
        self._bytes = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        end = self._bytes.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._bytes[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        body = self._bytes[end + 4 :]
        if len(body) < length:
            return
        self._bytes = b""
        if b'"stream":true' in body or b'"stream": true' in body:
            self._transport.write(STREAM)
            self._event(0)
        else:
            self._transport.write(WHOLE)

    def _event(self, number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(EVENTS[number])
        if number + 1 < len(EVENTS):
            asyncio.get_running_loop().call_later(0.0005, self._event, number + 1)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def bare() -> Iterator[str]:
    """Run it in a process of its own while the block runs; gives its base URL."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(_serve())
