"""The facade: workflows, a store and a router put together, to embed in a service or to serve on its own.

Why: an embedder should need one object. It holds no state of its own: everything durable is in the transport,
everything live is in the worker, and both have the lifetime of an `async with`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

from ..transports import Codec, Run, open_transport
from .definitions import Workflow
from .errors import ConfigInvalid, InputInvalid, NotStarted
from .log import Output
from .payload import from_json, to_json
from .records import Event
from .router import RouterConfig
from .runs import Runs, RunView
from .settings import WorkerSettings
from .signals import Signal
from .telemetry import Meters, Telemetry
from .worker import Worker, open_worker

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .client.blocking import Blocking
    from .http import ApiOptions
    from .http.streams import Streams

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

DEFAULT_STORE = "sqlite:///greenroom.db"


class Runtime:
    """Workflows over a store.

        runtime = Runtime(newsroom, store="sqlite:///greenroom.db")
        async with runtime, runtime.worker():
            run = await runtime.start(newsroom, topic="tea")
            print(await run.result())

    Args:
        workflows: what it can run; names must be unique.
        store: the transport's URL: `memory://`, `sqlite:///file.db`.
        codecs: what wraps the bodies of records: the first one those that are written.
        router: where LLM calls go; by default what the environment says (`OPENAI_API_KEY`, `GEMINI_API_KEY`).
        settings: how its workers work.
        telemetry: what its workers export; by default what the environment says (`OTEL_EXPORTER_OTLP_ENDPOINT`).

    Raises:
        ConfigInvalid: two workflows of one name, something that is no workflow, or an example that does not fit.
    """

    def __init__(
        self,
        *workflows: Workflow[..., Any],
        store: str = DEFAULT_STORE,
        codecs: Sequence[Codec] = (),
        router: RouterConfig | None = None,
        settings: WorkerSettings | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        by_name: dict[str, Workflow[..., Any]] = {}
        for workflow in workflows:
            if not isinstance(workflow, Workflow):
                raise ConfigInvalid(f"{workflow!r} is no workflow: decorate it with @workflow")
            if workflow.name in by_name:
                raise ConfigInvalid(f"two workflows are named {workflow.name!r}: give one another name=")
            if workflow.example is not None:
                _check_example(workflow)
            by_name[workflow.name] = workflow
        self.workflows: Mapping[str, Workflow[..., Any]] = MappingProxyType(by_name)
        self.store = store
        self.codecs = tuple(codecs)
        self.router = router
        self.settings = settings or WorkerSettings()
        self.telemetry = telemetry
        self.meters = Meters()
        self._open: AsyncExitStack | None = None
        self._runs: Runs | None = None
        self._streams: list[Streams] = []

    @property
    def runs(self) -> Runs:
        """Accept and read runs.

        Raises:
            NotStarted: the runtime is not open.
        """
        if self._runs is None:
            raise NotStarted(
                "the runtime is not open: use it inside 'async with runtime:', or pass lifespan=runtime.lifespan"
            )
        return self._runs

    async def __aenter__(self) -> Self:
        """Open the store."""
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(open_transport(self.store, codecs=self.codecs))
            self._runs = Runs(transport, self.workflows)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        stack, self._open, self._runs = self._open, None, None
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def worker(self, settings: WorkerSettings | None = None) -> AsyncIterator[Worker]:
        """Run a worker in this process; it drains on leaving."""
        async with open_worker(
            self.runs.transport,
            self.workflows,
            settings or self.settings,
            self.router,
            telemetry=self.telemetry or Telemetry.from_env(os.environ),
            meters=self.meters,
        ) as worker:
            yield worker

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the runtime and a worker for the life of an ASGI app: `FastAPI(lifespan=runtime.lifespan)`.

        SIGTERM and SIGINT first end the event streams of what `asgi` made: a server waits for them, and they for runs.
        """
        with ExitStack() as drained:
            for streams in self._streams:
                drained.enter_context(streams.drained_by_signals())
            async with self, self.worker():
                yield

    @contextmanager
    def blocking(self) -> Iterator[Blocking]:
        """Open the runtime and a worker for code that is not async: scripts, notebooks, other threads.

            with Runtime(newsroom).blocking() as runtime:
                print(runtime.start(newsroom, topic="tea").result())

        Its event loop runs in a thread that ends with the block. Calls of it and of its runs block; streams are plain
        iterators; it may be used from several threads.
        """
        from .client.blocking import open_blocking

        @asynccontextmanager
        async def opened() -> AsyncIterator[Runtime]:
            async with self, self.worker():
                yield self

        with open_blocking(opened, (Runtime, RunHandle)) as view:
            yield view

    def asgi(self, options: ApiOptions | None = None) -> Starlette:
        """Make the HTTP API as an ASGI app, to mount anywhere or to serve alone."""
        from .http import ApiOptions, api
        from .http.streams import Streams

        options = options or ApiOptions()
        streams = Streams(options.max_streams)
        self._streams.append(streams)
        return api(lambda: self.runs, options=options, streams=streams, meters=self.meters)

    async def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Start a run. For keys, tags and deadlines see `Runs.start`.

        Raises:
            UnknownWorkflow: the runtime does not have this workflow.
            InputInvalid: an argument does not fit the workflow's types.
        """
        run, _ = await self.runs.start(workflow.name, workflow.encode(workflow.bind(*args, **kwargs)))
        return RunHandle(self.runs, workflow, run.run_id)

    def handle(self, workflow: Workflow[P, R], run_id: str) -> RunHandle[R]:
        """Return the handle of a run that was started before."""
        return RunHandle(self.runs, workflow, run_id)


def _check_example(workflow: Workflow[..., Any]) -> None:
    try:
        workflow.parse(workflow.encode(dict(workflow.example or {})))
    except InputInvalid as error:
        raise ConfigInvalid(
            f"the example of workflow {workflow.name} is wrong at {error.path}: {error.detail}"
        ) from None


Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""What an ASGI framework opens for the life of an app."""


def lifespan(*runtimes: Runtime, wrap: Lifespan | None = None) -> Lifespan:
    """Put the lifespans of runtimes, and one that an app has already, into one: `FastAPI(lifespan=lifespan(runtime))`.

    Args:
        runtimes: opened in this order, with a worker each.
        wrap: the app's own; opened first, closed last, and what it yields is the app's state.
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(wrap(app)) if wrap is not None else None
            for runtime in runtimes:
                await stack.enter_async_context(runtime.lifespan(app))
            yield state

    return opened


class RunHandle(Generic[R]):
    """A started run; it can be dropped and made again from its id, anywhere."""

    def __init__(self, runs: Runs, workflow: Workflow[Any, R], run_id: str) -> None:
        self.run_id = run_id
        self._runs = runs
        self._workflow = workflow

    async def result(self, timeout_s: float | None = None) -> R:
        """Wait for the result.

        Raises:
            RunFailed, RunCanceled, RunTimedOut: it ended without one.
            WaitTimedOut: it goes on after `timeout_s` seconds.
        """
        raw = await self._runs.result(self.run_id, timeout_s)
        return cast("R", from_json(raw, self._workflow.signature.result))

    async def view(self) -> RunView:
        """Look at the run as it stands."""
        return await self._runs.view(self.run_id)

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Follow its log from a cursor on; ends with the run."""
        return self._runs.events(self.run_id, after)

    async def output(self) -> str:
        """Wait for its end and return the text that it emitted."""
        output = Output()
        async for event in self.events():
            output.apply(event)
        return output.text

    async def send(self, signal: Signal[T], value: T) -> None:
        """Send something to it.

        Raises:
            UnknownInlet: its workflow does not declare this signal.
            RunEnded: it has ended.
        """
        await self._runs.inlets.signal(self.run_id, signal.name, to_json(value, f"signal {signal.name}"))

    async def cancel(self, reason: str = "") -> Run:
        """Ask it to stop."""
        return await self._runs.cancel(self.run_id, reason)
