"""Logs of the process: lines for people on a terminal, JSON elsewhere; on stderr, so that stdout is for results.

A line that is written inside a run says where: run_id, trace_id, step_id, attempt, and the actor that was at work.

Law 10: what is secret is not written, whoever logs it: what other libraries log takes the same way.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from .definitions import current_caller
from .redaction import redact

SECRET_NAMES = ("authorization", "api_key", "apikey", "password", "secret", "cookie")
"""Parts of a field's name that keep its value out of a log line."""


def colored(terminal: bool, env: Mapping[str, str] = os.environ) -> bool:
    """Whether output is colored: as NO_COLOR and FORCE_COLOR say, else on a terminal."""
    if env.get("NO_COLOR"):
        return False
    return bool(env.get("FORCE_COLOR")) or terminal


def configure_logs(level: str = "info") -> None:
    """Set structlog and the standard library's logging up, for this process.

    Args:
        level: debug, info, warning or error. Other libraries are heard from warnings upwards.
    """
    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _place,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = [_hide]
    if terminal:
        rendering.append(structlog.dev.ConsoleRenderer(colors=colored(terminal)))
    else:
        rendering += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    rendering.append(_blot)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *names: structlog.WriteLogger(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    others = logging.StreamHandler(_Stderr())
    others.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(handlers=[others], level=max(getattr(logging, level.upper()), logging.WARNING), force=True)


class _Stderr:
    """Whatever is `sys.stderr` when a line is written: a live screen puts itself in its place for a while."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _place(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say where in a run the line was written: of which run, trace, step and attempt."""
    caller: Any = current_caller.get()
    if caller is not None:
        event.setdefault("run_id", caller.run_id)
        event.setdefault("trace_id", caller.traceparent.split("-")[1])
        if caller.actor:
            event["actor"] = caller.actor
        if caller.step:
            event.setdefault("step_id", caller.step)
            event.setdefault("attempt", caller.attempt)
    return event


def _hide(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out fields that are secret by name, at any depth."""
    for name, value in event.items():
        if any(part in name.lower() for part in SECRET_NAMES):
            event[name] = "***"
        elif isinstance(value, dict):
            event[name] = _hide(_, __, dict(value))
    return event


def _blot(_: Any, __: str, line: str) -> str:
    """Take out values that are secret, wherever they stand in the line."""
    return redact(line)
