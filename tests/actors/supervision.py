"""What OTP says a supervision tree does, as a small model: no tasks, no time, one thing after the other.

It is written from OTP's manual and not from the kernel, and predicts every event that the kernel tells a listener, in
order. Events are tuples: ("+", path) started, ("*", path, n) restarted, ("-", path, exit), ("!", path) gave up,
("x", path, message, reason) dead letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from greenroom.actors import AutoShutdown, Restart, Strategy

Event = tuple[Any, ...]

NORMAL, SHUTDOWN, KILLED, CRASHED = "NORMAL", "SHUTDOWN", "KILLED", "CRASHED"
PLAIN, CRASH, LEAVE, HOLD = "plain", "crash", "leave", "hold"


@dataclass(frozen=True)
class Message:
    """What actors are told: handle it, crash, leave, or hold until released."""

    kind: str
    number: int


@dataclass(frozen=True)
class Part:
    """The plan of an actor. Kind: "bare", "hooked" (with a `started`) or "function"."""

    name: str
    restart: Restart
    kind: str
    brutal: bool = False
    significant: bool = False


@dataclass(frozen=True)
class Group:
    """The plan of a supervisor."""

    name: str
    restart: Restart
    strategy: Strategy
    intensity: int
    auto: AutoShutdown
    parts: tuple[Part | Group, ...]
    significant: bool = False


@dataclass(eq=False, repr=False)
class Place:
    """A child of a supervisor."""

    plan: Part | Group
    path: str
    above: Supervisor
    up: bool = False
    restarts: int = 0
    reason: str = NORMAL
    inner: Supervisor | None = None
    closed: str | None = None
    queue: list[Message] = field(default_factory=list)
    hand: Message | None = None
    watched: bool = False

    def __repr__(self) -> str:
        return f"<{self.path}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(eq=False, repr=False)
class Supervisor:
    """A supervisor in one of its lives."""

    plan: Group
    path: str
    place: Place | None
    children: dict[str, Place] = field(default_factory=dict)
    restarts: int = 0
    ended: bool = False

    def __repr__(self) -> str:
        return f"<{self.path}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


class Model:
    """The tree, and what it should have told so far.

    Attributes:
        events: what a listener should have heard since it was last looked at.
        handled: messages that each actor should have handled.
        lives: how often each actor should have been started.
        downs: notices that the watcher should have had.
        places: every actor's place there ever was.
        fails: starts that will fail, by path.
    """

    def __init__(self, plan: Group) -> None:
        self.events: list[Event] = []
        self.handled: dict[str, list[Message]] = {}
        self.lives: dict[str, int] = {}
        self.downs: list[tuple[str, str]] = []
        self.places: list[Place] = []
        self.fails: dict[str, int] = {}
        self.root = Supervisor(plan, plan.name, None)
        self.boot(self.root)

    # What may happen from outside

    def tell(self, place: Place, message: Message) -> None:
        """A message comes."""
        if place.closed is not None:
            self.letter(place, message, place.closed)
        else:
            place.queue.append(message)
            self.work(place)

    def release(self, place: Place) -> None:
        """The actor may go on with the message that it holds."""
        assert place.hand is not None
        self.handled.setdefault(place.path, []).append(place.hand)
        place.hand = None
        self.work(place)

    def watch(self, place: Place) -> None:
        """Somebody monitors the actor."""
        if place.closed is not None:
            self.downs.append((place.path, place.closed))
        else:
            place.watched = True

    def start_child(self, above: Supervisor, plan: Part | Group) -> str:
        """Return what start_child does: "started", "taken", "failed" or "stopped"."""
        if above.ended:
            return "stopped"
        place = above.children.get(plan.name)
        if place is None:
            place = above.children[plan.name] = self.place(plan, above)
        elif place.up:
            return "taken"
        place.plan = plan
        if not self.start(place):
            self.close(place)
            del above.children[plan.name]
            return "failed"
        self.events.append(("+", place.path))
        self.work(place)
        return "started"

    def stop_child(self, place: Place) -> None:
        """It is stopped by name."""
        self.stop(place)
        self.close(place)
        if place.plan.restart is Restart.TEMPORARY:
            del place.above.children[place.plan.name]

    def forget_restarts(self) -> None:
        """A long time passes."""
        for sup in self.supervisors():
            sup.restarts = 0

    # What to look at

    def supervisors(self, sup: Supervisor | None = None) -> Iterator[Supervisor]:
        """All that live."""
        sup = sup or self.root
        if not sup.ended:
            yield sup
            for place in sup.children.values():
                if place.inner is not None and place.up:
                    yield from self.supervisors(place.inner)

    def actors(self) -> Iterator[Place]:
        """All actors that live supervisors know, alive or not."""
        for sup in self.supervisors():
            yield from (place for place in sup.children.values() if isinstance(place.plan, Part))

    # What follows from it

    def place(self, plan: Part | Group, above: Supervisor) -> Place:
        place = Place(plan, f"{above.path}/{plan.name}", above)
        if isinstance(plan, Part):
            self.places.append(place)
        return place

    def boot(self, sup: Supervisor) -> bool:
        for plan in sup.plan.parts:
            if self.start_child(sup, plan) == "failed":
                self.stop_all(sup)
                return False
        return True

    def start(self, place: Place) -> bool:
        place.closed = None
        if isinstance(place.plan, Group):
            place.inner = Supervisor(place.plan, place.path, place)
            place.up = self.boot(place.inner)
        else:
            if place.plan.kind != "function":
                self.lives[place.path] = self.lives.get(place.path, 0) + 1
            place.up = place.plan.kind != "hooked" or not self.fails.get(place.path)
            if not place.up:
                self.fails[place.path] -= 1
        if not place.up:
            place.reason = CRASHED
            self.events.append(("-", place.path, CRASHED))
        return place.up

    def work(self, place: Place) -> None:
        """Handle what is in the queue, as far as it goes."""
        while place.up and place.queue and place.hand is None:
            message = place.queue.pop(0)
            if message.kind == HOLD:
                place.hand = message
            elif message.kind == CRASH:
                self.letter(place, message, CRASHED)
                self.leave(place, CRASHED)
            else:
                self.handled.setdefault(place.path, []).append(message)
                if message.kind == LEAVE:
                    self.leave(place, NORMAL)

    def leave(self, place: Place, reason: str) -> None:
        """A child ends by itself."""
        place.up, place.reason = False, reason
        self.events.append(("-", place.path, reason))
        sup, restart = place.above, place.plan.restart
        if restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and reason in (CRASHED, KILLED)):
            self.restart(sup, place)
            return
        self.close(place)
        if restart is Restart.TEMPORARY:
            del sup.children[place.plan.name]
        significant = [child for child in sup.children.values() if child.plan.significant and child.up]
        if place.plan.significant and (sup.plan.auto is AutoShutdown.ANY or not significant):
            self.stop_all(sup)
            self.end(sup, SHUTDOWN)

    def restart(self, sup: Supervisor, failed: Place | None) -> None:
        while failed is not None:
            sup.restarts += 1
            if sup.restarts > sup.plan.intensity:
                self.events.append(("!", sup.path))
                self.stop_all(sup)
                self.end(sup, CRASHED)
                return
            line = list(sup.children.values())
            if sup.plan.strategy is Strategy.ONE_FOR_ONE:
                group = [failed]
            else:
                group = line if sup.plan.strategy is Strategy.ONE_FOR_ALL else line[line.index(failed) :]
            for member in reversed(group):
                self.stop(member)
                if member.plan.restart is Restart.TEMPORARY:
                    self.close(member)
                    del sup.children[member.plan.name]
            failed = None
            again = [member for member in group if member.plan.restart is not Restart.TEMPORARY]
            for member in again:
                if not self.start(member):
                    failed = member
                    break
                member.restarts += 1
                self.events.append(("*", member.path, member.restarts))
            else:
                for member in again:
                    self.work(member)

    def stop(self, place: Place) -> None:
        if not place.up:
            return
        if place.inner is not None:
            self.stop_all(place.inner)
            reason = SHUTDOWN
        elif place.hand is not None:
            self.letter(place, place.hand, KILLED)
            place.hand = None
            reason = KILLED
        else:
            reason = KILLED if isinstance(place.plan, Part) and place.plan.brutal else SHUTDOWN
        place.up, place.reason = False, reason
        self.events.append(("-", place.path, reason))

    def stop_all(self, sup: Supervisor) -> None:
        sup.ended = True
        for place in reversed(sup.children.values()):
            self.stop(place)
            self.close(place)

    def end(self, sup: Supervisor, reason: str) -> None:
        if sup.place is not None:
            self.leave(sup.place, reason)

    def close(self, place: Place) -> None:
        """Nobody will hold the place for now."""
        if place.closed is None and isinstance(place.plan, Part):
            place.closed = place.reason
            queue, place.queue = place.queue, []
            for message in queue:
                self.letter(place, message, place.reason)
            if place.watched:
                place.watched = False
                self.downs.append((place.path, place.reason))

    def letter(self, place: Place, message: Message, reason: str) -> None:
        self.events.append(("x", place.path, message, reason))
