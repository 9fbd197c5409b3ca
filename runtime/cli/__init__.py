"""The command line. Results go to stdout, progress and errors to stderr, one sentence each; every error has its code.

| code | means |
|---|---|
| 0 | done |
| 1 | the run failed or was canceled |
| 2 | the command, its input or a setting is wrong |
| 3 | the store or the address cannot be used |
| 4 | there is no such run or workflow |
| 124 | out of time |
| 130 | interrupted |

Commands import what they need when they run: `--help` costs no more than Python itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parse(argv)
    try:
        return int(options.call(options) or 0)
    except KeyboardInterrupt:
        print("greenroom: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        from .refusal import refuse

        return refuse(error)
