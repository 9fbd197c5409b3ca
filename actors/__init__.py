"""Actors under supervision: OTP's semantics on asyncio. Knows nothing of runs, LLMs or stores, and is usable alone.

    async with supervise(SupervisorSpec(name="app", children=(ChildSpec(name="counter", start=Counter),))) as app:
        await app.ref("counter").ask(Increment())

docs/actors.md is the guide.
"""

from .actor import Actor, Context, Timer
from .errors import (
    ActorDied,
    ActorError,
    AlreadyStarted,
    AskTimeout,
    MailboxFull,
    SpecInvalid,
    StartFailed,
    StrayCancellation,
    SupervisorFailed,
    SupervisorStopped,
    UnknownChild,
)
from .events import ChildExited, ChildRestarted, ChildStarted, DeadLetter, Escalated, KernelEvent
from .mailbox import Mailbox
from .messages import Down, Exit, ExitReason, Request, Stop
from .overflow import MailboxSpec, MailboxStatistics, Overflow
from .ref import Ref
from .root import supervise
from .spec import AutoShutdown, ChildSpec, Restart, Strategy, SupervisorSpec
from .supervisor import Supervisor
from .tree import TreeNode, render_tree

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "AlreadyStarted",
    "AskTimeout",
    "AutoShutdown",
    "ChildExited",
    "ChildRestarted",
    "ChildSpec",
    "ChildStarted",
    "Context",
    "DeadLetter",
    "Down",
    "Escalated",
    "Exit",
    "ExitReason",
    "KernelEvent",
    "Mailbox",
    "MailboxFull",
    "MailboxSpec",
    "MailboxStatistics",
    "Overflow",
    "Ref",
    "Request",
    "Restart",
    "SpecInvalid",
    "StartFailed",
    "Stop",
    "Strategy",
    "StrayCancellation",
    "Supervisor",
    "SupervisorFailed",
    "SupervisorSpec",
    "SupervisorStopped",
    "Timer",
    "TreeNode",
    "UnknownChild",
    "render_tree",
    "supervise",
]
