"""One life of a class actor: from its start to its exit, message by message.

Why: an actor's place and mailbox last; its lives come and go. A life ends exactly once and reports how.

Laws kept here:
- One message at a time, in order; the control lane first; after the stop signal nothing more is handled.
- A crash loses the message in hand (a dead letter, and ActorDied for its asker; or the next life tries it once
  more, if the mailbox's spec says so) and no other.
"""

from __future__ import annotations

import asyncio
from asyncio import iscoroutine
from collections.abc import Awaitable
from types import NoneType
from typing import Any

from . import link
from .actor import Actor, Context
from .box import NO_ROOM
from .circle import LIVES
from .host import Host, Hosts, Outcome
from .inline import Begun, raised, returned
from .mailbox import Mailbox
from .messages import KILLED, NORMAL, SHUTDOWN, Ask, ExitReason, Ignore
from .reader import LATER
from .stash import Stashed
from .turn import CHUNKS
from .verdict import Place, pardon, sentence_of, still_canceled, verdict


class ActorLife:
    """One instance of a class actor.

    It has a task only while it has mail, unless it overrides `started` or `stopped`: then it has one for life, so that
    what `started` enters (a task group, a cancel scope, a client) is left in the same task by `stopped`.
    """

    __slots__ = (
        "_actor",
        "_asked",
        "_begun",
        "_context",
        "_hosts",
        "_housed",
        "_mailbox",
        "_place",
        "_prompt",
        "ended",
        "host",
        "path",
    )

    def __init__(self, actor: Actor[Any], mailbox: Mailbox[Any], place: Place, hosts: Hosts) -> None:
        self.path = mailbox.path
        self.ended = False
        self._actor = actor
        self._mailbox = mailbox
        self._place = place
        self._hosts = hosts
        self.host: Host | None = None
        self._housed = False
        self._prompt = True  # whether the next question may be handled inline
        self._begun: Begun | None = None
        self._asked: Ask | None = None
        self._context: Context[Any] = Context(mailbox)
        actor.context = self._context
        mailbox.reader = self
        if actor.hooked:
            self._housed = True
            self.host = hosts.house(self)
        else:
            place.ready()
            if mailbox.queue or mailbox.control:
                hosts.enter(self)
            else:
                mailbox.sleeper = self
                mailbox.room = NO_ROOM

    def wake(self) -> None:
        """Mail has come."""
        if self._housed:
            assert self.host is not None
            self.host.unpark()
        else:
            hosts = self._hosts
            hosts.line.append(self)
            if hosts.bell is not None or hosts.dispatcher is None:
                hosts.ring()

    def answer(self, message: Any) -> Any:
        """Handle a question in the turn of its asker; see `inline`."""
        hosts, mailbox = self._hosts, self._mailbox
        begun = hosts.inline.begin() if self._prompt and not self._housed else None
        if begun is None:
            return LATER
        mailbox.sleeper = None
        self._begun = begun
        try:
            result = begun.context.run(self._actor.receive, message)
            handling = result if hasattr(result, "__await__") else None
        except BaseException as error:
            handling = raised(error)
        if handling is None:
            if self.ended:  # killed by its own handler
                hosts.inline.pass_on(begun)
                return result
            if not (mailbox.queue or mailbox.alert) and hosts.inline.end(begun):
                self._begun = None
                mailbox.handled += 1
                mailbox.sleep(self)
                return result
            handling = returned(result)
        return self._pass_on(begun, message, handling)

    def _pass_on(self, begun: Begun, message: Any, handling: Awaitable[Any]) -> Ask:
        """Have a host end what was begun inline."""
        hosts = self._hosts
        begun.ask = ask = Ask(message, hosts.loop.create_future())
        begun.handling = handling
        context = hosts.inline.pass_on(begun)
        if self.ended:
            self._drop_begun(begun, ask, KILLED)
        elif context is None:
            hosts.enter(self)
        else:
            self._housed = True
            self.host = hosts.house(self, context)
        return ask

    def _take_over(self, begun: Begun, host: Host) -> Awaitable[None]:
        """End what was begun inline: whoever interrupted it meanwhile does so as soon as it waits."""
        assert begun.ask is not None
        assert begun.handling is not None
        self._begun = None
        host.left -= 1
        if begun.sentence is not None:
            self._hosts.loop.call_soon(self._carry_out, begun.sentence)
        if begun.ask.reply.cancelled():
            self._hosts.loop.call_soon(self.interrupt, begun.ask)
        return self._await(begun.ask, self._answer(begun.ask, begun.handling, host), host)

    def _drop_begun(self, begun: Begun, ask: Ask, reason: ExitReason) -> None:
        self._begun = None
        if isinstance(begun.handling, asyncio.Future):
            begun.handling.cancel()
        elif iscoroutine(begun.handling):
            begun.handling.close()
        self._mailbox.lose((ask,), reason)

    def shut_down(self) -> None:
        """End it after the message in hand."""
        if self.host is None and not self._actor.hooked and self._mailbox.sleeper is self:
            self._exit(SHUTDOWN)
        else:
            self._mailbox.signal(SHUTDOWN)

    def kill(self) -> None:
        """Cancel it; `stopped` does not run."""
        if self.host is None or self.host.task is None:
            self._exit(KILLED)
        if self.host is not None:
            self.host.cancel()

    def condemn(self, reason: ExitReason) -> None:
        """End it: at the await where it is, or after the message in hand. `stopped` runs."""
        self._mailbox.signal(reason)
        if self._begun is not None:
            self._begun.sentence = reason if self._begun.ask is not None else None
        else:
            self._carry_out(reason)

    def _carry_out(self, reason: ExitReason) -> None:
        host = self.host
        if self.ended or host is None or not host.handling or host.task is asyncio.current_task():
            return
        if sentence_of(self._mailbox) is None:
            link.ties_of(self._mailbox).sentence = reason
            host.interrupt()

    def interrupt(self, ask: Ask) -> None:
        """Cancel the handling of this question, if it is under way."""
        if self._asked is ask and not ask.abandoned and self.host is not None:
            ask.abandoned = True
            self.host.interrupt()

    async def live(self, host: Host) -> None:
        """Live in a task of its own: start, handle mail, end."""
        if self.ended:
            return
        self.host = host
        self._housed = True
        try:
            if self._actor.hooked and not await self._start(host):
                return
            while not self.ended:
                if self._actor.forgets and not self._actor.hooked and self._begun is None:
                    self._leave()  # it is the task that knows what is to be forgotten
                    return
                outcome = self.run(host)
                if outcome is True:
                    await host.yield_turn()
                elif outcome is not False:
                    await outcome
                elif self._mailbox.sleeper is self:
                    await host.park()
        except BaseException:
            self._exit(KILLED)
            raise

    def _leave(self) -> None:
        """Leave the task: there will be another one when there is mail."""
        self._housed = False
        self.host = None
        if self._mailbox.sleeper is not self:
            self._hosts.enter(self)

    async def _start(self, host: Host) -> bool:
        try:
            await self._actor.started()
        except BaseException as error:
            reason = NORMAL if isinstance(error, Ignore) else verdict(error, host, self._mailbox)
            if reason is KILLED:
                raise
            self._exit(reason)
            return False
        self._place.ready()
        return True

    def run(self, host: Host) -> Outcome:
        """Handle mail until there is none, the turn is over, the actor ends, or a handler is to be awaited."""
        if self.ended:
            return False
        self.host = host
        if self._begun is not None:
            return self._take_over(self._begun, host)
        mailbox = self._mailbox
        queue = mailbox.queue
        receive = self._actor.receive
        plain: type = NoneType  # of what the handler returned last that is not to be awaited
        first = left = host.left
        done = 0
        item: Any = None
        try:
            while left:
                for done in CHUNKS[left]:
                    if queue and not mailbox.alert:
                        item = queue.popleft()
                    elif mailbox.control:
                        item = mailbox.control.popleft()
                        if type(item) is ExitReason:
                            reason, item = item, None
                            break
                    elif queue:
                        item = queue.popleft()
                        mailbox.admit()
                    else:
                        host.left = left - done
                        mailbox.handled += first - left + done
                        mailbox.sleeper = self
                        mailbox.room = NO_ROOM
                        self._prompt = done == 1
                        if not self._housed:
                            self.host = None
                        return False
                    if type(item) is not Ask:
                        result = receive(item)
                        if type(result) is plain or result is None:
                            continue
                        if not hasattr(result, "__await__"):
                            plain = type(result)
                            continue
                    elif item.reply.done():
                        mailbox.drop(item, "its asker stopped waiting")
                        continue
                    else:
                        result = receive(item.message)
                        if not hasattr(result, "__await__"):
                            item.reply.set_result(result)
                            continue
                        result = self._answer(item, result, host)
                    host.left = left - done - 1
                    mailbox.handled += first - left + done
                    return self._await(item, result, host)
                else:
                    left -= done + 1
                    if left and host.over():
                        first, left = first - left, 0
                    continue
                break
            else:
                host.left = 0
                mailbox.handled += first
                self._rest()
                return True
        except BaseException as error:
            host.left = left - done - 1
            mailbox.handled += first - left + done
            return self._fail(item, error, host)
        host.left = left - done - 1
        mailbox.handled += first - left + done
        return self._finish(reason, host)

    async def _await(self, item: Any, handling: Awaitable[Any], host: Host) -> None:
        """Await a handler."""
        host.await_handler()
        try:
            await handling
        except BaseException as error:
            host.handling = False
            outcome = self._fail(item, error, host)
            if not isinstance(outcome, bool):
                await outcome
        else:
            host.handling = False
            self._mailbox.handled += 1
            if not host.left & 7 and host.over():
                host.left = 0

    def _fail(self, item: Any, error: BaseException, host: Host) -> Outcome:
        """A handler raised: stash its message, or end over it."""
        mailbox = self._mailbox
        if item is not None and isinstance(error, Stashed):
            mailbox.set_aside(item)
            self._rest()
            return True
        reason = verdict(error, host, mailbox)
        if item is not None:
            mailbox.lose((item,), reason)
        if reason is KILLED:
            self._exit(KILLED)
            raise error
        return self._finish(reason, host)

    def _rest(self) -> None:
        if not self._housed:
            self.host = None

    async def _answer(self, ask: Ask, handling: Awaitable[Any], host: Host) -> None:
        """Answer with what an async handler returns; its asker may cancel it meanwhile."""
        self._asked = ask
        try:
            result = await handling
        except asyncio.CancelledError:
            if not ask.abandoned or still_canceled(host):
                raise
            self._mailbox.drop(ask, "its asker was canceled")
        else:
            if ask.abandoned:
                still_canceled(host)
            elif not ask.reply.done():
                ask.reply.set_result(result)
        finally:
            self._asked = None

    def _finish(self, reason: ExitReason, host: Host) -> Outcome:
        if sentence_of(self._mailbox) is not None:
            pardon(self._mailbox, host)
        if self._actor.hooked:
            return self._stop(reason, host)
        self._exit(reason)
        return False

    async def _stop(self, reason: ExitReason, host: Host) -> None:
        try:
            await self._actor.stopped(reason)
        except BaseException as error:
            end = verdict(error, host, self._mailbox)
            self._exit(reason if reason.abnormal else end)
            if end is KILLED:
                raise
        else:
            self._exit(reason)

    def _exit(self, reason: ExitReason) -> None:
        if self.ended:
            return
        self.ended = True
        if self._begun is not None and self._begun.ask is not None:
            self._drop_begun(self._begun, self._begun.ask, reason)
        if self._context.timers:
            for timer in tuple(self._context.timers):
                timer.cancel()
        self._mailbox.leave(reason)
        self._place.exited(reason)


LIVES.update(method.__code__ for method in (ActorLife.live, ActorLife.run, ActorLife.answer, ActorLife._await))
