"""The supervisor: starts its children in order, restarts them by strategy and intensity, stops them in reverse.

Why: a crash is not handled where it happens, but by whoever knows how to begin again. Semantics are OTP's.

Laws kept here:
- One thing at a time: starts, stops and exits of children are on one agenda, and each is dealt with to its end.
- A restart that fails goes back to the end of the agenda, so it never keeps a stop waiting.
- More than `intensity` restarts within `period`, over all children: it stops them and ends with SupervisorFailed,
  which for its own supervisor is the crash of a child.
- Law 7: it ends after its children. Every child is stopped within its shutdown time, or killed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .agenda import Agenda
from .child import RESTARTING, RUNNING, STOPPED, STOPPING, Child
from .errors import ActorError, AlreadyStarted, StartFailed, SupervisorFailed, SupervisorStopped, UnknownChild
from .events import ChildRestarted, ChildStarted, Escalated, log
from .group import Groups
from .host import Hosts
from .messages import KILLED, SHUTDOWN, Ending, Exit, ExitReason
from .ref import Ref
from .registry import Registry
from .restarts import Restarts
from .spec import TEMPORARY, AnySpec, AutoShutdown, ChildSpec, SupervisorSpec, child_spec
from .survey import ChildCount, TreeStatistics, count, node, totals, worst
from .tree import TreeNode

M = TypeVar("M")


class Supervisor:
    """A running supervisor. `supervise` makes the root of a tree; the others are children.

    Attributes:
        path: where it is in the tree.
        spec: how it looks after its children.
    """

    def __init__(
        self, spec: SupervisorSpec, path: str, hosts: Hosts, place: Child | None, failed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.path = path
        self.ended = False
        self.killed = False
        self._hosts = hosts
        self._place = place
        self._failed = failed
        self._children: dict[str, Child] = {}
        self._agenda = Agenda(path, hosts, self._broken)
        self._stopping = False
        self._starting: Child | None = None
        self._restarts = Restarts(spec)
        self._ending = Ending()
        if place is not None:
            self._agenda.post(self._boot)

    # For users

    async def start_child(self, spec: AnySpec) -> Ref[Any] | Supervisor:
        """Start a child behind all others and return when it has started: an actor's Ref, or a Supervisor.

        A stopped child of the same name is started again, in its place and with its address, by the new spec.
        Not for a child to call from its own `started`: its supervisor is waiting for that.

        Raises:
            StartFailed: it did not start; its spec is forgotten.
            AlreadyStarted: a child of this name is running.
            SpecInvalid: this supervisor could not treat it as it asks.
            SupervisorStopped: the supervisor has ended or is ending.
        """
        if type(spec) is not ChildSpec:
            spec = child_spec(spec)
        if self._agenda.busy:
            return _handle(await self._agenda.ask(self._start, spec, needed=False))
        child = self._admit(spec)
        if not self._launch(child):
            await self._agenda.ask(self._settle, child)
        return _handle(child)

    async def start_actor(self, spec: ChildSpec[M]) -> Ref[M]:
        """Start a child that is an actor, like `start_child`, and return its typed address."""
        ref = await self.start_child(spec)
        assert isinstance(ref, Ref), f"{spec.name} is a supervisor: use start_supervisor()"
        return ref

    async def start_supervisor(self, spec: AnySpec) -> Supervisor:
        """Start a child that is a supervisor, like `start_child`."""
        supervisor = await self.start_child(spec)
        assert isinstance(supervisor, Supervisor), f"{spec.name} is an actor: use start_actor()"
        return supervisor

    async def stop_child(self, name: str) -> None:
        """Stop a child within its shutdown time and return when it has ended; without effect when it has already.

        A temporary child is forgotten. Others keep their place: `start_child` starts them again, and so does a restart
        of the group that they belong to.

        Raises:
            UnknownChild: there is none of this name.
        """
        child = self._known(name)
        if not self._agenda.busy and child.halt():
            self._gone(child)
        else:
            await self._agenda.ask(self._stop, name)

    def child(self, name: str) -> Ref[Any] | Supervisor:
        """Return a child by name.

        Raises:
            UnknownChild: there is none of this name.
        """
        return _handle(self._known(name))

    def ref(self, name: str) -> Ref[Any]:
        """Return the address of a child that is an actor.

        Raises:
            UnknownChild: there is none of this name.
        """
        child = self._known(name, "actor")
        if child.ref is None:
            raise UnknownChild(self.path, name, "actor", [n for n, c in self._children.items() if c.ref is not None])
        return child.ref

    def supervisor(self, name: str) -> Supervisor:
        """Return a child that is a supervisor: the one that runs now, not one that was restarted since.

        Raises:
            UnknownChild: there is none of this name.
        """
        child = self._known(name, "supervisor")
        if not isinstance(child.life, Supervisor):
            names = [n for n, c in self._children.items() if isinstance(c.life, Supervisor)]
            raise UnknownChild(self.path, name, "supervisor", names)
        return child.life

    @property
    def registry(self) -> Registry:
        """The names of the whole tree."""
        return self._hosts.system.registry

    @property
    def groups(self) -> Groups:
        """The groups of the whole tree."""
        return self._hosts.system.groups

    def tree(self, widest: int | None = None) -> TreeNode:
        """Return a snapshot of this supervisor and all below it.

        Args:
            widest: of how many children of one supervisor at most; the others are counted as omitted. None: of all.
        """
        below = tuple(_node(child, widest) for child in worst(self._children.values(), widest))
        omitted = len(self._children) - len(below)
        place = self._place
        if place is not None and not self.ended:
            return node(place, below, omitted)
        state = STOPPED if self.ended else STOPPING if self._stopping else RUNNING
        kind = self.spec.strategy.value
        return TreeNode(path=self.path, kind=kind, state=state.value, children=below, omitted=omitted)

    def statistics(self) -> TreeStatistics:
        """Return the totals of this supervisor and all below it."""
        return totals(self.tree(), self._hosts.system)

    def count_children(self) -> ChildCount:
        """Count its own children."""
        return count(self._children.values())

    async def wait(self) -> None:
        """Wait until it has ended.

        Raises:
            SupervisorFailed: it gave up.
            StartFailed: it never started.
        """
        reason = await self._ending.wait()
        if reason.error is not None:
            raise reason.error

    async def stop(self) -> None:
        """Stop the children in reverse order, then end. Returns when it has ended; not for its own children to call."""
        self.shut_down()
        await self._ending.wait()

    # For the supervisor above

    def shut_down(self) -> None:
        """Begin to end: a start under way is broken off, then children are stopped in reverse order."""
        if not self._stopping:
            self._stopping = True
            self._agenda.post_first(self._shut_down)
            self._break_off()

    def kill(self) -> None:
        """Kill everything below, at once."""
        self.killed = True
        for child in reversed(self._children.values()):
            if child.life is not None and not child.life.ended:
                child.life.kill()
        self.shut_down()

    def hear(self, child: Child) -> None:
        """A child has ended by itself."""
        self._agenda.post(self._deal_with, child, child.life)

    def below(self, spec: SupervisorSpec, place: Child) -> Supervisor:
        """Make a supervisor that is a child of this one."""
        return Supervisor(spec, place.path, self._hosts, place, self._failed)

    async def boot(self) -> None:
        """Start the children of a root; those below do so by themselves.

        Raises:
            StartFailed: a child did not start; those before it have been stopped.
        """
        await self._agenda.ask(self._boot)

    # What is on the agenda

    async def _boot(self) -> None:
        try:
            for spec in self.spec.children:
                await self._start(child_spec(spec))
        except ActorError as error:
            await self._stop_children()
            if self._stopping:
                self._end(KILLED if self.killed else SHUTDOWN)
                return
            failure = StartFailed(self.path, error)
            self._end(ExitReason(Exit.CRASHED, failure))
            raise failure from error
        if self._place is not None:
            self._place.ready()

    async def _start(self, spec: ChildSpec[Any]) -> Child:
        child = self._admit(spec)
        if not self._launch(child):
            await self._settle(child)
        return child

    def _admit(self, spec: ChildSpec[Any]) -> Child:
        if self.ended or self._stopping:
            raise SupervisorStopped(self.path)
        if spec.significant:
            self.spec.check(spec)
        child = self._children.get(spec.name)
        if child is None:
            child = self._children[spec.name] = Child(spec, self, self._hosts)
        elif child.active:
            raise AlreadyStarted(child.path)
        else:
            child.spec = spec
        return child

    def _launch(self, child: Child) -> bool:
        try:
            started = child.launch()
        except StartFailed:
            self._forget(child)
            raise
        if started:
            self._started(child)
        return started

    async def _settle(self, child: Child) -> None:
        try:
            await self._watch_start(child, child.settle)
        except StartFailed:
            self._forget(child)
            raise
        self._started(child)

    def _started(self, child: Child) -> None:
        if child.state is not STOPPED:
            if self._hosts.listener is not None:
                self._hosts.listener(ChildStarted(child.path))
        elif child.spec.restart is TEMPORARY:
            self._forget(child)

    async def _stop(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None:
            await child.stop()
            self._gone(child)

    def _gone(self, child: Child) -> None:
        if child.spec.restart is TEMPORARY:
            self._forget(child)
        else:
            child.retire()

    async def _deal_with(self, child: Child, life: object) -> None:
        if child.life is not life or self._stopping:
            return
        if child.state is RESTARTING:
            await self._restart(child)
        elif child.state is STOPPED:
            self._gone(child)
            if child.spec.significant and self._all_done():
                self.shut_down()

    def _all_done(self) -> bool:
        if self.spec.auto_shutdown is AutoShutdown.ALL:
            return not any(child.active for child in self._children.values() if child.spec.significant)
        return True

    async def _restart(self, child: Child) -> None:
        if not self._restarts.allow(child, self._hosts.loop.time()):
            await self._give_up(child.reason)
            return
        group = self._restarts.group(child, self._children.values())
        for member in reversed(group):
            if not member.halt():
                await member.stop()
            if member.spec.restart is TEMPORARY:
                self._gone(member)
            else:
                member.state = RESTARTING
        pause = child.pause()
        if pause:
            child.after(pause, lambda: self._agenda.post(self._start_again, child, child.life))
        else:
            await self._start_group(group)

    async def _start_again(self, child: Child, life: object) -> None:
        if child.life is life and child.state is RESTARTING and not self._stopping:
            await self._start_group(self._restarts.group(child, list(self._children.values())))

    async def _start_group(self, group: Sequence[Child]) -> None:
        for member in group:
            if self._stopping:
                return
            if member.state is not RESTARTING:
                continue
            try:
                if not member.launch():
                    await self._watch_start(member, member.settle)
            except StartFailed as error:
                member.reason = ExitReason(Exit.CRASHED, error.cause)
                member.state = RESTARTING
                self._agenda.post(self._deal_with, member, member.life)
                return
            if member.active:
                member.restarts += 1
                self._hosts.system.restarts += 1
                self._tell(ChildRestarted, member.path, member.restarts)

    async def _give_up(self, reason: ExitReason) -> None:
        self._stopping = True
        failure = ExitReason(Exit.CRASHED, SupervisorFailed(self.path, reason, tuple(self._restarts.history)))
        self._tell(Escalated, self.path, failure)
        if self._hosts.listener is None:
            log.error("%s", failure.error)
        await self._stop_children()
        self._end(failure)

    async def _shut_down(self) -> None:
        await self._stop_children()
        self._end(KILLED if self.killed else SHUTDOWN)

    async def _stop_children(self) -> None:
        for child in reversed(list(self._children.values())):
            await child.stop()
            child.retire()

    async def _watch_start(self, child: Child, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._starting = child
        try:
            if self._stopping:
                self._break_off()
            await start()
        finally:
            self._starting = None

    def _break_off(self) -> None:
        child = self._starting
        if child is not None and not child.up and child.life is not None and not child.life.ended:
            child.life.kill()

    def _end(self, reason: ExitReason) -> None:
        if self.ended:
            return
        self.ended = self._stopping = True
        self._agenda.close()
        self._ending.set(reason)
        if self._place is not None:
            self._place.exited(reason)
        elif reason.error is not None:
            self._failed()

    def _broken(self) -> None:
        self._stopping = False
        self.kill()

    def _forget(self, child: Child) -> None:
        child.retire()
        if self._children.get(child.spec.name) is child:
            del self._children[child.spec.name]

    def _known(self, name: str, wanted: str = "child") -> Child:
        try:
            return self._children[name]
        except KeyError:
            raise UnknownChild(self.path, name, wanted, list(self._children)) from None

    def _tell(self, event: Callable[..., Any], *arguments: Any) -> None:
        if self._hosts.listener is not None:
            self._hosts.listener(event(*arguments))


def _handle(child: Child) -> Ref[Any] | Supervisor:
    if isinstance(child.life, Supervisor):
        return child.life
    if child.ref is None:
        raise SupervisorStopped(child.path)
    return child.ref


def _node(child: Child, widest: int | None) -> TreeNode:
    life = child.life
    return life.tree(widest) if isinstance(life, Supervisor) and not life.ended else node(child)
