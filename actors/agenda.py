"""A supervisor's agenda: what it has to do, one thing at a time.

Why: starts, stops and exits of children come when they please, also in the middle of another. Each is dealt with to its
end before the next, so none of them has to think of the others.

Laws kept here: law 7, the agenda needs no task of its own; whoever waits for a step hears of it, or of the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import ActorError, SupervisorStopped
from .host import Host, Hosts, Outcome

Step: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(slots=True)
class Entry:
    """One thing to do.

    Attributes:
        step: how.
        arguments: with what.
        reply: of whom waits for it.
        needed: also when nobody waits any more.
    """

    step: Step
    arguments: tuple[Any, ...]
    reply: asyncio.Future[Any] | None = None
    needed: bool = True

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that it could not be done."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)


class Agenda:
    """The line of things to do.

    Args:
        path: the supervisor's.
        hosts: where it is dealt with.
        broken: is called if that is interrupted; what is in line is dealt with later.

    Attributes:
        busy: whether something is being dealt with, or about to be.
        ended: whether it is closed.
    """

    def __init__(self, path: str, hosts: Hosts, broken: Callable[[], None]) -> None:
        self.path = path
        self.busy = False
        self.ended = False
        self._hosts = hosts
        self._broken = broken
        self._line: deque[Entry] = deque()

    def post(self, step: Step, *arguments: Any) -> None:
        """Put something behind all others."""
        self._enter(Entry(step, arguments))

    def post_first(self, step: Step, *arguments: Any) -> None:
        """Put something ahead of all others."""
        self._line.appendleft(Entry(step, arguments))
        self._begin()

    async def ask(self, step: Step, *arguments: Any, needed: bool = True) -> Any:
        """Put something behind all others and wait for what comes of it.

        Args:
            step: what to do.
            arguments: of the step.
            needed: it is done also when the caller is canceled before its turn comes.

        Raises:
            SupervisorStopped: the agenda is closed, or was before this had its turn.
        """
        if self.ended:
            raise SupervisorStopped(self.path)
        reply: asyncio.Future[Any] = self._hosts.loop.create_future()
        self._enter(Entry(step, arguments, reply, needed))
        return await reply

    def close(self) -> None:
        """Nothing more will be done."""
        self.ended = True
        line, self._line = self._line, deque()
        for entry in line:
            entry.fail(SupervisorStopped(self.path))

    def run(self, host: Host) -> Outcome:
        """Deal with what is in line."""
        return self.live(host) if self._line else False

    async def live(self, host: Host) -> None:
        """Deal with what is in line until that is all."""
        host.await_handler()
        entry: Entry | None = None
        try:
            while self._line:
                entry = self._line.popleft()
                await self._deal_with(entry)
        except BaseException:
            self.busy = False
            if entry is not None:
                entry.fail(SupervisorStopped(self.path))
            self._broken()
            raise
        finally:
            host.handling = False
        self.busy = False

    async def _deal_with(self, entry: Entry) -> None:
        reply = entry.reply
        if reply is not None and reply.cancelled() and not entry.needed:
            return
        try:
            result = await entry.step(*entry.arguments)
        except ActorError as error:
            entry.fail(error)
        else:
            if reply is not None and not reply.done():
                reply.set_result(result)

    def _enter(self, entry: Entry) -> None:
        self._line.append(entry)
        self._begin()

    def _begin(self) -> None:
        if not self.busy:
            self.busy = True
            self._hosts.enter(self)
