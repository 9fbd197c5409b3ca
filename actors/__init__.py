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
    LinkBroken,
    MailboxFull,
    NameTaken,
    SpecInvalid,
    StartFailed,
    StashFull,
    StrayCancellation,
    SupervisorFailed,
    SupervisorStopped,
    UnknownChild,
)
from .events import ChildExited, ChildRestarted, ChildStarted, DeadLetter, Escalated, KernelEvent
from .group import Groups
from .mailbox import Mailbox
from .messages import Down, Exit, Exited, ExitReason, Request, Stop
from .overflow import InHand, MailboxSpec, MailboxStatistics, Overflow
from .ref import Ref
from .registry import Registry
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
    "Exited",
    "Groups",
    "InHand",
    "KernelEvent",
    "LinkBroken",
    "Mailbox",
    "MailboxFull",
    "MailboxSpec",
    "MailboxStatistics",
    "NameTaken",
    "Overflow",
    "Ref",
    "Registry",
    "Request",
    "Restart",
    "SpecInvalid",
    "StartFailed",
    "StashFull",
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
