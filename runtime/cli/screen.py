"""A run's progress while it goes on: a live picture on a terminal, else a line per record; on stderr."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import records
from ..log import Output
from ..records import Event
from ..redaction import redact
from ..trace import Span, TraceFold
from .output import printable, say
from .views import line, seconds, tokens

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {"running": ("●", "yellow"), "completed": ("✓", "green"), "failed": ("✗", "red")}
STEPS = 24
"""Steps shown at once, the newest."""

LINES = 6
"""Lines of output shown at once, the newest."""


class Screen:
    """Shows a run.

    Args:
        quiet: show nothing.
        live: draw a live picture; by default where stderr is a terminal that can do it.
    """

    def __init__(self, *, quiet: bool = False, live: bool | None = None) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._wanted = live if live is not None else sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._fold = TraceFold()
        self._output = Output()

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._wanted and not self._quiet:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False, markup=False)
            self._live = Live(console=console, refresh_per_second=10, get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture."""
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take in a record."""
        if self._live is not None:
            self._fold.apply(event)
            self._output.apply(event)
        elif not self._quiet and not isinstance(event.record, records.OutputDelta):
            say(line(event))

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        trace = self._fold.trace
        table = Table(box=None, pad_edge=False)
        for heading in ("", "step"):
            table.add_column(heading)
        for heading in ("attempts", "seconds", "tokens"):
            table.add_column(heading, justify="right")
        for span in trace.spans[-STEPS:]:
            mark, color = MARKS.get(span.status, ("·", "white"))
            table.add_row(Text(mark, color), *(Text(part) for part in self._row(span)))
        parts: list[RenderableType] = [Text(f"{trace.workflow} {trace.run_id}: {trace.status}", "bold"), table]
        written = [printable(one) for one in redact(self._output.text[-2000:]).splitlines()[-LINES:]]
        if written:
            parts.append(Panel(Text("\n".join(written))))
        return Group(*parts)

    def _row(self, span: Span) -> tuple[str, str, str, str]:
        said = f"{span.name}: {printable(redact(span.messages[-1]))}" if span.messages else span.name
        took = seconds(span.started, span.ended or time.time())
        return said, str(len(span.attempts) or ""), took, str(tokens(span) or "")
