"""Two attempts of one call, of which the first answer counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx2

from .call import Call
from .failures import Refusal
from .lane import Ticket

Attempt = Callable[[Call, Ticket], Awaitable[tuple[httpx2.Response, Refusal | None]]]


async def race(
    attempt: Attempt, call: Call, ticket: Ticket, after_s: float, another: Callable[[], Ticket | None]
) -> tuple[httpx2.Response, Refusal | None, Ticket]:
    """Make an attempt, and another one if it takes longer than `after_s`; the first answer counts.

    Where both are refused the last refusal counts. The attempt that is too late is given up, and says nothing about
    its deployment.
    """
    over: list[tuple[httpx2.Response, Refusal | None, Ticket]] = []
    settled = anyio.Event()
    under_way = 1

    async def run(ticket: Ticket) -> None:
        nonlocal under_way
        try:
            response, refusal = await attempt(call, ticket)
        except BaseException:
            ticket.dropped("outrun")
            raise
        finally:
            under_way -= 1
        over.append((response, refusal, ticket))
        if refusal is None or not under_way:
            settled.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run, ticket)
            with anyio.move_on_after(after_s):
                await settled.wait()
            if not settled.is_set():
                hedge = another()
                if hedge is not None:
                    under_way += 1
                    group.start_soon(run, hedge)
                await settled.wait()
            group.cancel_scope.cancel()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            for response, _, _ in over:
                await response.aclose()
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    answered = [one for one in over if one[1] is None]
    for response, _, _ in answered[1:]:
        await response.aclose()
    return answered[0] if answered else over[-1]
