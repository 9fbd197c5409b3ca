"""The ref: a typed address of an actor. All that anybody outside an actor holds of it.

Why: it names an actor's place under its supervisor, so it stays good when the actor is restarted.

Laws kept here:
- `tell` never waits; a dead actor's messages become dead letters, without an error.
- An `ask` always ends: with the answer, with the actor's end, with its timeout, or with its asker's cancellation,
  which reaches the actor.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from .circle import ASKS, circle
from .errors import AskCircle
from .mailbox import Mailbox
from .messages import Ask, ExitReason, Request
from .reader import LATER

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")


class Ref(Generic[M_contra]):
    """The address of an actor that takes messages of type M; where it is wanted for fewer of them, it will do."""

    __slots__ = ("mailbox",)

    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self.mailbox = mailbox
        mailbox.ref = self

    @property
    def path(self) -> str:
        """Where the actor is in the tree, like `worker/components/analyse/3`."""
        return self.mailbox.path

    @property
    def alive(self) -> bool:
        """False once the actor has ended and will not be restarted."""
        return self.mailbox.end is None

    def __repr__(self) -> str:
        return f"<Ref {self.path}>"

    def tell(self, message: M_contra) -> None:
        """Put a message in the actor's mailbox and go on.

        Raises:
            MailboxFull: the mailbox is full and its overflow policy is BLOCK or FAIL.
        """
        mailbox = self.mailbox
        for _ in mailbox.room:
            mailbox.queue.append(message)
            return
        if not mailbox.put(message):
            raise mailbox.full()

    async def send(self, message: M_contra) -> None:
        """Put a message in the actor's mailbox, waiting for room if it is full; senders are served in order.

        When canceled while it waits, the message has been put in whole or not at all.

        Raises:
            MailboxFull: the mailbox is full and its overflow policy is FAIL.
        """
        mailbox = self.mailbox
        for _ in mailbox.room:
            mailbox.queue.append(message)
            return
        await mailbox.put_in_turn(message)

    @overload
    async def ask(self, message: Request[R], *, timeout: float | None = None) -> R: ...

    @overload
    async def ask(self, message: M_contra, *, timeout: float | None = None) -> Any: ...

    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send a message and wait for the answer.

        When canceled, the actor's handling of the message is canceled too, or the message is skipped if it still waits.

        Args:
            message: the question.
            timeout: seconds to wait; None waits for as long as the actor lives.

        Raises:
            ActorDied: the actor has ended, or ended over this message.
            AskCircle: the actor waits for an answer of the one that asks, directly or over others.
            AskTimeout: no answer within the timeout; the actor is not interrupted, and a late answer is dropped.
            MailboxFull: the mailbox is full and its overflow policy is not BLOCK.
        """
        mailbox = self.mailbox
        system = mailbox.system
        asked = 0.0 if timeout is None else system.loop.time()
        sleeper = mailbox.sleeper
        ask = LATER if sleeper is None else sleeper.answer(message)
        if ask is LATER:
            ask = Ask(message, system.loop.create_future())
            if sleeper is None and mailbox.reader is not None and mailbox.reader.host is not None:
                _refuse_circle(mailbox)
            for _ in mailbox.room:
                mailbox.queue.append(ask)
                break
            else:
                if not mailbox.put(ask):
                    mailbox.stand_in_line(ask, None)
        elif type(ask) is not Ask:
            return ask
        reply = ask.reply
        deadline = None
        if timeout is not None:
            deadline = system.deadlines.after(timeout)
            deadline.add(reply, mailbox.path, asked)
        try:
            return await reply
        except BaseException:
            mailbox.abandon(ask)
            raise
        finally:
            if deadline is not None:
                deadline.remove(reply)

    async def ended(self) -> ExitReason:
        """Wait until the actor has ended and will not be restarted; return why. At once when it already has."""
        return await self.mailbox.ended()


ASKS.add(Ref.ask.__code__)


def _refuse_circle(mailbox: Mailbox[Any]) -> None:
    paths = circle(mailbox)
    if paths:
        raise AskCircle(paths)
