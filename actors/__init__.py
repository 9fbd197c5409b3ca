"""Actors under supervision: OTP's semantics on asyncio. Knows nothing of runs, LLMs or stores, and is usable alone.

    async with supervise(SupervisorSpec(name="app", children=(ChildSpec(name="counter", start=Counter),))) as app:
        await app.ref("counter").ask(Increment())

docs/actors.md is the guide.
"""

from .actor import Actor, Context, Timer
from .backoff import Backoff
from .errors import (
    ActorDied,
    ActorError,
    AlreadyStarted,
    AskCircle,
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
from .messages import Down, Exit, Exited, ExitReason, Ignore, Request, Stop
from .overflow import InHand, MailboxSpec, MailboxStatistics, Overflow
from .pool import Pool, PoolSpec, start_pool
from .ref import Ref
from .registry import Registry
from .root import supervise
from .spec import AutoShutdown, ChildSpec, Restart, Strategy, SupervisorSpec
from .supervisor import Supervisor
from .survey import ChildCount, TreeStatistics
from .tree import TreeNode, render_tree
from .watchdog import LoopBlocked, watch_loop

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "AlreadyStarted",
    "AskCircle",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "ChildCount",
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
    "Ignore",
    "InHand",
    "KernelEvent",
    "LinkBroken",
    "LoopBlocked",
    "Mailbox",
    "MailboxFull",
    "MailboxSpec",
    "MailboxStatistics",
    "NameTaken",
    "Overflow",
    "Pool",
    "PoolSpec",
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
    "TreeStatistics",
    "UnknownChild",
    "render_tree",
    "start_pool",
    "supervise",
    "watch_loop",
]
