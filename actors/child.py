"""A child: one place under a supervisor, through all the lives of whoever holds it.

Why: the supervisor decides, the child acts. It starts a life, stops it in bounded time, and reports its exit.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from .actor import Actor
from .backoff import Backoff, Series
from .errors import ActorDied, StartFailed
from .events import ChildExited, log_failure
from .function import FunctionLife
from .host import Hosts
from .life import ActorLife
from .mailbox import Mailbox
from .messages import NORMAL, ExitReason, Ignore
from .overflow import MailboxSpec
from .ref import Ref
from .spec import PERMANENT, TRANSIENT, ChildSpec, SupervisorSpec, takes_mailbox

if TYPE_CHECKING:
    from .supervisor import Supervisor


class State(enum.Enum):
    """What a child is doing."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    """Ended; to be started again."""
    STOPPED = "stopped"


STARTING, RUNNING, STOPPING, RESTARTING, STOPPED = State  # an attribute of an enum costs eight times a global


class AnyLife(Protocol):
    """What a supervisor needs of a life: an actor's, or a supervisor's."""

    ended: bool

    def shut_down(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """Make it end."""
        ...


class Child:
    """One place under a supervisor.

    Attributes:
        spec: how it is started and stopped.
        path: where it is in the tree.
        ref: the address of its actor; None for a supervisor.
        life: who holds the place now, or held it last.
        state: what it is doing.
        reason: why the last life ended.
        restarts: how often it was restarted.
        crashes: how often a life ended abnormally.
    """

    __slots__ = (
        "_exited",
        "_hosts",
        "_series",
        "_settled",
        "_supervisor",
        "crashes",
        "life",
        "path",
        "reason",
        "ref",
        "restarts",
        "spec",
        "state",
    )

    def __init__(self, spec: ChildSpec[Any], supervisor: Supervisor, hosts: Hosts) -> None:
        self.spec = spec
        self.path = f"{supervisor.path}/{spec.name}"
        self.state = STOPPED
        self.life: AnyLife | None = None
        self.reason: ExitReason = NORMAL
        self.restarts = 0
        self.crashes = 0
        self.ref: Ref[Any] | None = None
        self._supervisor = supervisor
        self._hosts = hosts
        self._settled: asyncio.Future[bool] | None = None
        self._exited: asyncio.Future[None] | None = None
        self._series: Series | None = None

    @property
    def active(self) -> bool:
        """True while somebody holds the place or is about to."""
        return self.state is not STOPPED

    @property
    def up(self) -> bool:
        """True once the life has started."""
        return self.state is not STARTING

    def launch(self) -> bool:
        """Start a life; False: it is still starting, wait with `settle`. It may also decline (see `Ignore`).

        Raises:
            StartFailed: it did not even begin.
        """
        if self._series is not None:
            self._series.wait_no_more()
        self.state = STARTING
        self._settled = None
        self.life = None
        try:
            self.life = self._life()
        except Ignore:
            if self.ref is None:
                self._mailbox(None)
            self.reason = NORMAL
            self.retire()
            return True
        except Exception as error:
            self.state = STOPPED
            raise StartFailed(self.path, error) from error
        if self.state is not STARTING:
            return True
        self._settled = self._hosts.loop.create_future()
        return False

    async def settle(self) -> None:
        """Wait until a life that was launched has started.

        Raises:
            StartFailed: it ended instead.
        """
        if self._settled is not None:
            started = await self._settled
            self._settled = None
            if not started and self.reason is NORMAL:
                self.retire()
            elif not started:
                raise StartFailed(self.path, self.reason.error or ActorDied(self.path, self.reason))

    async def start(self) -> None:
        """Start a life and wait until it has started.

        Raises:
            StartFailed: it did not.
        """
        if not self.launch():
            await self.settle()

    def halt(self) -> bool:
        """Begin to stop the life; False: it is still stopping, wait with `stop`."""
        if self._series is not None:
            self._series.wait_no_more()
        life = self.life
        if life is not None and not life.ended:
            self.state = STOPPING
            if self.spec.shutdown == 0 or self._supervisor.killed:
                life.kill()
            else:
                life.shut_down()
        if life is None or life.ended:
            self.state = STOPPED
            return True
        return False

    async def stop(self) -> None:
        """Stop the life: gracefully within the spec's shutdown time, then by killing it."""
        if self.halt():
            return
        life = self.life
        assert life is not None
        self._exited = self._hosts.loop.create_future()
        patience = self.spec.shutdown
        timer = self._hosts.loop.call_later(patience, life.kill) if patience else None
        try:
            await self._exited
        finally:
            self._exited = None
            if timer is not None:
                timer.cancel()
        self.state = STOPPED

    def pause(self) -> float:
        """Return how long to wait before it is started again, seconds."""
        backoff = self.spec.backoff
        return 0.0 if backoff is None else self._failures(backoff).failed(self._hosts.loop.time())

    def after(self, pause: float, do: Callable[[], None]) -> None:
        """Do something after a pause, unless a life is started or stopped meanwhile."""
        assert self._series is not None
        self._series.timer = self._hosts.loop.call_later(pause, do)

    def retire(self) -> None:
        """Nobody will hold the place for now: its address is dead."""
        self.state = STOPPED
        self.life = None
        if self.ref is not None:
            self.ref.mailbox.close(self.reason)

    def ready(self) -> None:
        """The life has started."""
        self.state = RUNNING
        if self.spec.backoff is not None:
            self._failures(self.spec.backoff).began = self._hosts.loop.time()
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(True)

    def exited(self, reason: ExitReason) -> None:
        """The life is over: the supervisor either waits for that or has to hear of it."""
        self.reason = reason
        if reason.abnormal:
            self.crashes += 1
            self._hosts.system.crashes += 1
            if (
                self._hosts.listener is None
                and self.state is not STARTING
                and type(self.spec.start) is not SupervisorSpec
            ):
                log_failure(self.path, reason)
        if self._hosts.listener is not None:
            self._hosts.listener(ChildExited(self.path, reason))
        if self.state is STARTING:
            if self._settled is not None and not self._settled.done():
                self._settled.set_result(False)
        elif self.state is STOPPING:
            if self._exited is not None and not self._exited.done():
                self._exited.set_result(None)
        else:
            self.state = RESTARTING if self._again(reason) else STOPPED
            self._supervisor.hear(self)

    def _failures(self, backoff: Backoff) -> Series:
        if self._series is None or self._series.spec is not backoff:
            self._series = Series(backoff)
        return self._series

    def _again(self, reason: ExitReason) -> bool:
        restart = self.spec.restart
        return restart is PERMANENT or (restart is TRANSIENT and reason.abnormal)

    def _life(self) -> AnyLife:
        start = self.spec.start
        if isinstance(start, SupervisorSpec):
            return self._supervisor.below(start, self)
        if not isinstance(start, type) and takes_mailbox(start):
            function = cast("Callable[[Mailbox[Any]], Awaitable[None]]", start)
            return FunctionLife(function, self._mailbox(None), self, self._hosts)
        actor: Any = start()  # type: ignore[call-arg]
        if not isinstance(actor, Actor):
            raise TypeError(f"start of {self.path} made {actor!r}, which is no Actor: return an instance of one")
        return ActorLife(actor, self._mailbox(actor), self, self._hosts)

    def _mailbox(self, actor: Actor[Any] | None) -> Mailbox[Any]:
        spec = self.spec.mailbox or (type(actor).mailbox if actor is not None else MailboxSpec())
        if self.ref is None:
            self.ref = Ref(Mailbox(self.path, spec, self._hosts.system))
        elif not self.ref.alive:
            self.ref.mailbox.reopen(spec)
        return self.ref.mailbox
