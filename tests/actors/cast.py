"""The actors that the kernel's tests put on stage, and a listener that remembers."""

from __future__ import annotations

import asyncio
from typing import Any

from greenroom.actors import (
    Actor,
    ChildExited,
    ChildRestarted,
    ChildSpec,
    ChildStarted,
    DeadLetter,
    ExitReason,
    KernelEvent,
    Request,
)


class Boom(Exception):
    """What actors crash with."""


class Get(Request[int]):
    """Ask an Echo how many messages it has handled."""


class Echo(Actor[Any]):
    """Counts what it handles; crashes on an exception, runs a callable, awaits a coroutine function's result."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def receive(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Get):
            return len(self.seen)
        self.seen.append(message)
        return message(self) if callable(message) else message


class Stage:
    """Writes down what happens, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events: list[KernelEvent] = []
        self.gates: dict[str, asyncio.Event] = {}

    def hear(self, event: KernelEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[KernelEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def exits(self) -> list[tuple[str, str]]:
        return [(event.path, event.reason.exit.name) for event in self.of(ChildExited)]

    @property
    def restarts(self) -> list[str]:
        return [event.path for event in self.of(ChildRestarted)]

    @property
    def starts(self) -> list[str]:
        return [event.path for event in self.of(ChildStarted)]

    @property
    def letters(self) -> list[Any]:
        return [event.message for event in self.of(DeadLetter)]

    def take(self) -> list[str]:
        """What happened since the last look."""
        log, self.log = self.log, []
        return log

    def player(self, name: str, *, fail: list[Exception] | None = None, linger: float = 0.0) -> type[Echo]:
        """Make an actor class that logs its starts and stops.

        Args:
            name: as it appears in the log.
            fail: taken one for each start, which then fails with it.
            linger: seconds that it takes to stop.
        """
        stage = self

        class Player(Echo):
            async def started(self) -> None:
                if fail:
                    stage.log.append(f"{name} fails")
                    raise fail.pop(0)
                stage.log.append(f"+{name}")

            async def stopped(self, reason: ExitReason) -> None:
                await asyncio.sleep(linger)
                stage.log.append(f"-{name} {reason.exit.name.lower()}")

        return Player

    def children(self, *names: str, **options: Any) -> tuple[ChildSpec[Any], ...]:
        return tuple(ChildSpec(name=name, start=self.player(name), **options) for name in names)


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    await asyncio.sleep(0.000_01)
