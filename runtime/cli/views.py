"""How a run looks: a line per record, a tree for its trace, and a live screen on a terminal.

Pure readings of the log: the same records give the same picture, live or later.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import records
from ..log import Output
from ..records import Event
from ..trace import Span, Trace, TraceFold

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def line(event: Event) -> str:
    """Return a record in one line."""
    return f"{event.seq:>5}  {time.strftime('%H:%M:%S', time.localtime(event.ts))}  {event.kind:<16} {_told(event)}"


def _told(event: Event) -> str:
    record: Any = event.record
    match record:
        case records.RunQueued():
            return str(record.workflow)
        case records.LeaseTaken():
            return f"{record.worker} (fence {record.fence})"
        case records.StepStarted():
            return f"{record.name} attempt {record.attempt}"
        case records.StepRetrying() | records.StepFailed() | records.RunFailed():
            return f"{record.error.type}: {record.error.message}"
        case records.LLMCall():
            return f"{record.model} {record.input_tokens}+{record.output_tokens} tokens, {record.seconds:.2f} s"
        case records.Status():
            return str(record.message)
        case records.OutputDelta():
            return repr(record.text[:60])
        case records.RunCanceled() | records.CancelRequested():
            return str(record.reason)
        case _:
            return ""


def tree(trace: Trace) -> str:
    """Draw a run's steps."""
    lines = [f"{trace.workflow}  {trace.run_id}  {trace.status}  {_seconds(trace.created, trace.ended)}"]
    inside: dict[str, list[Span]] = {}
    for span in trace.spans:
        inside.setdefault(span.scope, []).append(span)

    def draw(scope: str, indent: str) -> None:
        spans = inside.get(scope, [])
        for number, span in enumerate(spans):
            last = number == len(spans) - 1
            tokens = sum(call.input_tokens + call.output_tokens for call in span.calls)
            models = ", ".join(dict.fromkeys(call.model for call in span.calls))
            told = [span.status, _seconds(span.started, span.ended)]
            if len(span.attempts) > 1:
                told.append(f"{len(span.attempts)} attempts")
            if tokens:
                told.append(f"{tokens} tokens ({models})")
            lines.append(f"{indent}{'└─' if last else '├─'} {span.name}  {', '.join(told)}")
            draw(span.step, indent + ("   " if last else "│  "))

    draw("", "")
    for model, tokens in sorted(trace.tokens.items()):
        lines.append(f"{model}: {tokens.calls} calls, {tokens.input} tokens in, {tokens.output} out")
    lines.append(
        f"steps run {trace.steps_executed}, replayed {trace.steps_replayed}, "
        f"recorded twice {trace.steps_recorded_twice}, takeovers {trace.takeovers}"
    )
    if trace.error is not None:
        lines.append(f"{trace.error.type}: {trace.error.message}")
    return "\n".join(lines)


def _seconds(start: float, end: float | None) -> str:
    return "..." if end is None or not start else f"{end - start:.2f} s"


class Screen:
    """Shows a run while it goes on: live on a terminal, else in plain lines.

    Args:
        console: where.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True, highlight=False)
        self.fold = TraceFold()
        self.output = Output()
        self.notes: list[str] = []
        self._live: Any = None

    def __enter__(self) -> Self:
        """Begin to show."""
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, refresh_per_second=10, get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture."""
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say something that is not in the log."""
        self.notes.append(text)
        if self._live is None:
            self.console.print(text, markup=False)

    def show(self, event: Event) -> None:
        """Take in a record."""
        self.fold.apply(event)
        self.output.apply(event)
        if self._live is None and not isinstance(event.record, records.OutputDelta):
            self.console.print(line(event), markup=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        trace = self.fold.trace
        marks = {"running": ("●", "yellow"), "completed": ("✓", "green"), "failed": ("✗", "red")}
        table = Table(box=None, pad_edge=False)
        for heading, side in (
            ("", "left"),
            ("step", "left"),
            ("attempts", "right"),
            ("s", "right"),
            ("tokens", "right"),
        ):
            table.add_column(heading, justify=side)  # type: ignore[arg-type]
        for span in trace.spans[-24:]:
            mark, color = marks.get(span.status, ("·", "white"))
            took = (span.ended or time.time()) - span.started if span.started else 0.0
            tokens = sum(call.input_tokens + call.output_tokens for call in span.calls)
            table.add_row(Text(mark, color), span.name, str(len(span.attempts) or ""), f"{took:.1f}", str(tokens or ""))
        text = Text("\n".join(self.output.text.splitlines()[-6:])[-900:])
        notes = Text("\n".join(self.notes[-4:]), "bold")
        return Group(Text(f"{trace.workflow} {trace.run_id}: {trace.status}", "bold"), table, Panel(text), notes)


def print_result(raw: bytes) -> None:
    """Print a result on stdout: JSON as it is."""
    sys.stdout.write(raw.decode() + "\n")
    sys.stdout.flush()
