"""The command line. Results go to stdout, progress and errors to stderr, one sentence each; every error has its code.

| code | means |
|---|---|
| 0 | done |
| 1 | the run failed, was canceled, or has ended; a law is broken |
| 2 | the command, its input or a setting is wrong |
| 3 | the store or the address cannot be used |
| 4 | there is no such run, workflow, signal or approval |
| 124 | the run took longer than its deadline |
| 130 | interrupted |
| 141 | whoever read the output went away |

Commands import what they need when they run: `--help` costs no more than Python itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parse(argv)
    try:
        code = int(options.call(options) or 0)
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        from .refusal import refuse

        code = refuse(error)
        if code == 141:  # what is still buffered has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
