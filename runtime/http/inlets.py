"""The endpoints through which something reaches a run that goes on: signals and approvals.

Laws kept here: 9 (what is sent is checked against its type before it is written). The first decision counts: the same
one again is a 200, another one a 409.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from ..inlets import ApprovalView
from ..runs import Runs
from . import views
from .body import read_json
from .negotiation import idempotency_key
from .options import ApiOptions


class SendSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to a run: `data` fits the signal's type."""

    data: msgspec.Raw | UnsetType = UNSET


class Decide(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision: `decision` fits the approval's type, `by` says who took it."""

    decision: msgspec.Raw
    by: Annotated[str, Meta(max_length=200)] = ""


class ApprovalList(msgspec.Struct, frozen=True):
    """What a run has asked for, in the order of the questions."""

    data: tuple[ApprovalView, ...]


class InletResource:
    """The endpoints. `runs` gives the runs that a request may see, or raises `NotStarted`."""

    def __init__(self, runs: Callable[[Request], Runs], options: ApiOptions) -> None:
        self._runs = runs
        self._options = options

    async def signal(self, request: Request) -> Response:
        """Send a signal; with an `Idempotency-Key`, once for ever."""
        runs, run_id = self._runs(request), request.path_params["run_id"]
        key = idempotency_key(request)
        body = await read_json(request, SendSignal, self._options)
        await runs.inlets.signal(
            run_id, request.path_params["name"], b"null" if body.data is UNSET else bytes(body.data), id=key or ""
        )
        return views.reply(views.run_object(views.root_of(request), await runs.view(run_id)), 202)

    async def approvals(self, request: Request) -> Response:
        """List what the run has asked for."""
        return views.reply(
            ApprovalList(tuple(await self._runs(request).inlets.approvals(request.path_params["run_id"])))
        )

    async def decide(self, request: Request) -> Response:
        """Decide; 202 if this decided it, 200 if it was decided so before."""
        runs, approval = self._runs(request), request.path_params["approval"]
        body = await read_json(request, Decide, self._options)
        view, new = await runs.inlets.decide(request.path_params["run_id"], approval, bytes(body.decision), by=body.by)
        return views.reply(view, 202 if new else 200)
