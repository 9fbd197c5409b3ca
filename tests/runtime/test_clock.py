"""The virtual clock: time jumps, the order follows the seed, and nothing real gets in."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from greenroom.runtime.testing.clock import Deadlock, OutsideWorld, VirtualLoop, virtual_backend


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_backend()


def run(main: Callable[[], Awaitable[Any]], seed: int = 0) -> Any:
    """Run a body on a virtual loop of its own, outside the plugin."""
    return anyio.run(main, backend="asyncio", backend_options=virtual_backend(seed)[1])


async def test_a_year_of_sleep_takes_no_real_time() -> None:
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(365 * 86400)
    assert loop.time() == 365 * 86400
    assert time.monotonic() - started < 5


async def test_timeouts_of_asyncio_and_anyio_follow_the_virtual_clock() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.Event().wait()
    with anyio.move_on_after(40):
        await anyio.sleep_forever()
    assert asyncio.get_running_loop().time() == 100


async def test_timers_fire_in_the_order_of_their_time() -> None:
    seen: list[float] = []
    loop = asyncio.get_running_loop()

    async def sleeper(delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append(loop.time())

    async with anyio.create_task_group() as group:
        for delay in (3, 1, 2.5):
            group.start_soon(sleeper, delay)
    assert seen == [1, 2.5, 3]


async def test_an_executor_call_runs_inline_and_carries_its_error() -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, threading.get_ident) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(divmod, 1, 0)


def test_a_wait_that_nothing_can_end_names_the_tasks_that_wait() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.Event().wait, name="the one who waits")

    with pytest.raises(Deadlock, match=r"the one who waits at \S+:\d+"):
        run(main)


def order_of(seed: int) -> list[tuple[int, int]]:
    """Which of eight equal tasks ran when, over three turns of the loop."""
    seen: list[tuple[int, int]] = []

    async def body(number: int) -> None:
        for turn in range(3):
            seen.append((turn, number))
            await asyncio.sleep(0)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(body, number)

    run(main, seed)
    return seen


def test_seed_zero_keeps_the_order_of_creation() -> None:
    assert order_of(0) == [(turn, number) for turn in range(3) for number in range(8)]


def test_a_seed_gives_one_order_and_another_seed_another() -> None:
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(5)}) == 5


def test_a_shuffled_turn_runs_every_ready_task_once_before_the_next_turn() -> None:
    for seed in range(1, 20):
        assert [turn for turn, _ in order_of(seed)] == [0] * 8 + [1] * 8 + [2] * 8


def test_plain_callbacks_keep_first_in_first_out_order_under_any_seed() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(seen.append, number)
        await asyncio.sleep(0.1)
        return seen

    assert run(main, seed=7) == list(range(20))


def test_cancellation_reaches_a_task_on_a_shuffled_loop() -> None:
    async def main() -> bool:
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(5, scope.cancel)
            await anyio.sleep_forever()
        return scope.cancelled_caught

    assert run(main, seed=3) is True


async def test_a_socket_is_refused_by_name() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        with pytest.raises(OutsideWorld, match=str(left.fileno())):
            asyncio.get_running_loop().add_reader(left, print)
        with pytest.raises(OutsideWorld):
            await asyncio.get_running_loop().sock_recv(left, 1)


async def test_connections_servers_processes_and_look_ups_are_refused() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(OutsideWorld, match="example"):
        await asyncio.open_connection("example.invalid", 80)
    with pytest.raises(OutsideWorld):
        await asyncio.start_server(print, "127.0.0.1", 0)
    with pytest.raises(OutsideWorld, match="sleep"):
        await asyncio.create_subprocess_exec("sleep", "1")
    with pytest.raises(OutsideWorld):
        await loop.getaddrinfo("localhost", 80)
    with pytest.raises(OutsideWorld):
        loop.add_signal_handler(10, print)


def test_a_call_from_another_thread_is_refused_by_name() -> None:
    errors: list[OutsideWorld] = []

    def intrude(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except OutsideWorld as error:
            errors.append(error)

    async def main() -> None:
        thread = threading.Thread(target=intrude, args=[asyncio.get_running_loop()], name="intruder")
        thread.start()
        thread.join()
        await asyncio.sleep(1)

    with pytest.raises(OutsideWorld, match="intruder"):
        run(main)
    assert "intruder" in str(errors[0])


def test_a_runner_takes_the_loop_as_a_factory() -> None:
    with asyncio.Runner(loop_factory=partial(VirtualLoop, 5)) as runner:
        assert runner.run(asyncio.sleep(10, "done")) == "done"
        assert runner.get_loop().time() == 10
