"""A worker's store, overheard: what a worker appends is measured once it is durable.

Why here: everything that a run does passes through one call, so nothing that runs needs to know of telemetry. A record
that was refused (a lost lease, a cancel) is not measured; one that was written is measured once, by who wrote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ...transports import (
    Append,
    Claim,
    Finish,
    Park,
    Run,
    StoreUnavailable,
    Transition,
    Transport,
    TransportError,
)
from .. import records
from ..records import Encoded, Record
from . import names
from .meters import Counter, Meters
from .spans import error_type


class Work:
    """A run that is executed here: its row when it was claimed, and the components whose steps are at work."""

    __slots__ = ("_claimed", "components", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.components: dict[str, str] = {}
        self._claimed = asyncio.get_running_loop().time()

    @property
    def age(self) -> float:
        """Seconds since it was created: by the store's clock up to the claim, and since then by the loop's."""
        return self.run.updated - self.run.created + asyncio.get_running_loop().time() - self._claimed


class Watched:
    """The contract over another transport; `append_all`, by which workers append, is overheard.

    Args:
        inner: the store.
        meters: what is measured.
        ended: told of every run that ends here, or may have ended.
    """

    def __init__(self, inner: Transport, meters: Meters, ended: Callable[[str], None]) -> None:
        self._inner = inner
        self._meters = meters
        self._ended = ended
        self._work: dict[str, Work] = {}
        self._completed: dict[str, tuple[Counter, Counter]] = {}

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's own."""
        return getattr(self._inner, name)

    async def claim(self, *args: Any, **kwargs: Any) -> list[Claim]:
        """Claim, and remember what is worked on."""
        claims = await self._inner.claim(*args, **kwargs)
        for claim in claims:
            self._work[claim.run.run_id] = Work(claim.run)
        return claims

    async def append_all(self, appends: Sequence[Append]) -> list[TransportError | None]:
        """Append, then measure. An end that nobody answered for may have happened all the same."""
        try:
            refusals = await self._inner.append_all(appends)
        except BaseException:
            for append in appends:
                if isinstance(append.to, Finish):
                    self._ended(append.lease.run_id)
            raise
        for append, refusal in zip(appends, refusals, strict=True):
            work = self._work.get(append.lease.run_id)
            if refusal is None and work is not None:
                for entry in append.entries:
                    if isinstance(entry, Encoded):
                        self._hear(work, entry.record)
                if append.to is not None:
                    self._transit(work, append.to)
            elif isinstance(refusal, StoreUnavailable) and isinstance(append.to, Finish):
                self._ended(append.lease.run_id)
        return refusals

    def forget(self, run_id: str) -> None:
        """A run is executed here no more, whatever became of it."""
        self._work.pop(run_id, None)

    def _transit(self, work: Work, to: Transition) -> None:
        run = work.run
        self.forget(run.run_id)
        if isinstance(to, Park):
            self._meters.record(names.PARKED, labels={"workflow": run.workflow})
        elif isinstance(to, Finish):
            about = {"workflow": run.workflow, "status": to.state.value}
            self._meters.record(names.RUNS, labels=about)
            self._meters.record(names.RUN_SECONDS, work.age, about)
            self._ended(run.run_id)

    def _hear(self, work: Work, record: Record) -> None:
        components = work.components
        if isinstance(record, records.StepStarted):
            if not record.waits_for:
                components[record.step] = record.name
        elif isinstance(record, records.StepCompleted):
            if (component := components.pop(record.step, None)) is not None:
                count, seconds = self._completed.get(component) or self._known(component)
                count.record()
                seconds.record(record.seconds)
        elif isinstance(record, records.StepFailed):
            if (component := components.pop(record.step, None)) is not None:
                self._meters.record(names.STEPS, labels={"component": component, "status": "failed"})
        elif isinstance(record, records.StepRetrying):
            if (component := components.get(record.step)) is not None:
                self._meters.record(names.RETRIES, labels={"component": component})
        elif isinstance(record, records.LLMCall):
            self._call(record)
        elif isinstance(record, records.LeaseTaken) and record.takeover:
            self._meters.record(names.TAKEOVERS, labels={"workflow": work.run.workflow})

    def _known(self, component: str) -> tuple[Counter, Counter]:
        count = self._meters.series(names.STEPS, {"component": component, "status": "completed"})
        seconds = self._meters.series(names.STEP_SECONDS, {"component": component})
        known = self._completed[component] = count, seconds
        return known

    def _call(self, call: records.LLMCall) -> None:
        about = {
            names.OPERATION: call.operation,
            names.PROVIDER: names.PROVIDERS.get(call.provider, call.provider or "unknown"),
            names.REQUEST_MODEL: call.asked_model,
            names.RESPONSE_MODEL: call.model or "unknown",
        }
        meters = self._meters
        if call.status == "failed":
            meters.record(names.CALL_SECONDS, call.seconds, {**about, names.ERROR_TYPE: error_type(call)})
            return
        meters.record(names.CALL_SECONDS, call.seconds, about)
        if call.first_token_s is not None:
            meters.record(names.FIRST_CHUNK_SECONDS, call.first_token_s, about)
        for kind, count in (("input", call.input_tokens), ("output", call.output_tokens)):
            if count:
                meters.record(names.TOKEN_USAGE, count, {**about, names.TOKEN_TYPE: kind})
