"""Commands and their options. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

TARGET = "module:attribute or path/to/file.py:attribute; the attribute may be left out if there is one Runtime"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line; the command is `call`."""
    parser = argparse.ArgumentParser(
        prog="greenroom", description="An asyncio actor runtime for long-running LLM workflows."
    )
    parser.add_argument("--version", action="version", version=f"greenroom {version('greenroom')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, where: str, about: str, *, target: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(call=_later(where, name))
        if target:
            made.add_argument("target", help=TARGET)
        made.add_argument("--store", help="URL of the store, such as sqlite:///greenroom.db")
        made.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
        return made

    run = command("run", "execute", "run a workflow in this process, and follow it", target=True)
    run.add_argument("workflow", nargs="?", help="its name, if there are several")
    run.add_argument("--input", help="arguments as JSON, @file, or - for stdin")
    run.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="one argument; JSON or text")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="deadline of the run")
    run.add_argument("--jsonl", action="store_true", help="print every record as a line of JSON")

    serve = command("serve", "execute", "serve the API alone", target=True)
    _address(serve)
    worker = command("worker", "execute", "execute runs; SIGTERM drains, a second one stops at once", target=True)
    _working(worker)
    worker.add_argument("--name", help="its name, unique among workers")
    dev = command("dev", "execute", "API and worker in one process, restarted when a file changes", target=True)
    _address(dev)
    _working(dev)
    dev.add_argument("--no-reload", action="store_true", help="do not watch files")

    ps = command("ps", "reading", "list runs, newest first")
    ps.add_argument("--status", help="such as running or completed")
    ps.add_argument("--workflow")
    ps.add_argument("--limit", type=int, default=20)
    ps.add_argument("--json", action="store_true")
    logs = command("logs", "reading", "print a run's log")
    logs.add_argument("run")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until the run ends")
    logs.add_argument("--after", type=int, default=0, metavar="SEQ", help="begin after this record")
    logs.add_argument("--jsonl", action="store_true")
    logs.add_argument("--output", action="store_true", help="print the text that the run emitted")
    trace = command("trace", "reading", "print a run's steps, attempts, calls and tokens")
    trace.add_argument("run")
    trace.add_argument("--json", action="store_true")
    cancel = command("cancel", "reading", "ask a run to stop")
    cancel.add_argument("run")
    cancel.add_argument("--reason", default="")
    command("workflows", "reading", "list what a runtime can run", target=True)

    simulate = command("simulate", "simulating", "serve the provider simulator")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=8801)
    simulate.add_argument("--openai-rpm", type=float, default=500, help="requests a minute that it allows")
    simulate.add_argument("--gemini-rpm", type=float, default=300)
    simulate.add_argument("--fault", action="append", default=[], help="such as openai:503:share=0.2:from=2:until=5")
    simulate.add_argument("--seed", type=int, default=0)

    doctor = command("doctor", "doctor", "check what a run needs, and say how to fix it")
    doctor.add_argument("target", nargs="?", help=TARGET)
    doctor.add_argument("--host")
    doctor.add_argument("--port", type=int)
    return parser.parse_args(argv)


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host")
    command.add_argument("--port", type=int, help="default 8800; 0: any free one")
    command.add_argument("--insecure", action="store_true", help="listen beyond loopback without a token")


def _working(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lease-s", type=float, help="seconds until a silent worker's runs are taken over")
    command.add_argument("--capacity", type=int, help="runs at once")


def _later(module: str, name: str) -> Callable[[argparse.Namespace], Any]:
    def call(options: argparse.Namespace) -> Any:
        return getattr(import_module(f"{__package__}.{module}"), name)(options)

    return call
