"""What all actors of one tree share: its listener, its names, its groups, and a count of what went wrong.

Why: a name belongs to a tree and not to the process, so two trees never meet, and a tree's end leaves nothing behind.
"""

from __future__ import annotations

import asyncio

from .deadline import Deadlines
from .events import Listener
from .group import Groups
from .registry import Registry


class System:
    """Made once for each tree.

    Attributes:
        loop: runs it; kept, because to ask for the running loop costs a system call.
        listener: hears kernel events; None costs nothing.
        deadlines: of questions.
        registry: names of actors.
        groups: sets of actors.
        crashes: lives of actors and supervisors that ended abnormally.
        restarts: lives that followed another one in the same place.
        dead_letters: messages that no actor has handled.
        waking: tasks of actors that are about to run: woken, interrupted, or in wait of their next turn.
    """

    __slots__ = ("crashes", "dead_letters", "deadlines", "groups", "listener", "loop", "registry", "restarts", "waking")

    def __init__(self, listener: Listener | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener = listener
        self.deadlines = Deadlines(self.loop)
        self.registry = Registry()
        self.groups = Groups()
        self.crashes = 0
        self.restarts = 0
        self.dead_letters = 0
        self.waking = 0

    def goes_on(self) -> None:
        """An actor's task goes on in the next turn."""
        self.waking += 1
        self.loop.call_soon(self._has_gone_on)

    def _has_gone_on(self) -> None:
        self.waking -= 1

    async def yield_turn(self) -> None:
        """Let everybody else have a turn."""
        self.waking += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.waking -= 1
