"""One life of a function actor: a call of its function, in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from . import link
from .circle import LIVES
from .host import Host, Hosts, Outcome
from .mailbox import Mailbox
from .messages import KILLED, NORMAL, SHUTDOWN, Ask, ExitReason, Stop
from .verdict import Place, sentence_of, verdict


class FunctionLife:
    """One call of a function actor, in a task of its own."""

    __slots__ = ("_function", "_mailbox", "_place", "_stopping", "ended", "host", "path")

    def __init__(
        self, function: Callable[[Mailbox[Any]], Awaitable[None]], mailbox: Mailbox[Any], place: Place, hosts: Hosts
    ) -> None:
        self.path = mailbox.path
        self.ended = False
        self._function = function
        self._mailbox = mailbox
        self._place = place
        self._stopping = False
        mailbox.reader = self
        place.ready()
        self.host = hosts.house(self)

    def run(self, host: Host) -> Outcome:
        """Live to the end: a function is never in line."""
        return False if self.ended else self.live(host)

    async def live(self, host: Host) -> None:
        """Call the function and report how it ended."""
        if self.ended:
            return
        try:
            await self._function(self._mailbox)
            reason = sentence_of(self._mailbox) or (SHUTDOWN if self._stopping else NORMAL)
        except BaseException as error:
            reason = self._reason(error, host)
            self._exit(reason)
            if not isinstance(error, Exception) and reason is KILLED:
                raise
        else:
            self._exit(reason)

    def shut_down(self) -> None:
        """Ask it to end: its next wait for mail raises Stop."""
        self._stopping = True
        self._mailbox.signal(SHUTDOWN)

    def kill(self) -> None:
        """Cancel it."""
        if self.host.task is None:
            self._exit(KILLED)
        self.host.cancel()

    def condemn(self, reason: ExitReason) -> None:
        """Cancel it, and let that be the reason."""
        if sentence_of(self._mailbox) is None:
            link.ties_of(self._mailbox).sentence = reason
            task = self.host.task
            if task is None:
                self._exit(reason)
                self.host.cancel()
            elif task is asyncio.current_task():
                self._mailbox.signal(reason)
            else:
                self.host.interrupt()

    def interrupt(self, ask: Ask) -> None:
        """Let it go on: only the function knows what it is doing, and its answer goes nowhere."""

    def _reason(self, error: BaseException, host: Host) -> ExitReason:
        sentence = sentence_of(self._mailbox)
        if isinstance(error, Stop):
            return sentence or SHUTDOWN
        if isinstance(error, BaseExceptionGroup):
            stops, rest = error.split(Stop)
            if rest is None:
                return sentence or SHUTDOWN
            error = rest if stops is not None else error
        return verdict(error, host, self._mailbox)

    def _exit(self, reason: ExitReason) -> None:
        if not self.ended:
            self.ended = True
            self._mailbox.leave(reason)
            self._place.exited(reason)


LIVES.add(FunctionLife.live.__code__)
