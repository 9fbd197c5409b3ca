"""The demo: the newsroom in real processes. The worker that holds the run is killed while it writes; another goes on.

    python3 tasks.py demo [--json]

Progress goes to standard error. Exit code 1 says that something which was promised did not happen, and what; 130, that
it was interrupted. No process is left behind either way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Perform the play, say what came of it, return the exit code."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end standard output with one line of JSON")
    options = parser.parse_args()
    try:
        from play import Play  # takes a second, and may be interrupted too

        play = Play(Path(tempfile.mkdtemp(prefix="greenroom-demo-")))
        trouble = play.run()
    except KeyboardInterrupt:
        print("greenroom: interrupted; nothing is left running", file=sys.stderr)
        return 130
    print(play.told(), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(play.verdict.line(), flush=True)
    for sentence in trouble:
        print(f"greenroom: {sentence}.", file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
