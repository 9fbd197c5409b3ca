"""Bodies wrapped by a codec and kept as blobs: the whole contract, and what the store sees of it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from greenroom import Runtime, component, workflow
from greenroom.runtime.testing import TransportSuite
from greenroom.transports import (
    BlobNotFound,
    CodecMissing,
    Entry,
    HandOver,
    Lane,
    NewRun,
    Terms,
    Transport,
    open_transport,
    wrapped,
)


class Zip:
    """Compression."""

    name = "zip"

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decode(self, data: bytes) -> bytes:
        return zlib.decompress(data)


class Base64(Zip):
    """Something else."""

    name = "base64"

    def encode(self, data: bytes) -> bytes:
        return base64.b64encode(data)

    def decode(self, data: bytes) -> bytes:
        return base64.b64decode(data)


class TestWrapped(TransportSuite):
    shared: ClassVar[bool] = False

    def open(self, folder: Path, clock: Callable[[], float]) -> AbstractAsyncContextManager[Transport]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Transport]:
            async with open_transport("memory://", clock=clock) as store:
                yield wrapped(store, [Zip()], blob_bytes=12)

        return opened()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def new(body: bytes) -> NewRun:
    return NewRun(run_id="r", lane=Lane(workflow="w"), entries=(Entry("run.queued", body),))


async def test_the_store_sees_no_bodies_and_no_large_ones() -> None:
    async with open_transport("memory://") as store:
        over = wrapped(store, [Zip()], blob_bytes=50)
        await over.create(new(b"secret " * 1000))
        await over.post("r", [Entry("k", bytes(range(256)) * 4)])
        below = [stored.body for stored in await store.read("r")]
        assert [stored.body for stored in await over.read("r")] == [b"secret " * 1000, bytes(range(256)) * 4]
    assert below[0].startswith(b"\x01zip\0")
    assert below[1].startswith(b"\x02")
    assert len(below[1]) == 33
    assert not any(b"secret" in body for body in below)


async def test_a_body_that_lost_its_blob_is_an_error() -> None:
    async with open_transport("memory://") as store:
        await store.create(new(b"\x02" + b"0" * 32))
        with pytest.raises(BlobNotFound):
            await wrapped(store, blob_bytes=10).read("r")


async def test_old_codecs_are_read_and_a_missing_one_is_named() -> None:
    async with open_transport("memory://") as store:
        await store.create(new(b"plain"))
        await wrapped(store, [Base64()]).post("r", [Entry("k", b"old")])
        both = wrapped(store, [Zip(), Base64()])
        await both.post("r", [Entry("k", b"new")])
        assert [stored.body for stored in await both.read("r")] == [b"plain", b"old", b"new"]
        with pytest.raises(CodecMissing, match=r"was written with codec 'base64'.* give that codec too"):
            await wrapped(store, [Zip()]).read("r")


async def test_cached_values_are_wrapped_too() -> None:
    async with open_transport("memory://") as store:
        over = wrapped(store, [Zip()])
        await over.cache_put("k", b"value", ttl_s=60)
        assert await over.cache_get("k") == b"value"
        assert (await store.cache_get("k") or b"").startswith(b"\x01zip\0")
        assert await over.cache_get("none") is None


async def test_a_runtime_with_a_codec_keeps_texts_out_of_its_file(tmp_path: Path) -> None:
    @component
    async def confide(word: str) -> str:
        return f"the word is {word}"

    @workflow
    async def secret(word: str) -> str:
        return await confide(word)

    runtime = Runtime(secret, store=f"sqlite:///{tmp_path}/codec.db", codecs=[Zip()])
    async with runtime, runtime.worker():
        run = await runtime.start(secret, "xyzzy")
        assert await run.result() == "the word is xyzzy"
    files = list(tmp_path.iterdir())  # noqa: ASYNC240 - a test
    assert files
    assert not any(b"xyzzy" in file.read_bytes() for file in files)


async def test_a_claimed_log_with_wrapped_bodies_is_left_to_be_read() -> None:
    async with open_transport("memory://") as store:
        over = wrapped(store, [Zip()])
        await over.create(new(b"body"))
        (hidden,) = await over.claim("worker", {"w": Terms()}, limit=1, lease_s=10)
        assert list(hidden.records) == []
        await store.append(hidden.lease, [], HandOver())
        (plain,) = await store.claim("worker", {"w": Terms()}, limit=1, lease_s=10)
        assert plain.records[0].body.startswith(b"\x01zip\0")
