"""Commands that execute: run, serve, worker, dev."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace
from contextlib import AsyncExitStack
from typing import Any

import anyio
import msgspec

from ..errors import ConfigInvalid, InputInvalid
from ..facade import Runtime
from ..records import Event
from ..router import RouterConfig
from ..runs import outcome
from ..worker import Worker
from .target import load_runtime, settle, worker_settings
from .views import Screen, print_result


def run(options: Namespace) -> int:
    """Run a workflow here and print its result."""
    if options.log_level is None and "GREENROOM_LOG_LEVEL" not in os.environ:
        options.log_level = "warning"
    settings = settle(options)
    runtime = load_runtime(options.target, settings)
    name = options.workflow or (next(iter(runtime.workflows)) if len(runtime.workflows) == 1 else None)
    if name is None:
        raise ConfigInvalid(f"there are several workflows: give one of {', '.join(runtime.workflows)}")
    payload = given_input(options)

    async def main() -> int:
        async with runtime:
            started, _ = await runtime.runs.start(name, payload, timeout_s=options.timeout)
            print(f"run {started.run_id}", file=sys.stderr)
            async with runtime.worker(worker_settings(settings, runtime)), anyio.create_task_group() as group:
                group.start_soon(_cancel_on_signal, runtime, started.run_id)
                with Screen() as screen:
                    async for event in runtime.runs.events(started.run_id):
                        if options.jsonl:
                            print(as_json(event), flush=True)
                        screen.show(event)
                group.cancel_scope.cancel()
            view = await runtime.runs.view(started.run_id)
            print_result(outcome(view))
            return 0

    return anyio.run(main)


async def _cancel_on_signal(runtime: Runtime, run_id: str) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            print("greenroom: canceling the run; once more to leave it as it is", file=sys.stderr)
            await runtime.runs.cancel(run_id, "interrupted")
            break
        async for _ in signals:
            raise KeyboardInterrupt


def serve(options: Namespace) -> int:
    """Serve the API alone."""
    settings = settle(options)
    runtime = load_runtime(options.target, settings)

    async def main() -> None:
        async with runtime:
            await _serve(runtime, settings.host, settings.port, options.insecure)

    anyio.run(main)
    return 0


async def _serve(runtime: Runtime, host: str, port: int, insecure: bool) -> None:
    from ..http import ApiOptions, serve

    def ready(url: str) -> None:
        print(f"API on {url}, described in {url}/openapi.json", file=sys.stderr, flush=True)

    app = runtime.asgi(ApiOptions.from_env(os.environ))
    await serve(app, host=host, port=port, insecure=insecure, ready=ready)


def worker(options: Namespace) -> int:
    """Execute runs until told to stop."""
    settings = settle(options)
    runtime = load_runtime(options.target, settings)

    async def main() -> None:
        async with runtime, runtime.worker(worker_settings(settings, runtime, options.name)) as at_work:
            print(f"worker {at_work.name} on {runtime.store}", file=sys.stderr, flush=True)
            async with anyio.create_task_group() as group:
                group.start_soon(_drain_on_signal, at_work)
                await at_work.wait()
                group.cancel_scope.cancel()

    anyio.run(main)
    return 0


async def _drain_on_signal(at_work: Worker) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            drains = False
            async for _ in signals:
                if drains:
                    raise KeyboardInterrupt
                drains = True
                print("greenroom: draining; once more to stop at once", file=sys.stderr, flush=True)
                group.start_soon(at_work.drain)


def dev(options: Namespace) -> int:
    """Serve the API and a worker, and start again when a file changes."""
    if not options.no_reload:
        from .reload import watch

        return watch(options)
    settings = settle(options)
    runtime = load_runtime(options.target, settings)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            if runtime.router is None and not RouterConfig.from_env(os.environ).models:
                from ..simulator import NOTICE, Simulator, serve_simulator

                at = await stack.enter_async_context(serve_simulator(Simulator()))
                runtime.router = RouterConfig.from_env(at.env)
                print(f"no provider key is set. {NOTICE} It is on {at.openai_url}", file=sys.stderr, flush=True)
            await stack.enter_async_context(runtime)
            await stack.enter_async_context(runtime.worker(worker_settings(settings, runtime)))
            await _serve(runtime, settings.host, settings.port, options.insecure)

    anyio.run(main)
    return 0


def given_input(options: Namespace) -> bytes:
    """Return the run's input as JSON, from --input and --arg."""
    text = options.input
    if text == "-":
        text = sys.stdin.read()
    elif text and text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise ConfigInvalid(f"--input: {text[1:]} cannot be read: {error.strerror}") from None
    try:
        value: Any = json.loads(text or "{}")
    except ValueError as error:
        raise InputInvalid("the command", "$", f"--input is not JSON ({error}): quote it as one argument") from None
    for argument in options.arg:
        name, found, raw = argument.partition("=")
        if not found or not isinstance(value, dict):
            raise ConfigInvalid(f"--arg {argument}: give NAME=VALUE, with an --input that is an object or left out")
        try:
            value[name] = json.loads(raw)
        except ValueError:
            value[name] = raw
    return json.dumps(value).encode()


def as_json(event: Event) -> str:
    """Return a record as a line of JSON."""
    body = msgspec.to_builtins(event.record)
    return msgspec.json.encode({"seq": event.seq, "ts": event.ts, "kind": event.kind, "data": body}).decode()
