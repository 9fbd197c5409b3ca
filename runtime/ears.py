"""Ears: how a run hears of control records while none of its steps asks.

Why: every step asks the store before it begins, so a short run hears of a cancel without listening, and most runs are
short. A run is given an ear, the last child of its tree, when it waits for something or has grown older than `EAR_S`.

Laws kept here: 6 (a cancel reaches a step that takes long), 7 (an ear ends with its run).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from ..actors import Actor, AlreadyStarted, ChildSpec, Mailbox, Restart, Supervisor, SupervisorStopped, UnknownChild

EAR_S = 0.5
"""How old a run is at least, seconds, when it begins to listen though it waits for nothing; at most twice that."""


class Listener(Protocol):
    """A run, as far as it listens."""

    async def listen(self, mailbox: Mailbox[Any]) -> None:
        """Hear of control records until the actor is stopped."""
        ...


class Ears(Actor["str | None"]):
    """Opens the ears of a worker's runs: of the one whose id it is sent, and of those that grow old.

    Args:
        live: the runs that are executed, by id.
        trees: finds the supervisor of their trees.
    """

    def __init__(self, live: Mapping[str, Listener], trees: Callable[[], Supervisor]) -> None:
        self._live = live
        self._trees = trees
        self._young: list[str] = []
        self._older: list[str] = []
        self._watching = False

    async def started(self) -> None:
        """Begin with the runs that there are."""
        self._young, self._older, self._watching = [], [], False
        for run_id in self._live:  # after a crash: what was known is lost
            self.mind(run_id)

    def mind(self, run_id: str) -> None:
        """A run has begun, and knows its log: it gets an ear when it is old enough."""
        self._young.append(run_id)
        self._watch()

    def open(self, run_id: str) -> None:
        """A run wants its ear now."""
        self.context.ref.tell(run_id)

    async def receive(self, message: str | None) -> None:
        """Open an ear; None: those of the runs that are old enough."""
        if message is not None:
            await self._open(message)
            return
        grown, self._older, self._young = self._older, self._young, []
        self._watching = False
        if self._older:
            self._watch()
        for run_id in grown:
            await self._open(run_id)

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self.context.timer(EAR_S, None)

    async def _open(self, run_id: str) -> None:
        run = self._live.get(run_id)
        if run is None:
            return
        ear = ChildSpec(name="control", start=run.listen, restart=Restart.TRANSIENT, shutdown=0)
        with suppress(UnknownChild, SupervisorStopped, AlreadyStarted):  # it has ended, or listens already
            await self._trees().supervisor(run_id).start_child(ear)
