"""The virtual clock: time jumps, the order follows the seed, and nothing real gets in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
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


async def test_work_for_a_thread_of_anyio_runs_inline_too() -> None:
    assert await anyio.to_thread.run_sync(threading.get_ident) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await anyio.to_thread.run_sync(divmod, 1, 0)


def test_work_for_a_thread_runs_in_a_thread_on_a_real_loop() -> None:
    async def main() -> int:
        return await anyio.to_thread.run_sync(threading.get_ident)

    assert run(main) == threading.get_ident()
    assert anyio.run(main) != threading.get_ident()


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


@pytest.mark.parametrize("seed", [5, 6])
def test_the_order_in_which_a_library_woke_its_tasks_makes_no_difference(seed: int) -> None:
    """A set of tasks is iterated by address: the same program would otherwise run differently from day to day."""

    async def main(wake: Callable[[list[asyncio.Event]], list[asyncio.Event]]) -> list[int]:
        seen: list[int] = []
        gates = [asyncio.Event() for _ in range(8)]

        async def body(number: int) -> None:
            await gates[number].wait()
            seen.append(number)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(body, number)
            await asyncio.sleep(1)
            for gate in wake(gates):
                gate.set()
        return seen

    one = run(partial(main, lambda gates: gates), seed)
    other = run(partial(main, lambda gates: gates[::-1]), seed)
    assert one == other != list(range(8))


def test_seed_zero_runs_a_new_task_before_its_maker_goes_on_as_asyncio_does() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def body() -> None:
            seen.append("new")

        async with asyncio.TaskGroup() as group:
            group.create_task(body())
            await asyncio.sleep(0)
            seen.append("maker")
        return seen

    assert run(main) == ["new", "maker"]


def test_tasks_canceled_together_step_in_the_order_in_which_they_began() -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def body(number: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                seen.append(number)

        tasks = []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(body(number)) for number in range(8)]
            await asyncio.sleep(1)
            for task in reversed(tasks):
                task.cancel()
        return seen

    assert run(main) == list(range(8))


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


async def test_what_code_opens_around_the_loop_is_refused_with_the_line_that_did_it() -> None:
    here = r"test_clock\.py:\d+, in task '.*', asked for "
    with pytest.raises(OutsideWorld, match=here + "socket.connect"), socket.socket() as real:
        real.connect(("127.0.0.1", 9))
    with pytest.raises(OutsideWorld, match=here + "socket.getaddrinfo"):
        socket.getaddrinfo("localhost", 80)
    with pytest.raises(OutsideWorld, match=here + "subprocess.Popen"):
        subprocess.run([sys.executable, "-V"], check=True)  # noqa: ASYNC221 - refused before it blocks
    with pytest.raises(OutsideWorld, match=here + r"Thread\.start.*stray"):
        threading.Thread(target=print, name="stray").start()
    with pytest.raises(OutsideWorld, match=here + "subprocess_exec"):
        await anyio.run_process([sys.executable, "-V"])
    with pytest.raises(OutsideWorld, match=here + "add_signal_handler"), anyio.open_signal_receiver(signal.SIGUSR1):
        pytest.fail("the block must not run")


def test_outside_of_a_virtual_loop_nothing_is_refused() -> None:
    VirtualLoop().close()
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_a_call_from_another_thread_is_refused_by_name() -> None:
    errors: list[OutsideWorld] = []

    def intrude(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except OutsideWorld as error:
            errors.append(error)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        thread = threading.Thread(target=intrude, args=[runner.get_loop()], name="intruder")
        thread.start()
        thread.join()
        with pytest.raises(OutsideWorld, match="intruder"):
            runner.run(asyncio.sleep(1))
    assert "intruder" in str(errors[0])


def test_a_runner_takes_the_loop_as_a_factory() -> None:
    with asyncio.Runner(loop_factory=partial(VirtualLoop, 5)) as runner:
        assert runner.run(asyncio.sleep(10, "done")) == "done"
        assert runner.get_loop().time() == 10


# Seeds

PROGRAM = """
import asyncio, sys
import anyio
from greenroom.actors import Actor, ChildSpec, SupervisorSpec, supervise
from greenroom.runtime.testing.clock import virtual_backend

class Player(Actor):
    async def started(self):
        pass
    async def receive(self, message):
        await asyncio.sleep(message % 3)
        if message % 7 == 0:
            raise ValueError(message)
        return message

children = tuple(ChildSpec(name=str(number), start=Player) for number in range(8))
seen = []

async def ask(ref, message):
    try:
        seen.append(await ref.ask(message, timeout=20))
    except Exception as error:
        seen.append(type(error).__name__)

async def main():
    async with supervise(SupervisorSpec(name="root", intensity=1000, children=children), events=lambda _: None) as tree:
        async with anyio.create_task_group() as group:
            for message in range(40):
                group.start_soon(ask, tree.ref(str(message % 8)), message)
        with anyio.move_on_after(1):  # cancels a set of tasks
            async with anyio.create_task_group() as group:
                for message in range(40):
                    group.start_soon(ask, tree.ref(str(message % 8)), 2)
    print(asyncio.get_running_loop().trace_hash(), seen)

anyio.run(main, backend="asyncio", backend_options=virtual_backend()[1])
"""


def trace(seed: int, hash_seed: int) -> str:
    """What the program prints in a process of its own."""
    environment = {**os.environ, "GREENROOM_SEED": str(seed), "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_a_seed_names_one_run_in_every_process_and_under_every_hash_seed() -> None:
    for seed in (0, 1):
        assert len({trace(seed, hash_seed) for hash_seed in (0, 1, 4242)}) == 1
    assert trace(0, 0) != trace(1, 0) != trace(2, 0)


def test_an_error_out_of_a_seeded_loop_says_how_to_run_it_again() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        run(main, seed=77)
    assert caught.value.__notes__ == ["virtual loop of seed 77: run it again with GREENROOM_SEED=77"]


def test_the_environment_gives_a_seed_to_loops_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_SEED", "12")
    for seed, expected in ((None, 12), (3, 3)):
        loop = VirtualLoop(seed)
        loop.close()
        assert loop.seed == expected
    monkeypatch.setenv("GREENROOM_SEED", "twelve")
    with pytest.raises(ValueError, match="GREENROOM_SEED is 'twelve'"):
        VirtualLoop()
