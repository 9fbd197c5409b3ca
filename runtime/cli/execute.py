"""Commands that execute: run, serve, worker, dev."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import anyio

from ...transports import RunEnded
from ..config import Settings
from ..errors import ConfigInvalid, UnknownWorkflow
from ..facade import Runtime
from ..router import RouterConfig
from ..runs import outcome
from ..settings import WorkerSettings
from .input import read_input
from .output import give, say
from .process import collect_rarely, live
from .screen import Screen
from .signals import told_to_stop
from .store import must_be_shared
from .target import equip, load_runtime, settle
from .views import as_json, run_as_json

HASTE_S = 1.0
"""How long `run` and `dev` wait for steps under way when they end, seconds: somebody is waiting."""


def run(options: Namespace) -> int:
    """Run a workflow here and give its result."""
    settings = settle(options, level="error")
    runtime = load_runtime(options.target, settings)
    equip(runtime, settings)
    name = options.workflow or (next(iter(runtime.workflows)) if len(runtime.workflows) == 1 else None)
    if name is None:
        raise ConfigInvalid(f"there are several workflows: name one of {', '.join(sorted(runtime.workflows))}")
    if name not in runtime.workflows:
        raise UnknownWorkflow(name, runtime.workflows)
    payload = read_input(options.input)
    runtime.workflows[name].parse(payload)

    async def main() -> int:
        notice = "canceling the run; once more to leave it for another worker"
        async with told_to_stop(notice) as told, runtime:
            started, _ = await runtime.runs.start(name, payload, timeout_s=options.timeout)
            if not options.quiet:
                say(f"run {started.run_id}")
            async with runtime.worker(_hasty(runtime)), anyio.create_task_group() as group:
                group.start_soon(_cancel, runtime, started.run_id, told)
                await _follow(runtime, started.run_id, options)
                group.cancel_scope.cancel()
            view = await runtime.runs.view(started.run_id)
            if options.json:
                give(run_as_json(view))
            if told.is_set() and view.error is not None:
                return 130
            result = outcome(view)
            if not (options.json or options.jsonl):
                give(result.decode())
            return 0

    return anyio.run(main)


async def _follow(runtime: Runtime, run_id: str, options: Namespace) -> None:
    with Screen(quiet=options.quiet) as screen:
        async for event in runtime.runs.events(run_id):
            if options.jsonl:
                give(as_json(event))
            screen.show(event)


async def _cancel(runtime: Runtime, run_id: str, told: anyio.Event) -> None:
    await told.wait()
    with suppress(RunEnded):
        await runtime.runs.cancel(run_id, "interrupted")


def _hasty(runtime: Runtime) -> WorkerSettings:
    return replace(runtime.settings, drain_s=min(HASTE_S, runtime.settings.drain_s))


def serve(options: Namespace) -> int:
    """Serve the API alone."""
    settings = settle(options)
    runtime = load_runtime(options.target, settings)
    must_be_shared(runtime.store)

    async def main() -> None:
        async with told_to_stop("stopping; once more to stop at once"), runtime:
            collect_rarely()
            await _serve(runtime, settings, options)

    live(main)
    return 0


async def _serve(runtime: Runtime, settings: Settings, options: Namespace) -> None:
    from ..http import serve
    from .tokens import api_options

    def ready(url: str) -> None:
        if not options.quiet:
            say(f"API        {url}/v1/workflows\nOpenAPI    {url}/openapi.json\nDashboard  {url}/dashboard")
            for name in runtime.workflows:
                say(f"start one  POST {url}/v1/workflows/{name}/runs")

    app = runtime.asgi(api_options(settings))
    await serve(app, host=settings.host, port=settings.port, insecure=options.insecure, ready=ready)


def worker(options: Namespace) -> int:
    """Execute runs until told to stop."""
    settings = settle(options)
    runtime = load_runtime(options.target, settings)
    must_be_shared(runtime.store)
    equip(runtime, settings)

    async def main() -> None:
        own = runtime.settings
        async with (
            told_to_stop("draining; once more to stop at once") as told,
            runtime,
            runtime.worker(replace(own, name=options.name or own.name)) as at_work,
        ):
            collect_rarely()
            if not options.quiet:
                say(f"worker {at_work.name} on {runtime.store}")
            async with anyio.create_task_group() as group:
                if options.metrics_port is not None:
                    group.start_soon(_serve_metrics, runtime, settings, options)
                await told.wait()
                group.cancel_scope.cancel()

    live(main)
    return 0


async def _serve_metrics(runtime: Runtime, settings: Settings, options: Namespace) -> None:
    from ..http import serve
    from ..http.metrics import metrics_app
    from .tokens import api_options

    def ready(url: str) -> None:
        if not options.quiet:
            say(f"metrics    {url}/metrics")

    app = metrics_app(runtime.meters, options=api_options(settings))
    await serve(app, host=options.metrics_host, port=options.metrics_port, ready=ready)


def dev(options: Namespace) -> int:
    """Serve the API and a worker."""
    settings = settle(options)
    runtime = load_runtime(options.target, settings)
    equip(runtime, settings)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            told = await stack.enter_async_context(told_to_stop("draining; once more to stop at once"))
            await stack.enter_async_context(_simulated(runtime))
            await stack.enter_async_context(runtime)
            await stack.enter_async_context(runtime.worker(_hasty(runtime)))
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(_cancel_when_told, group.cancel_scope, told)
            if options.child_of is not None:
                group.start_soon(_cancel_when_orphaned, group.cancel_scope, options.child_of)
            await _serve(runtime, settings, options)
            group.cancel_scope.cancel()

    live(main)
    return 0


@asynccontextmanager
async def _simulated(runtime: Runtime) -> AsyncIterator[None]:
    """Let a simulator stand in for the providers if there is no key."""
    if runtime.router is not None or RouterConfig.from_env(os.environ).models:
        yield
        return
    from ..simulator import NOTICE, Simulator, serve_simulator

    async with serve_simulator(Simulator()) as at:
        runtime.router = RouterConfig.from_env(at.env)
        say(f"simulator  {at.openai_url} because no provider key is set. {NOTICE}")
        yield


async def _cancel_when_told(scope: anyio.CancelScope, told: anyio.Event) -> None:
    await told.wait()
    scope.cancel()


async def _cancel_when_orphaned(scope: anyio.CancelScope, parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await anyio.sleep(1)
    scope.cancel()
