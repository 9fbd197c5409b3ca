"""Where the command line's words go: data to stdout, everything else to stderr. Law 10: neither shows a secret."""

from __future__ import annotations

import sys

from ..redaction import redact


def give(text: str, end: str = "\n") -> None:
    """Write data: what the command was asked for."""
    sys.stdout.write(redact(text) + end)
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell whoever looks on."""
    print(redact(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return the text on one line, without what a terminal would obey: others wrote it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
