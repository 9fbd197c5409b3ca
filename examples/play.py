"""The play that the demo performs: providers, workers and a run, one worker killed in the middle of a sentence.

This process is the API side: it starts the run and reads its log, and talks to no worker. Without a key it is the
provider too, as a simulator. When to kill is decided by what the log says, not by a clock.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from crew import WorkerEnded, open_crew
from newsroom import Article, newsroom
from stage import Stage
from verdict import Verdict, shortened

from greenroom import GreenroomError, Runtime
from greenroom.runtime.records import Event, LeaseTaken, OutputReset
from greenroom.runtime.router import RouterError
from greenroom.runtime.router.providers import known
from greenroom.runtime.simulator import NOTICE, Latency, Limits, ProviderPlan, Simulator, serve_simulator
from greenroom.transports import TransportError

NEWSROOM = Path(__file__).resolve().with_name("newsroom.py")
WORKERS = ("worker-1", "worker-2")
LEASE_S = 1.5
DEADLINE_S = 100.0
SHOWN = 150
"""Characters of the article that are out when its writer's worker is killed."""

PLANS = (
    ProviderPlan(
        name="openai",
        models=("gpt-5.2", "gpt-5.2-mini"),
        limits=Limits(requests_per_min=500, tokens_per_min=200_000, concurrency=64),
        latency=Latency(first_token_s=0.4, tokens_per_s=50.0),
    ),
    ProviderPlan(
        name="gemini",
        models=("gemini-3-pro", "gemini-3-flash"),
        limits=Limits(requests_per_min=500, tokens_per_min=200_000, concurrency=64),
        latency=Latency(first_token_s=0.5, tokens_per_s=60.0),
    ),
)
"""Simulated accounts with the limits that a router takes for granted where it is told no other."""


class Play:
    """What is known of the run so far, and what is shown of it. Its store and all that it writes go into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = Stage()
        self.store = f"sqlite:///{folder / 'greenroom.db'}"
        self.events: list[Event] = []
        self.taken_back = 0
        self.article: Article | None = None
        self.simulator: Simulator | None = None

    @property
    def holder(self) -> str:
        """Return the worker that has the run, as the log says."""
        return self.stage.fold.trace.leases[-1].worker

    @property
    def verdict(self) -> Verdict:
        """Return what there is to say by now."""
        counted = int(str(self.simulator.state()["http_429"])) if self.simulator is not None else None
        return Verdict(trace=self.stage.fold.trace, taken_back=self.taken_back, simulated_429=counted)

    def run(self) -> list[str]:
        """Perform it and write down what came of it; return what was promised and did not happen, a sentence each.

        Raises:
            KeyboardInterrupt: a signal ended it; all is cleaned up.
        """
        interrupted, trouble = False, list[str]()
        try:
            interrupted = anyio.run(self._until_signal)
        except* TimeoutError:
            trouble.append(f"the run did not end within {DEADLINE_S:g} s: see {self.folder}")
        except* (WorkerEnded, GreenroomError, RouterError, TransportError, OSError) as group:
            trouble += map(str, leaves(group))
        if interrupted:
            raise KeyboardInterrupt
        self._write_down()
        return trouble or self.verdict.faults()

    def told(self) -> str:
        """Return what came of it, for people."""
        parts = [""]
        if self.article is not None:
            parts += [f"  {self.article.headline}", "", shortened(self.article.text), ""]
        parts += [
            self.verdict.text(),
            f"  {'trace':9} {self.folder / 'trace.json'}; the log is beside it, or look with:",
        ]
        program = Path(sys.executable).with_name("greenroom")
        command = [str(program), "trace", self.stage.fold.trace.run_id, "--store", self.store]
        return "\n".join([*parts, f"            {shlex.join(command)}"])

    async def _until_signal(self) -> bool:
        """Perform it; True if a signal ended it. Further signals wait until all is cleaned up."""
        interrupted = False
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with anyio.create_task_group() as group:

                async def stop_on_signal() -> None:
                    nonlocal interrupted
                    async for _ in signals:
                        interrupted = True
                        group.cancel_scope.cancel()

                group.start_soon(stop_on_signal)
                with self.stage:
                    await self._perform()
                group.cancel_scope.cancel()
        return interrupted

    async def _perform(self) -> None:
        """Start providers, workers and the run; kill the worker that writes; follow the run to its end.

        Raises:
            WorkerEnded: a worker ended that nobody had killed.
            TimeoutError: it took too long.
        """
        with anyio.fail_after(DEADLINE_S):
            async with self._providers() as env, Runtime(newsroom, store=self.store) as runtime:
                target = f"{NEWSROOM}:runtime"
                async with open_crew(WORKERS, target, self.store, self.folder, env, lease_s=LEASE_S) as crew:
                    run = await runtime.start(newsroom, topic="tea")
                    self.stage.note(f"{len(WORKERS)} worker processes share {self.store}")
                    killed = False
                    async for event in run.events():
                        self._take(event)
                        if not killed and len(self.stage.output.text) >= SHOWN:
                            killed, pid = True, crew.kill(self.holder)
                            self.stage.note(f"kill -9 {pid}: {self.holder} is dead in the middle of a sentence")
                    if self.stage.fold.trace.status == "completed":
                        self.article = await run.result()

    @asynccontextmanager
    async def _providers(self) -> AsyncIterator[dict[str, str]]:
        """Have providers to call, and the environment in which workers find them."""
        env = dict(os.environ)
        keys = [one.key_env for one in known() if env.get(one.key_env)]
        if keys:
            self.stage.note(f"calling real providers: {' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} set")
            yield env
            return
        self.simulator = Simulator(PLANS)
        async with serve_simulator(self.simulator) as at:
            self.stage.note(f"no provider key is set. {NOTICE}")
            unset = {name: "" for name in env if name.startswith(("GREENROOM_OPENAI_", "GREENROOM_GEMINI_"))}
            yield env | unset | at.env

    def _take(self, event: Event) -> None:
        """Take in a record."""
        before = len(self.stage.output.text)
        self.events.append(event)
        self.stage.show(event)
        if isinstance(event.record, OutputReset):
            self.taken_back += before - len(self.stage.output.text)
        if isinstance(event.record, LeaseTaken) and event.record.takeover:
            self.stage.note(f"{event.record.worker} took over, with {event.record.recorded} results in the log")

    def _write_down(self) -> None:
        """Write the trace and the log into the folder."""
        (self.folder / "trace.json").write_bytes(msgspec.json.format(msgspec.json.encode(self.stage.fold.trace)))
        lines = [
            msgspec.json.encode({"seq": one.seq, "ts": one.ts, "kind": one.kind, "data": one.record})
            for one in self.events
        ]
        (self.folder / "log.jsonl").write_bytes(b"\n".join([*lines, b""]))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, and in the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error
