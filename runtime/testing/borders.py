"""The borders of virtual time: an event loop that nothing outside its thread can reach, and that says who tried.

Why: a simulation is as reproducible as its least reproducible part. One real socket or thread in it, and a seed no
longer names a run. So what is real is refused where it is asked for, with the file and line that asked.

Laws kept here:
- Sockets, name look-ups, processes, signals and threads raise `OutsideWorld` in a thread whose running loop is sealed.
  Those that asyncio opens are refused by the loop; those that code opens by itself are seen by an audit hook and by
  `Thread.start`. Both are put in with the first sealed loop, stay, and do nothing in any other thread.
- Work for a thread pool (`asyncio.to_thread`, `anyio.to_thread.run_sync`, `run_in_executor`) runs at once, inline.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import selectors
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Never, TypeVar

import anyio
from anyio._backends._asyncio import AsyncIOBackend
from typing_extensions import TypeVarTuple, Unpack

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

AUDITED = frozenset(
    {
        "_thread.start_new_thread",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "subprocess.Popen",
    }
)
"""What the interpreter reports and a sealed loop refuses."""


class OutsideWorld(RuntimeError):
    """Code on virtual time touched something real: a socket, a process, a signal or a thread."""


def refuse(what: str, *args: Any) -> Never:
    """Raise an error that names who asked for something real.

    Raises:
        OutsideWorld: always.
    """
    raise OutsideWorld(
        f"{_culprit()} asked for {what}({', '.join(map(repr, args))}) on a virtual loop, which has no sockets, "
        "threads, processes, signals or name look-ups: use an in-process fake, or test this on a real loop"
    )


def _refused(what: str) -> Any:
    def method(self: object, *args: Any, **_: Any) -> Never:
        refuse(what, *args)

    return method


def _refused_later(what: str) -> Any:
    async def method(self: object, *args: Any, **_: Any) -> Never:
        refuse(what, *args)

    return method


class SealedLoop(asyncio.SelectorEventLoop):
    """An event loop without an outside. Its turns begin with `advance`, which a subclass defines."""

    def __init__(self) -> None:
        _guard()
        self._intruder: OutsideWorld | None = None
        self._home = threading.get_ident()
        super().__init__(_NullSelector(self))

    def advance(self, timeout: float | None) -> None:
        """Begin a turn of the loop, `timeout` seconds after the last one; None: nothing is due, ever."""
        raise NotImplementedError

    def begin_turn(self, timeout: float | None) -> None:
        """Begin a turn, unless another thread has called in.

        Raises:
            OutsideWorld: another thread has.
        """
        if self._intruder is not None:
            intruder, self._intruder = self._intruder, None
            raise intruder
        self.advance(timeout)

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

    add_signal_handler: Any = _refused("add_signal_handler")
    connect_accepted_socket: Any = _refused_later("connect_accepted_socket")
    connect_read_pipe: Any = _refused_later("connect_read_pipe")
    connect_write_pipe: Any = _refused_later("connect_write_pipe")
    create_connection: Any = _refused_later("create_connection")
    create_datagram_endpoint: Any = _refused_later("create_datagram_endpoint")
    create_server: Any = _refused_later("create_server")
    create_unix_connection: Any = _refused_later("create_unix_connection")
    create_unix_server: Any = _refused_later("create_unix_server")
    getaddrinfo: Any = _refused_later("getaddrinfo")
    getnameinfo: Any = _refused_later("getnameinfo")
    sock_accept: Any = _refused_later("sock_accept")
    sock_connect: Any = _refused_later("sock_connect")
    subprocess_exec: Any = _refused_later("subprocess_exec")
    subprocess_shell: Any = _refused_later("subprocess_shell")


class _NullSelector(selectors.BaseSelector):
    """Accepts the loop's own wake-up pipe and nothing else; turns every wait into a turn of the loop."""

    def __init__(self, loop: SealedLoop) -> None:
        self._loop = loop
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._keys:
            refuse("add_reader or add_writer", fileobj)
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[fileobj] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.begin_turn(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


def _sealed() -> bool:
    return isinstance(asyncio._get_running_loop(), SealedLoop)


@functools.cache
def _guard() -> None:
    """Watch the ways around the loop; once a process."""
    start = threading.Thread.start
    in_thread = AsyncIOBackend.run_sync_in_worker_thread

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in AUDITED and _sealed():
            refuse(event, *args[:2])

    @functools.wraps(start)
    def guarded_start(thread: threading.Thread) -> None:
        if _sealed():
            refuse("Thread.start", thread)
        start(thread)

    async def inline(
        func: Callable[..., R], args: tuple[Any, ...], abandon_on_cancel: bool = False, limiter: Any = None
    ) -> R:
        if not _sealed():
            return await in_thread(func, args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        await AsyncIOBackend.checkpoint()
        async with limiter or AsyncIOBackend.current_default_thread_limiter():
            return contextvars.copy_context().run(func, *args)

    sys.addaudithook(audit)
    threading.Thread.start = guarded_start  # type: ignore[method-assign,assignment]
    AsyncIOBackend.run_sync_in_worker_thread = staticmethod(inline)  # type: ignore[method-assign]


_STDLIB = os.path.dirname(os.__file__)
_ANYIO = os.path.dirname(anyio.__file__)


def _culprit() -> str:
    """Where the code is that asks: the innermost frame outside the standard library, anyio and this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _passes_on(frame.f_code.co_filename):
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    task = asyncio.current_task()
    return place if task is None else f"{place}, in task {task.get_name()!r},"


def _passes_on(file: str) -> bool:
    if "site-packages" in file:
        return file.startswith(_ANYIO)
    return file.startswith((_STDLIB, "<")) or file == __file__
