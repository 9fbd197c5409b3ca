"""The root of a tree: where a supervisor meets the structured concurrency of the code around it.

Laws kept here:
- Law 7: one task group owns every task of the tree, and the context is not left before all of them have ended.
- Cancellation of the code inside the context stops the tree in order, and then goes on.
- If the root supervisor gives up, the code inside is canceled and the context raises why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .events import KernelEvent, Listener
from .host import Hosts
from .inline import LIMIT
from .spec import SupervisorSpec
from .supervisor import Supervisor


@asynccontextmanager
async def supervise(
    spec: SupervisorSpec, *, events: Listener | None = None, inline: int = LIMIT
) -> AsyncIterator[Supervisor]:
    """Run a supervision tree around a block of code.

    On leaving, children stop in reverse order of their start, each within its shutdown time.

    Args:
        spec: the root.
        events: hears of every start, exit, restart, escalation and dead letter. Without it, crashes are logged.
        inline: questions, in each turn of the event loop, that may be handled in the turn of their asker: by an actor
            that has nothing else to do, if its `receive` is a plain method. 0: all of them go by the queue.

    Raises:
        StartFailed: a child did not start.
        SupervisorFailed: the root gave up; the block has been canceled.
    """
    error: BaseException | None = None
    async with anyio.create_task_group() as group:
        hosts = Hosts(group, _guarded(events) if events is not None else None, inline)
        body = anyio.CancelScope()
        root = Supervisor(spec, spec.name, hosts, None, body.cancel)
        try:
            with body:
                await root.boot()
                yield root
        except BaseException as raised:  # kept and raised below: not inside, where the group would wrap it
            error = raised
        while not root.ended:
            hosts.mend()
            try:
                with anyio.CancelScope(shield=True):
                    await root.stop()
            except BaseException as raised:  # a second cancellation: no more patience
                error = raised
                root.kill()
        hosts.close()
    if error is not None:
        try:
            raise error
        finally:
            del error
    if body.cancelled_caught:
        await root.wait()


def _guarded(listener: Listener) -> Listener:
    loop = asyncio.get_running_loop()

    def tell(event: KernelEvent) -> None:
        try:
            listener(event)
        except Exception as error:
            loop.call_exception_handler({"message": f"the listener failed on {event!r}", "exception": error})

    return tell
