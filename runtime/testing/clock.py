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

Order: task steps that are ready in the same turn of the loop run first come first served (seed 0, asyncio's own order)
or in an order drawn from the seed, starting from the order in which their tasks began: libraries keep tasks in sets,
whose order changes from process to process. For the same reason tasks that are canceled together, which is what such
sets are for, step in the order in which they began under seed 0 too. Plain callbacks keep the first-in-first-out order
that asyncio promises. `trace_hash()` tells whether two runs went the same way, over processes and hash seeds.

The environment variable GREENROOM_SEED sets the seed wherever a test does not; an error that comes out of a loop with a
seed carries a note of it.

Laws (law 12, every failure is reproducible from a printed seed):
1. Nothing outside the loop can wake it. Sockets, pipes, threads, subprocesses, signals, name look-ups and calls from
   other threads raise `OutsideWorld`, which names the culprit.
2. A wait that nothing can end raises `Deadlock`, which names the tasks that wait.
3. `asyncio.to_thread`, `anyio.to_thread.run_sync` and `run_in_executor` call the function at once, in the loop's own
   thread.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import random
import weakref
from collections import deque
from typing import Any

from .borders import OutsideWorld, SealedLoop

__all__ = ["Deadlock", "OutsideWorld", "VirtualLoop", "environment_seed", "virtual_backend"]

SEED = "GREENROOM_SEED"
"""The environment variable that sets the seed of every loop that is given none."""


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is pending: the tasks named in the message would wait for ever."""


def virtual_backend(seed: int | None = None) -> tuple[str, dict[str, Any]]:
    """Backend name and options for anyio: what the `anyio_backend` fixture of a test module returns.

    Args:
        seed: the order of tasks that are ready together; None is what GREENROOM_SEED says, or else 0.
    """
    return "asyncio", {"loop_factory": functools.partial(VirtualLoop, seed)}


def environment_seed() -> int:
    """Return what GREENROOM_SEED says, or 0.

    Raises:
        ValueError: it is not a whole number.
    """
    text = os.environ.get(SEED, "").strip() or "0"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{SEED} is {text!r}: give a whole number, like {SEED}=7") from None


class VirtualLoop(SealedLoop):
    """An event loop whose clock jumps from timer to timer, starting at 0.0 seconds.

    Args:
        seed: the order of tasks that are ready in the same turn; 0 is first come first served; None is what
            GREENROOM_SEED says, or else 0.

    Attributes:
        seed: the seed.
    """

    _closed = True  # of asyncio: a loop whose seed was refused has nothing to close

    def __init__(self, seed: int | None = None) -> None:
        self.seed = environment_seed() if seed is None else seed
        self._now = 0.0
        self._order = random.Random(self.seed) if self.seed else None  # noqa: S311 - an order of tasks is no secret
        self._births: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
        self._born = 0
        self._trace = hashlib.blake2b(digest_size=8)
        super().__init__()
        self._clock_resolution = 1e-6  # of asyncio: at its 1 ns a timer a year ahead is never quite due

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def trace_hash(self) -> str:
        """Return a digest of every task step so far: when it ran, which task it was of, and in which order."""
        return self._trace.hexdigest()

    def run_until_complete(self, future: Any) -> Any:
        """Run until the future is done; an error takes a note of the seed with it."""
        try:
            return super().run_until_complete(future)
        except Exception as error:
            if self.seed:
                note = f"virtual loop of seed {self.seed}: run it again with {SEED}={self.seed}"
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
            raise

    def advance(self, timeout: float | None) -> None:
        """Start the next turn of the loop `timeout` virtual seconds from now; None: nothing would ever end the wait.

        Raises:
            Deadlock: the wait would last for ever.
        """
        if timeout is None:
            raise Deadlock(self._deadlock())
        self._now += timeout
        self._line_up()

    def _line_up(self) -> None:
        """Put the task steps that are ready in their order, among the places that they hold in the line."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]  # of asyncio.BaseEventLoop
        places: list[int] = []
        steps: list[tuple[int, asyncio.Handle, asyncio.Task[Any]]] = []
        for place, handle in enumerate(ready):
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(task, asyncio.Task):
                places.append(place)
                steps.append((self._birth(task), handle, task))
        if not steps:
            return
        if self._order is not None:
            steps.sort(key=_birth)
            self._order.shuffle(steps)
        else:
            canceled = [place for place, (_, _, task) in enumerate(steps) if task.cancelling()]
            in_order = sorted((steps[place] for place in canceled), key=_birth)
            for place, step in zip(canceled, in_order, strict=True):
                steps[place] = step
        names = (f"{birth} {getattr(task.get_coro(), '__qualname__', '')}" for birth, _, task in steps)
        self._trace.update(f"{self._now!r} {' '.join(names)}\n".encode())
        for place, (_, handle, _) in zip(places, steps, strict=True):
            ready[place] = handle

    def _birth(self, task: asyncio.Task[Any]) -> int:
        birth = self._births.get(task)
        if birth is None:
            birth = self._births[task] = self._born
            self._born += 1
        return birth

    def _deadlock(self) -> str:
        lines = [
            f"nothing is ready and no timer is pending at virtual time {self._now:g} s; these tasks wait for ever:"
        ]
        for task in sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name):
            where = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack(limit=1)]
            lines.append(f"  {task.get_name()} at {where[0] if where else 'its end'}: {task.get_coro()!r}")
        lines.append(f"set what they wait for, or give the wait a timeout (seed {self.seed})")
        return "\n".join(lines)


def _birth(step: tuple[int, asyncio.Handle, asyncio.Task[Any]]) -> int:
    return step[0]
