r"""A transport whose bodies are wrapped on their way to the store: large ones kept as blobs, all of them by a codec.

Why: what a store may know of a run, and how much of it one record takes, are decisions of its own; neither the runtime
above nor the store below should have to know of them. Kinds, seqs, times and rows stay plain.

Law kept here: 9 (what cannot be unwrapped is an error that names the fix, never a wrong value).

A body as the store has it: JSON as it is (it begins with none of the marks), or a mark and what it is about:
`\x01 name \x00 data` encoded by the codec of that name, `\x02 digest` a blob that holds either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from msgspec.structs import replace

from .contract import Transport, digest
from .errors import TransportError
from .values import Append, Claim, Entry, Lease, NewRun, Run, Stored, Transition

ENCODED = b"\x01"
BLOB = b"\x02"
BLOB_BYTES = 64 * 1024
"""What a body may take in a record, where a store wants large ones apart."""


class Codec(Protocol):
    """How bodies are wrapped: compressed, encrypted. `name` says by what, in the store; a new key is a new name."""

    name: str

    def encode(self, data: bytes) -> bytes:
        """Wrap."""
        ...

    def decode(self, data: bytes) -> bytes:
        """Unwrap what `encode` made."""
        ...


class CodecMissing(TransportError):
    """A body was wrapped by a codec that is not given here."""

    def __init__(self, run_id: str, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"a record of run {run_id} was written with codec {name!r}, and this store was opened with "
            f"{', '.join(known) or 'none'}: give that codec too"
        )


class WrappedTransport:
    """The contract over another transport, with its bodies wrapped.

    Args:
        inner: the store.
        codecs: the first one wraps what is written, the others are known for reading; none: bodies stay as they are.
        blob_bytes: larger bodies are kept as blobs; None: none are.
    """

    def __init__(self, inner: Transport, codecs: Sequence[Codec] = (), *, blob_bytes: int | None = None) -> None:
        self._inner = inner
        self._codecs = {codec.name: codec for codec in codecs}
        self._write = codecs[0] if codecs else None
        self._blob_bytes = blob_bytes

    def __getattr__(self, name: str) -> Any:
        """Everything that carries no bodies is the store's own."""
        return getattr(self._inner, name)

    async def create(self, new: NewRun) -> tuple[Run, bool]:
        """Wrap and create."""
        return await self._inner.create(replace(new, entries=tuple(await self._wrap(new.run_id, new.entries))))

    async def append(
        self, lease: Lease, entries: Sequence[Entry], to: Transition | None = None, *, seen: int | None = None
    ) -> Run:
        """Wrap and append."""
        return await self._inner.append(lease, await self._wrap(lease.run_id, entries), to, seen=seen)

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        """Wrap and append."""
        return await self._inner.append_all(
            [replace(append, entries=await self._wrap(append.lease.run_id, append.entries)) for append in appends]
        )

    async def post(self, run_id: str, entries: Sequence[Entry]) -> Run:
        """Wrap and post."""
        return await self._inner.post(run_id, await self._wrap(run_id, entries))

    async def read(self, run_id: str, after: int = 0, limit: int = 1000, *, control: bool = False) -> list[Stored]:
        """Read and unwrap."""
        page = await self._inner.read(run_id, after, limit, control=control)
        if not _is_wrapped(page):
            return page
        return [replace(stored, body=await self._unwrap(run_id, stored.body)) for stored in page]

    async def claim(self, *args: Any, **kwargs: Any) -> list[Claim]:
        """Claim; logs with something to unwrap are left to be read, so that what is amiss with one concerns its run."""
        return [
            replace(claim, records=()) if _is_wrapped(claim.records) else claim
            for claim in await self._inner.claim(*args, **kwargs)
        ]

    async def end(self, run_id: str) -> tuple[Run, Stored | None]:
        """Look and unwrap."""
        run, last = await self._inner.end(run_id)
        return run, last and replace(last, body=await self._unwrap(run_id, last.body))

    async def cache_get(self, key: str) -> bytes | None:
        """Read and decode."""
        value = await self._inner.cache_get(key)
        return None if value is None else self._decode("of the cache", value)

    async def cache_put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Encode and keep."""
        await self._inner.cache_put(key, self._encode(value), ttl_s=ttl_s)

    async def _wrap(self, run_id: str, entries: Sequence[Entry]) -> Sequence[Entry]:
        limit = self._blob_bytes
        if self._write is None and (limit is None or all(len(entry.body) <= limit for entry in entries)):
            return entries
        wrapped: list[Entry] = []
        for entry in entries:
            body = self._encode(entry.body)
            if limit is not None and len(body) > limit:
                name = digest(body)
                await self._inner.blob_put(run_id, name, body)
                body = BLOB + name.encode()
            wrapped.append(Entry(entry.kind, body))
        return wrapped

    async def _unwrap(self, run_id: str, body: bytes) -> bytes:
        if body.startswith(BLOB):
            body = await self._inner.blob_get(run_id, body[1:].decode())
        return self._decode(run_id, body)

    def _encode(self, body: bytes) -> bytes:
        if self._write is None:
            return body
        return b"%b%b\0%b" % (ENCODED, self._write.name.encode(), self._write.encode(body))

    def _decode(self, run_id: str, body: bytes) -> bytes:
        if not body.startswith(ENCODED):
            return body
        name, _, data = body[1:].partition(b"\0")
        codec = self._codecs.get(name.decode())
        if codec is None:
            raise CodecMissing(run_id, name.decode(), sorted(self._codecs))
        return codec.decode(data)


def _is_wrapped(page: Sequence[Stored]) -> bool:
    return any(stored.body[:1] in (ENCODED, BLOB) for stored in page)


def wrapped(inner: Transport, codecs: Sequence[Codec] = (), *, blob_bytes: int | None = None) -> Transport:
    """Return a transport with wrapped bodies, or the same one when there is nothing to wrap."""
    if not codecs and blob_bytes is None:
        return inner
    return cast("Transport", WrappedTransport(inner, codecs, blob_bytes=blob_bytes))
