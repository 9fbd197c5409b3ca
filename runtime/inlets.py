"""What reaches a run that goes on: signals and decisions, checked against what its workflow declares.

Laws kept here: 9 (what does not fit is refused before anything is written). The first decision on an approval counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from ..transports import Run, Stored, Transport
from .definitions import Workflow
from .errors import DecisionConflict, UnknownInlet, UnknownWorkflow
from .records import ApprovalRequested, ApprovalResolved, SignalReceived, decode, encode


class ApprovalView(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asked for; `decision` is None while nobody has decided."""

    approval: str
    name: str
    question: str
    data: msgspec.Raw
    decision: msgspec.Raw | None = None
    by: str = ""


class Inlets:
    """The ways into the runs of some workflows in one transport."""

    def __init__(self, transport: Transport, workflows: Mapping[str, Workflow[Any, Any]]) -> None:
        self.transport = transport
        self.workflows = workflows

    async def signal(self, run_id: str, name: str, data: bytes, *, id: str = "") -> Run:  # noqa: A002
        """Send something to a run. It is kept until the workflow waits for it.

        Args:
            run_id: the run.
            name: of a signal that its workflow declares.
            data: JSON that fits the signal's type.
            id: of several signals of a run with one id only the first counts; "" for none.

        Raises:
            UnknownInlet: the workflow declares no such signal.
            InputInvalid: the data does not fit.
            RunEnded, RunNotFound: nobody will take it.
        """
        run = await self.transport.run(run_id)
        inlets = workflow_of(run, self.workflows).signals
        if name not in inlets:
            raise UnknownInlet(f"signal for workflow {run.workflow}", name, inlets)
        record = SignalReceived(name=name, data=msgspec.Raw(inlets[name].check(data)), id=id)
        return await self.transport.post(run_id, [encode(record)])

    async def approvals(self, run_id: str) -> Sequence[ApprovalView]:
        """What a run has asked for, and what was decided, in the order of the questions."""
        asked: dict[str, ApprovalView] = {}
        async for page in history(self.transport, await self.transport.run(run_id)):
            for stored in page:
                if stored.kind == ApprovalRequested.kind:
                    question = decode(stored).record
                    assert isinstance(question, ApprovalRequested)
                    asked[question.approval] = ApprovalView(
                        approval=question.approval, name=question.name, question=question.question, data=question.data
                    )
                elif stored.kind == ApprovalResolved.kind:
                    answer = decode(stored).record
                    assert isinstance(answer, ApprovalResolved)
                    view = asked.get(answer.approval)
                    if view is not None and view.decision is None:
                        asked[answer.approval] = msgspec.structs.replace(view, decision=answer.decision, by=answer.by)
        return tuple(asked.values())

    async def decide(self, run_id: str, approval: str, decision: bytes, *, by: str = "") -> tuple[ApprovalView, bool]:
        """Decide what a run has asked for; the approval as it stands, and whether this decided it.

        Raises:
            UnknownInlet: the run has asked for no such approval.
            InputInvalid: the decision does not fit the approval's type.
            DecisionConflict: it was decided otherwise.
            RunEnded, RunNotFound: nobody will hear of it.
        """
        run = await self.transport.run(run_id)
        view = await self._approval(run_id, approval)
        inlets = workflow_of(run, self.workflows).approvals
        if view.name not in inlets:
            raise UnknownInlet(f"approval of workflow {run.workflow}", view.name, inlets)
        wanted = msgspec.Raw(inlets[view.name].check(decision))
        if new := view.decision is None:
            record = ApprovalResolved(approval=approval, decision=wanted, by=by)
            await self.transport.post(run_id, [encode(record)])
            view = await self._approval(run_id, approval)
        if bytes(view.decision or b"") != bytes(wanted):
            raise DecisionConflict(approval, bytes(view.decision or b""))
        return view, new

    async def _approval(self, run_id: str, approval: str) -> ApprovalView:
        views = {view.approval: view for view in await self.approvals(run_id)}
        if approval not in views:
            raise UnknownInlet(f"approval of run {run_id}", approval, views)
        return views[approval]


def workflow_of(run: Run, workflows: Mapping[str, Workflow[Any, Any]]) -> Workflow[Any, Any]:
    """Return the definition of a run's workflow.

    Raises:
        UnknownWorkflow: it is not among these.
    """
    if run.workflow not in workflows:
        raise UnknownWorkflow(run.workflow, workflows)
    return workflows[run.workflow]


async def history(transport: Transport, run: Run) -> AsyncIterator[Sequence[Stored]]:
    """Read a log as far as it goes now, page by page."""
    after = 0
    while after < run.seq:
        page = await transport.read(run.run_id, after, min(1000, run.seq - after))
        yield page
        after = page[-1].seq
