"""The verdict: why a life ended, read from what it raised and from who had canceled it; and who has to hear of it.

Laws kept here:
- CancelledError is never a crash: it means killed, or that a linked actor ended. One that nobody sent is reported as
  StrayCancellation.
- KeyboardInterrupt and SystemExit pass through.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .errors import StrayCancellation
from .host import Host
from .mailbox import Mailbox
from .messages import CRASHED, KILLED, ExitReason
from .stash import Stashed


class Place(Protocol):
    """Where lives begin and end: a child's place under its supervisor."""

    def ready(self) -> None:
        """The life has started."""
        ...

    def exited(self, reason: ExitReason) -> None:
        """The life is over."""
        ...


def verdict(error: BaseException, host: Host, mailbox: Mailbox[Any]) -> ExitReason:
    """Why a life ended that raised this. Identical to KILLED when the error has to be raised on."""
    if isinstance(error, asyncio.CancelledError) and not host.canceled:
        assert host.task is not None
        sentence = sentence_of(mailbox)
        if sentence is not None and pardon(mailbox, host):
            return sentence
        if host.task.cancelling() == 0:
            stray = StrayCancellation(mailbox.path)
            stray.__cause__ = error
            return ExitReason(CRASHED, stray)
    return ExitReason(CRASHED, error) if isinstance(error, Exception | Stashed) else KILLED


def sentence_of(mailbox: Mailbox[Any]) -> ExitReason | None:
    """Why a linked actor's end has canceled this one, if it has."""
    return mailbox.ties.sentence if mailbox.ties is not None else None


def pardon(mailbox: Mailbox[Any], host: Host) -> bool:
    """Take back the cancellation that carried out the sentence; False if there is another one."""
    assert mailbox.ties is not None
    assert host.task is not None
    mailbox.ties.sentence = None
    return host.task.uncancel() == 0 and not host.canceled


def still_canceled(host: Host) -> bool:
    """Take back the cancellation of a handling; True if the host itself is canceled too."""
    assert host.task is not None
    return host.task.uncancel() > 0 or host.canceled
