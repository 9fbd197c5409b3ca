"""Logs of the process: lines for people on a terminal, JSON elsewhere; on stderr, so that stdout is for results.

Law 10: what looks like a secret is not written, whoever logs it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

SECRET_NAMES = ("authorization", "api_key", "apikey", "token_value", "password", "secret", "cookie")


def configure_logs(level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Set structlog up.

    Args:
        level: debug, info, warning or error.
        secrets: values that are blotted out wherever they stand.
    """
    hidden = tuple(secret for secret in secrets if len(secret) >= 8)

    def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            if any(part in name.lower() for part in SECRET_NAMES):
                event[name] = "***"
            elif isinstance(value, str):
                for secret in hidden:
                    value = value.replace(secret, "***")
                event[name] = value
        return event

    terminal = sys.stderr.isatty()
    render: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(() if terminal else (structlog.processors.format_exc_info,)),
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
