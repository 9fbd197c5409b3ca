"""Virtual time: an asyncio event loop that never waits, and runs the same way every time.

Why: a test of a one-hour outage must not take an hour, and a failure that depends on the order of events must be
reproducible from a number. Whenever nothing is ready to run, this loop moves its clock to the next timer.
`loop.time()`, `asyncio.sleep()`, `asyncio.timeout()` and all of anyio's timeouts follow that clock.

Use it for a test module by overriding the backend fixture of anyio's pytest plugin::

    from greenroom.runtime.testing.clock import virtual_backend

    @pytest.fixture
    def anyio_backend() -> tuple[str, dict[str, object]]:
        return virtual_backend()

    async def test_an_hour_is_over_at_once() -> None:
        await asyncio.sleep(3600)
        assert asyncio.get_running_loop().time() == 3600

or outside pytest with `anyio.run(main, backend="asyncio", backend_options=virtual_backend(seed)[1])`, or with
`asyncio.Runner(loop_factory=VirtualLoop)`.

Order: tasks that are ready in the same turn of the loop run first come first served (seed 0, asyncio's own order) or in
an order drawn from the seed. Plain callbacks keep the first-in-first-out order that asyncio promises.

Laws (law 12, every failure is reproducible from a printed seed):
1. Nothing outside the loop can wake it. Sockets, pipes, subprocesses, signals, name look-ups and calls from other
   threads raise `OutsideWorld`, which names the culprit.
2. A wait that nothing can end raises `Deadlock`, which names the tasks that wait.
3. `run_in_executor` calls the function at once, in the loop's own thread.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Any, Never, TypeVar

from typing_extensions import TypeVarTuple, Unpack

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is pending: the tasks named in the message would wait for ever."""


class OutsideWorld(RuntimeError):
    """Code on virtual time touched something real: a socket, a process, a signal or another thread."""


def virtual_backend(seed: int = 0) -> tuple[str, dict[str, Any]]:
    """Backend name and options for anyio: what the `anyio_backend` fixture of a test module returns.

    Args:
        seed: the order of tasks that are ready together; 0 is first come first served.
    """
    return "asyncio", {"loop_factory": partial(VirtualLoop, seed)}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps from timer to timer, starting at 0.0 seconds.

    Args:
        seed: the order of tasks that are ready in the same turn; 0 is first come first served.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._now = 0.0
        self._order = random.Random(seed) if seed else None  # noqa: S311 - an order of tasks is no secret
        self._intruder: OutsideWorld | None = None
        self._home = threading.get_ident()
        super().__init__(_NullSelector(self))
        self._clock_resolution = 1e-6  # of asyncio: at its 1 ns a timer a year ahead is never quite due

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback from the loop's own thread; from any other thread it ends the run."""
        if threading.get_ident() != self._home:
            self._intruder = OutsideWorld(
                f"thread {threading.current_thread().name!r} called {callback!r} into a virtual loop: "
                "run the work in the loop's thread (loop.run_in_executor does) or test it on a real loop"
            )
            raise self._intruder
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], R], *args: *Ts) -> asyncio.Future[R]:
        """Call the function now; the future that comes back is already done."""
        future: asyncio.Future[R] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def advance(self, timeout: float | None) -> None:
        """Start the next turn of the loop `timeout` virtual seconds from now; None: nothing would ever end the wait.

        Raises:
            Deadlock: the wait would last for ever.
            OutsideWorld: another thread called into the loop.
        """
        if self._intruder is not None:
            intruder, self._intruder = self._intruder, None
            raise intruder
        if timeout is None:
            raise Deadlock(self._deadlock())
        self._now += timeout
        if self._order is not None:
            self._permute(self._order)

    def _permute(self, order: random.Random) -> None:
        """Shuffle the steps of tasks that are ready, among the places that they hold in the line."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]  # of asyncio.BaseEventLoop
        places = [place for place, handle in enumerate(ready) if _is_step(handle)]
        steps = [ready[place] for place in places]
        order.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            ready[place] = step

    def _deadlock(self) -> str:
        lines = [
            f"nothing is ready and no timer is pending at virtual time {self._now:g} s; these tasks wait for ever:"
        ]
        for task in sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name):
            where = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack(limit=1)]
            lines.append(f"  {task.get_name()} at {where[0] if where else 'its end'}: {task.get_coro()!r}")
        lines.append(f"set what they wait for, or give the wait a timeout (seed {self.seed})")
        return "\n".join(lines)

    def _refuse(self, *args: Any, **kwargs: Any) -> Never:
        raise OutsideWorld(
            f"a virtual loop has no sockets, processes, signals or name look-ups, but was asked for one with {args!r}: "
            "use an in-process fake, or test this on a real loop"
        )

    async def _refuse_later(self, *args: Any, **kwargs: Any) -> Never:
        self._refuse(*args, **kwargs)

    add_signal_handler: Any = _refuse
    create_connection: Any = _refuse_later
    create_datagram_endpoint: Any = _refuse_later
    create_server: Any = _refuse_later
    create_unix_connection: Any = _refuse_later
    create_unix_server: Any = _refuse_later
    connect_read_pipe: Any = _refuse_later
    connect_write_pipe: Any = _refuse_later
    getaddrinfo: Any = _refuse_later
    getnameinfo: Any = _refuse_later
    sock_accept: Any = _refuse_later
    sock_connect: Any = _refuse_later
    subprocess_exec: Any = _refuse_later
    subprocess_shell: Any = _refuse_later


def _is_step(handle: asyncio.Handle) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]


class _NullSelector(selectors.BaseSelector):
    """Accepts the loop's own wake-up pipe and nothing else; turns every wait into a jump of the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._keys:
            raise OutsideWorld(
                f"a virtual loop cannot wait for file {fileobj!r}, wanted by {data!r}: "
                "use an in-process fake, or test this on a real loop"
            )
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[fileobj] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.advance(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys
