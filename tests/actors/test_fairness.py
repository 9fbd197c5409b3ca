"""Fairness as a property: whoever else is busy, an actor with mail gets its turn within a bounded number of others'."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from greenroom.actors import Actor, ChildSpec, Mailbox, MailboxSpec, SupervisorSpec, supervise
from greenroom.actors.turn import BATCH
from greenroom.runtime.testing.clock import VirtualLoop


class Tally:
    """How many messages each actor has handled."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def note(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


class Greedy(Actor[Any]):
    """Always has another message."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def receive(self, message: Any) -> Any:
        self.tally.note(self.context.path)
        self.context.ref.tell(message)


class Housed(Greedy):
    """The same with a task of its own."""

    async def started(self) -> None:
        pass


class Awaiting(Greedy):
    """The same with an async handler that never has to wait."""

    async def receive(self, message: Any) -> None:
        self.tally.note(self.context.path)
        self.context.ref.tell(message)


def function(tally: Tally, mailbox: Mailbox[Any]) -> Any:
    async def greedy() -> None:
        while True:
            message = await mailbox.get()
            tally.note(mailbox.path)
            mailbox.ref.tell(message)

    return greedy()


class Quiet(Actor[Any]):
    """Writes down when it is heard at last."""

    def __init__(self, heard: asyncio.Event) -> None:
        self.heard = heard

    def receive(self, message: Any) -> None:
        self.heard.set()


class QuietHoused(Quiet):
    """The same with a task of its own."""

    async def started(self) -> None:
        pass


KINDS: dict[str, Any] = {"bare": Greedy, "housed": Housed, "awaiting": Awaiting}


@settings(deadline=None, max_examples=60, phases=(Phase.reuse, Phase.generate, Phase.shrink))
@given(
    busy=st.lists(st.sampled_from(["bare", "housed", "awaiting", "function"]), min_size=1, max_size=5),
    burst=st.integers(1, 300),
    warm=st.integers(0, 4),
    quiet=st.sampled_from([Quiet, QuietHoused]),
    seed=st.integers(0, 1000),
)
def test_no_number_of_busy_actors_keeps_another_from_its_turn(
    busy: list[str], burst: int, warm: int, quiet: type[Quiet], seed: int
) -> None:
    """Time stands still within a turn of the virtual loop, so it is messages alone that bound a turn here."""
    tally = Tally()

    async def main() -> None:
        heard = asyncio.Event()
        unbounded = MailboxSpec(capacity=None)
        starts = [partial(function, tally) if kind == "function" else partial(KINDS[kind], tally) for kind in busy]
        children = tuple(
            ChildSpec(name=f"b{number}", start=start, mailbox=unbounded, shutdown=0)
            for number, start in enumerate(starts)
        )
        spec = SupervisorSpec(name="root", children=(*children, ChildSpec(name="q", start=partial(quiet, heard))))
        async with supervise(spec) as tree:
            for number in range(len(busy)):
                for _ in range(burst):
                    tree.ref(f"b{number}").tell("again")
            for _ in range(warm):
                await asyncio.sleep(0)
            before = dict(tally.counts)
            tree.ref("q").tell("here")
            turns = 0
            while not heard.is_set():
                await asyncio.sleep(0)
                turns += 1
                assert turns <= len(busy) + 4, "starved: the loop turned, and it had no turn"
            for path, count in tally.counts.items():
                assert count - before.get(path, 0) <= BATCH * (turns + 1), f"{path} had more than a batch a turn"

    with asyncio.Runner(loop_factory=partial(VirtualLoop, seed)) as runner:
        runner.run(main())
