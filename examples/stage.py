"""The demo's stage: the run as it goes on, live on a terminal, in plain lines elsewhere; all on standard error."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from greenroom.runtime.cli.views import line
from greenroom.runtime.log import Output
from greenroom.runtime.records import Event, OutputDelta
from greenroom.runtime.trace import Span, TraceFold

MARKS = {"running": ("●", "yellow"), "completed": ("✓", "green"), "failed": ("✗", "red")}


class Stage:
    """Shows a run, and notes on what happens around it.

    Attributes:
        fold: the run's trace so far.
        output: the text that counts so far.
    """

    def __init__(self) -> None:
        self.fold = TraceFold()
        self.output = Output()
        self._notes: list[str] = []
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(console=self._console, refresh_per_second=10, get_renderable=self._picture)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture."""
        self._live.stop()

    def note(self, text: str) -> None:
        """Say something that is not in the log."""
        self._notes.append(text)
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Take in a record."""
        self.fold.apply(event)
        self.output.apply(event)
        if not self._console.is_terminal and not isinstance(event.record, OutputDelta):
            self._console.print(line(event), soft_wrap=True)

    def _picture(self) -> Group:
        trace = self.fold.trace
        table = Table("", "step", "attempts", "seconds", "tokens", box=None, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for span in trace.spans:
            table.add_row(*_row(span))
        tail = "\n".join(self.output.text.splitlines()[-6:])[-900:]
        title = Text(f"{trace.workflow} {trace.run_id}: {trace.status}", "bold")
        return Group(title, table, Panel(Text(tail)), Text("\n".join(self._notes[-4:]), "bold"))


def _row(span: Span) -> tuple[Text, str, str, str, str]:
    took = (span.ended or time.time()) - span.started
    tokens = sum(call.input_tokens + call.output_tokens for call in span.calls)
    mark = Text(*MARKS.get(span.status, ("·", "white")))
    return mark, span.name, str(len(span.attempts)), f"{took:.1f}", str(tokens or "")
