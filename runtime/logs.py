"""Logs of the process: lines for people on a terminal, JSON elsewhere; on stderr, so that stdout is for results.

Law 10: what looks like a secret is not written, whoever logs it. Values are looked up in the environment at the moment
of writing: a program may load its keys after the logs were set up. What other libraries log takes the same way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

SECRET_NAMES = ("authorization", "api_key", "apikey", "password", "secret", "cookie")
"""Parts of a field's name that keep its value out of a log line."""

SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""Ends of the names of environment variables whose values are secrets."""

SHORTEST = 8
"""Shorter values are too common as parts of words to be looked for, characters."""

SIMULATOR_KEY = "simulator"
"""The key that the provider simulator gives out: no secret."""

_PASSWORD_IN_URL = re.compile(r"://([^/\s:@]*):[^@\s/]*@")


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """Return the secrets of an environment, longest first."""
    found = {value for name, value in env.items() if name.upper().endswith(SECRET_VARIABLES)}
    return sorted((one for one in found if len(one) >= SHORTEST and one != SIMULATOR_KEY), key=len, reverse=True)


def redact(text: str, env: Mapping[str, str] = os.environ) -> str:
    """Return the text without the environment's secrets and without passwords in URLs."""
    for secret in secrets_in(env):
        if secret in text:
            text = text.replace(secret, "***")
    return _PASSWORD_IN_URL.sub(r"://\1:***@", text) if "://" in text else text


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
