"""A pool: interchangeable actors behind one face that is used like a ref.

Why: one actor handles one message at a time. A pool handles as many as it has workers, and its supervisor restarts
those that crash.

Laws kept here:
- A worker that crashes keeps its queue: its next life goes on with it. Only the message in hand is lost (or tried
  again, if the mailbox's spec says so).
- Keyed routing sends equal keys to the same worker, so their messages stay in order. A change of size moves as few
  keys as can be.
- When a pool shrinks, the workers that leave finish the message in hand. What waits for them is routed anew, ahead of
  all that comes later.
- A pool whose supervisor was restarted has its first size again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import anyio

from .actor import Actor
from .errors import MailboxFull, SpecInvalid, UnknownChild
from .mailbox import Mailbox
from .messages import Ask, Request
from .overflow import MailboxSpec
from .ref import Ref
from .spec import ChildSpec, SupervisorSpec

if TYPE_CHECKING:
    from .supervisor import Supervisor

M = TypeVar("M")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class PoolSpec(Generic[M]):
    """A pool of equal workers.

    Attributes:
        name: unique among its siblings, without "/"; the workers are called "0", "1" and so on.
        start: makes one worker, like `ChildSpec.start`.
        size: workers, 1 or more.
        key: messages of equal keys go to the same worker; by default each goes to the one with the least to do.
        mailbox: each worker's; by default what the Actor class says.
        shutdown: seconds that a worker has to stop before it is killed.
        intensity: restarts allowed within the period, of all workers together.
        period: seconds.
    """

    name: str
    start: Callable[[], Actor[M]] | Callable[[Mailbox[M]], Awaitable[None]]
    size: int
    key: Callable[[M], str | bytes | int] | None = None
    mailbox: MailboxSpec | None = None
    shutdown: float | None = 5.0
    intensity: int = 5
    period: float = 10.0

    def __post_init__(self) -> None:
        _check(self.name, self.size)

    def supervisor(self) -> SupervisorSpec:
        """Return the spec of the supervisor that looks after the workers: one to put into a tree."""
        workers = tuple(self.worker(number) for number in range(self.size))
        return SupervisorSpec(name=self.name, intensity=self.intensity, period=self.period, children=workers)

    def worker(self, number: int) -> ChildSpec[M]:
        """Return the spec of one worker."""
        return ChildSpec(name=str(number), start=self.start, mailbox=self.mailbox, shutdown=self.shutdown)


class Pool(Generic[M]):
    """The face of a pool that runs under a supervisor.

    Args:
        above: the supervisor that the pool is a child of.
        spec: the pool's.

    Raises:
        UnknownChild: it has no such child; `start_pool` starts one.
    """

    def __init__(self, above: Supervisor, spec: PoolSpec[M]) -> None:
        self._above = above
        self._spec = spec
        self._turn = 0
        self._resizing = anyio.Lock()
        self._supervisor = above.supervisor(spec.name)
        self._refs = self._workers()

    @property
    def path(self) -> str:
        """Where it is in the tree."""
        return self._supervisor.path

    @property
    def refs(self) -> tuple[Ref[M], ...]:
        """The workers."""
        return tuple(self._current())

    def __repr__(self) -> str:
        return f"<Pool {self.path} of {len(self._refs)}>"

    def pick(self, message: Any) -> Ref[M]:
        """Return the worker that a message goes to."""
        refs = self._current()
        if self._spec.key is not None:
            return refs[_bucket(self._spec.key(message), len(refs))]
        self._turn = turn = (self._turn + 1) % len(refs)
        best = refs[turn]
        least = _load(best)
        if least:
            for ref in (*refs[turn + 1 :], *refs[:turn]):
                load = _load(ref)
                if load < least:
                    best, least = ref, load
                    if not load:
                        break
        return best

    def tell(self, message: M) -> None:
        """Tell one worker; see `Ref.tell`."""
        self.pick(message).tell(message)

    async def send(self, message: M) -> None:
        """Send to one worker, waiting for room; see `Ref.send`."""
        await self.pick(message).send(message)

    @overload
    async def ask(self, message: Request[R], *, timeout: float | None = None) -> R: ...

    @overload
    async def ask(self, message: M, *, timeout: float | None = None) -> Any: ...

    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Ask one worker; see `Ref.ask`."""
        return await self.pick(message).ask(message, timeout=timeout)

    async def resize(self, size: int) -> None:
        """Change the number of workers; return when the new ones have started, or the others have stopped.

        Args:
            size: 1 or more.

        Raises:
            StartFailed: a worker did not start; those before it are part of the pool.
        """
        _check(self._spec.name, size)
        async with self._resizing:
            refs = self._current()
            leaving = refs[size:]
            del refs[size:]
            for ref in leaving:
                self._route_anew(ref.mailbox)
            for number in reversed(range(size, size + len(leaving))):
                await self._supervisor.stop_child(str(number))
            while len(refs) < size:
                refs.append(await self._supervisor.start_actor(self._spec.worker(len(refs))))

    def _route_anew(self, mailbox: Mailbox[M]) -> None:
        items = [(item, None) for item in mailbox.queue]
        mailbox.queue.clear()
        senders, mailbox.senders = mailbox.senders or (), None
        for item, place in (*items, *senders):
            if place is not None and place.done():
                continue
            target = self.pick(item.message if type(item) is Ask else item).mailbox
            try:
                taken = target.put(item)
            except MailboxFull:
                target.drop(item, "the mailbox is full")
                taken = True
            if not taken:
                target.stand_in_line(item, place)
            elif place is not None:
                place.set_result(None)

    def _current(self) -> list[Ref[M]]:
        if self._supervisor.ended:
            try:
                self._supervisor = self._above.supervisor(self._spec.name)
            except UnknownChild:
                return self._refs  # between two lives of its supervisor: they are dead, and say so
            self._refs = self._workers()
        return self._refs

    def _workers(self) -> list[Ref[M]]:
        return [self._supervisor.ref(str(number)) for number in range(self._spec.size)]


async def start_pool(above: Supervisor, spec: PoolSpec[M]) -> Pool[M]:
    """Start a pool as the last child of a supervisor, and return when all workers have started.

    Raises:
        StartFailed: one of them did not.
        AlreadyStarted: a child of this name is running.
    """
    await above.start_supervisor(spec.supervisor())
    return Pool(above, spec)


def _check(name: str, size: int) -> None:
    if size < 1:
        raise SpecInvalid(f"size of pool {name} is {size}: give 1 or more workers")


def _load(ref: Ref[Any]) -> int:
    """Messages that a worker has before it, the one in hand included."""
    mailbox = ref.mailbox
    return len(mailbox.queue) + len(mailbox.senders or ()) + (mailbox.sleeper is None)


def _bucket(key: str | bytes | int, buckets: int) -> int:
    """Return the bucket of a key, the same in every process: jump consistent hash (Lamping and Veach, 2014)."""
    data = key if isinstance(key, bytes) else str(key).encode()
    state = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
    bucket, jump = -1, 0
    while jump < buckets:
        bucket = jump
        state = (state * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        jump = int((bucket + 1) * ((1 << 31) / ((state >> 33) + 1)))
    return bucket
