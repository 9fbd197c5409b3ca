"""Commands and their options. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

TARGET = "module:attribute or path/to/file.py:attribute; the attribute may be left out if there is only one"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line; the command is `call`."""
    return parser().parse_args(argv)


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    made = argparse.ArgumentParser(
        prog="greenroom", description="An asyncio actor runtime for long-running LLM workflows.", allow_abbrev=False
    )
    made.add_argument("--version", action="version", version=f"greenroom {version('greenroom')}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, where: str, about: str, *, settings: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
        made.set_defaults(call=_later(where, name), quiet=False)
        if settings:
            made.add_argument("--store", metavar="URL", help="of the store (default sqlite:///greenroom.db)")
            made.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
            made.add_argument("--quiet", "-q", action="store_true", help="no progress, only data and errors")
        return made

    run = command("run", "execute", "run a workflow in this process, and follow it")
    run.add_argument("target", metavar="TARGET", help=TARGET)
    run.add_argument("workflow", metavar="WORKFLOW", nargs="?", help="its name, if there are several")
    run.add_argument(
        "--input",
        "-i",
        action="append",
        default=[],
        metavar="INPUT",
        help="a JSON object, NAME=VALUE, @file or - for standard input; may be repeated",
    )
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="deadline of the run")
    run.add_argument("--json", action="store_true", help="give run, result and error as one JSON object")
    run.add_argument("--jsonl", action="store_true", help="give every record as a line of JSON")
    _working(run)

    serve = command("serve", "execute", "serve the API alone")
    serve.add_argument("target", metavar="TARGET", help=TARGET)
    _address(serve)

    worker = command("worker", "execute", "execute runs; SIGTERM drains, a second one stops at once")
    worker.add_argument("target", metavar="TARGET", help=TARGET)
    worker.add_argument("--name", help="unique among workers (default: host, process and a random part)")
    worker.add_argument(
        "--metrics-port", type=_whole(0, 65535), metavar="N", help="serve /metrics there; 0: any free one"
    )
    worker.add_argument("--metrics-host", default="127.0.0.1", metavar="HOST", help="where (default 127.0.0.1)")
    _working(worker)

    dev = command("dev", "reload", "API and worker in one process, started again when a file changes")
    dev.add_argument("target", metavar="TARGET", help=TARGET)
    dev.add_argument("--no-reload", action="store_true", help="do not watch files")
    dev.add_argument("--child-of", type=int, help=argparse.SUPPRESS)
    _address(dev)
    _working(dev)

    ps = command("ps", "reading", "list runs, newest first")
    ps.add_argument("--status", metavar="STATE", help="such as running or failed")
    ps.add_argument("--workflow", metavar="NAME", help="runs of this workflow")
    ps.add_argument("--limit", type=_whole(1, 1000), default=20, metavar="N", help="at most, up to 1000 (default 20)")
    ps.add_argument("--json", action="store_true", help="give a JSON array")

    logs = command("logs", "reading", "give a run's log")
    logs.add_argument("run", metavar="RUN", help="its id")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until the run ends")
    logs.add_argument("--after", type=_whole(0), default=0, metavar="SEQ", help="begin after this record")
    logs.add_argument("--jsonl", action="store_true", help="give every record as a line of JSON")
    logs.add_argument("--output", action="store_true", help="give the text that the run emitted instead")

    trace = command("trace", "reading", "give a run's steps, attempts, LLM calls and tokens as a tree")
    trace.add_argument("run", metavar="RUN", help="its id")
    trace.add_argument("--json", action="store_true", help="give one JSON object")

    verify = command("verify", "verify", "check every run of a store against the laws that durable runs keep")
    verify.add_argument("url", metavar="STORE", nargs="?", help="its URL (default: that of --store)")
    verify.add_argument("--json", action="store_true", help="give counts and findings as one JSON object")

    top = command("top", "watching", "watch runs, workers and providers")
    _seen_at(top)
    top.add_argument("--interval", type=_above_0, default=2.0, metavar="SECONDS", help="between two looks (default 2)")
    top.add_argument("--once", action="store_true", help="give one picture and end, as where there is no terminal")
    top.add_argument("--jsonl", action="store_true", help="give a JSON object a line, as often as the interval says")

    tree = command("tree", "watching", "draw the supervision tree of every worker")
    _seen_at(tree)
    tree.add_argument("worker", metavar="WORKER", nargs="?", help="its name (default: all that were heard of lately)")

    cancel = command("cancel", "sending", "ask runs to stop")
    cancel.add_argument("run", metavar="RUN", nargs="*", help="their ids")
    cancel.add_argument("--workflow", metavar="NAME", help="all live runs of this workflow")
    cancel.add_argument("--all", action="store_true", help="all live runs")
    cancel.add_argument("--reason", default="", metavar="TEXT", help="is written into the run's log")

    signal = command("signal", "sending", "send a run a signal that its workflow takes")
    signal.add_argument("target", metavar="TARGET", help=TARGET)
    signal.add_argument("run", metavar="RUN", help="its id")
    signal.add_argument("name", metavar="NAME", help="of the signal")
    signal.add_argument("data", metavar="DATA", nargs="?", default="null", help="JSON, or else text (default null)")

    approve = command("approve", "sending", "decide what a run asks for, or list what it asks for")
    approve.add_argument("target", metavar="TARGET", help=TARGET)
    approve.add_argument("run", metavar="RUN", help="its id")
    approve.add_argument("approval", metavar="APPROVAL", nargs="?", help="its id; without it they are listed")
    approve.add_argument(
        "decision",
        metavar="DECISION",
        nargs="?",
        default='{"approved": true}',
        help='JSON (default {"approved": true})',
    )
    approve.add_argument("--by", default="", metavar="WHO", help="is written into the run's log")

    fork = command("fork", "again", "start a new run with the results of another one, and give its id")
    fork.add_argument("target", metavar="TARGET", help=TARGET)
    fork.add_argument("run", metavar="RUN", help="the old run's id")
    fork.add_argument("--at", metavar="STEP", help="make this step again, and all that ended after it began")
    fork.add_argument("--input", "-i", action="append", default=[], metavar="INPUT", help="other arguments, as for run")

    retry = command("retry", "again", "start runs that failed again from their last good steps, as new runs")
    retry.add_argument("target", metavar="TARGET", help=TARGET)
    retry.add_argument("run", metavar="RUN", nargs="*", help="their ids")
    retry.add_argument("--workflow", metavar="NAME", help="all of this workflow that failed")
    retry.add_argument("--status", metavar="STATE", help="failed, timed_out or canceled (default: all of them)")
    retry.add_argument("--all", action="store_true", help="all that failed")

    builds = command("builds", "again", "list the builds that hold live runs")
    builds.add_argument("--retire", metavar="BUILD", help="let the runs that are pinned to it go on with any build")
    builds.add_argument("--json", action="store_true", help="give a JSON array")

    workflows = command("workflows", "reading", "list what a target can run")
    workflows.add_argument("target", metavar="TARGET", help=TARGET)
    workflows.add_argument("--json", action="store_true", help="give a JSON object of names and summaries")

    doctor = command("doctor", "doctor", "check what runs need, and say how to mend it")
    doctor.add_argument("target", metavar="TARGET", nargs="?", help=TARGET)
    doctor.add_argument("--json", action="store_true", help="give findings and settings as one JSON object")
    _address(doctor)
    _working(doctor)

    simulate = command("simulate", "simulating", "serve the provider simulator, and give its settings", settings=False)
    simulate.add_argument("--host", default="127.0.0.1", help="where it listens (default 127.0.0.1)")
    simulate.add_argument("--port", type=_whole(0, 65535), default=8801, help="default 8801; 0: any free one")
    simulate.add_argument("--openai-rpm", type=_above_0, default=500.0, metavar="N", help="requests a minute it allows")
    simulate.add_argument("--gemini-rpm", type=_above_0, default=300.0, metavar="N", help="requests a minute it allows")
    simulate.add_argument(
        "--fault", action="append", default=[], metavar="RULE", help="such as openai:503:share=0.2:from=2:until=5"
    )
    simulate.add_argument("--seed", type=int, default=0, metavar="N", help="of what is random (default 0)")

    gateway = command("gateway", "gateway", "serve the router to any OpenAI client", settings=False)
    gateway.add_argument("--host", default="127.0.0.1", help="where it listens (default 127.0.0.1)")
    gateway.add_argument("--port", type=_whole(0, 65535), default=8802, help="default 8802; 0: any free one")
    gateway.add_argument("--store", metavar="URL", help="that workers and other gateways share limits and budgets by")
    gateway.add_argument("--keys", metavar="FILE", help="a TOML file with the keys of those who may ask")
    gateway.add_argument("--new-key", action="store_true", help="make a key, give it and its digest, and end")

    token = command("token", "tokens", "make a token of the API, and give it with its digest", settings=False)
    token.add_argument("name", metavar="NAME", help="who has it")
    token.add_argument("--scope", nargs="+", choices=("read", "run", "admin"), required=True, help="what it may do")
    token.add_argument("--tenant", default="", metavar="TENANT", help="the only one whose runs there are for it")

    completion = command("completion", "completion", "give a script that completes commands", settings=False)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="for which shell")
    return made


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", help="where the API listens (default 127.0.0.1)")
    command.add_argument("--port", type=int, help="default 8800; 0: any free one")
    command.add_argument("--insecure", action="store_true", help="listen beyond loopback without a token")


def _working(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lease-s", type=float, metavar="SECONDS", help="until a silent worker's runs are taken over")
    command.add_argument("--capacity", type=int, metavar="N", help="runs at once")
    command.add_argument("--drain-s", type=float, metavar="SECONDS", help="that a drain waits for steps under way")


def _seen_at(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", help="of an API to look through (default: the store itself)")
    command.add_argument("--json", action="store_true", help="give one JSON object")
    command.add_argument(
        "--wait", type=_above_0, default=10.0, metavar="SECONDS", help="for workers to show themselves (default 10)"
    )


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = int(text) if text.removeprefix("-").isdecimal() else None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(
                f"{text!r}: give a whole number from {least}" + (f" to {most}" if most else "")
            )
        return value

    return convert


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def _later(module: str, name: str) -> Callable[[argparse.Namespace], Any]:
    def call(options: argparse.Namespace) -> Any:
        return getattr(import_module(f"{__package__}.{module}"), name)(options)

    return call
