"""Commands that look at workers: `tree` once, `top` as it goes on. They change nothing but for a mark in the store."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
from argparse import Namespace

import anyio
import msgspec

from ...transports import StoreUnavailable
from ..client.errors import Unreachable
from ..redaction import redact
from .board import board, tree_text
from .output import give, printable, say
from .sight import Sight, Source, look, mute, open_source, shown
from .signals import told_to_stop

RUNS = 15
"""Runs shown, the newest."""

WIDTH = 160
"""Columns, where it is no terminal that is written to."""


def tree(options: Namespace) -> int:
    """Draw the supervision tree of every worker."""

    async def main() -> None:
        async with open_source(options) as source:
            found = await shown(source, options.worker, options.wait)
            if options.json:
                give(msgspec.json.encode(found).decode())
            else:
                for one in found.data:
                    give(tree_text(one))
            if options.quiet:
                return
            if not found.data:
                what = "no worker" if options.worker is None else f"no worker named {options.worker}"
                say(f"{what} was heard of lately in {source.place}")
            for name in mute(found):
                say(f"worker {name} did not show itself within {options.wait:g} s: give it more with --wait")

    anyio.run(main)
    return 0


def top(options: Namespace) -> int:
    """Show runs, workers and providers until somebody has seen enough; once where nobody could watch."""

    async def main() -> None:
        async with open_source(options) as source:
            if options.jsonl:
                await _stream(source, options.interval)
            elif options.json or options.once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
                await shown(source, None, options.wait)
                sight = await look(source, RUNS)
                give(msgspec.json.encode(sight).decode() if options.json else _text(sight, source.place), end="\n")
            else:
                await _watch(source, options.interval)

    anyio.run(main)
    return 0


async def _stream(source: Source, interval_s: float) -> None:
    async with told_to_stop("stopping") as told:
        while not told.is_set():
            give(msgspec.json.encode(await look(source, RUNS)).decode())
            with anyio.move_on_after(interval_s):
                await told.wait()


async def _watch(source: Source, interval_s: float) -> None:
    """Draw anew until told to stop; what is gone for a while is waited for, if it was there at first."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    first = board(await look(source, RUNS), source.place, _now())
    async with told_to_stop("stopping") as told:
        with Live(first, console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while not told.is_set():
                try:
                    live.update(board(await look(source, RUNS), source.place, _now()), refresh=True)
                except (StoreUnavailable, Unreachable) as error:
                    live.update(Text(f"{printable(str(error))}; it is asked again"), refresh=True)
                with anyio.move_on_after(interval_s):
                    await told.wait()


def _text(sight: Sight, place: str) -> str:
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    console = Console(width=width, highlight=False, markup=False, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(board(sight, place, _now()))
    return "\n".join(line.rstrip() for line in redact(captured.get()).splitlines())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
