"""`python -m benchmarks SUITE [--seed N]`: run one suite, keep its report, show it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .report import print_table, write

FOLDER = Path(__file__).parent
SHARED = {"__init__", "__main__", "report"}


def suites() -> list[str]:
    """The names of the suites that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)


def main(args: Sequence[str] | None = None) -> int:
    """Run the suite that was asked for; an unknown one is answered with the list, and 2."""
    parser = argparse.ArgumentParser(prog="tasks.py bench", description="Run a benchmark suite and keep its report.")
    parser.add_argument("suite", nargs="?", help=f"one of: {', '.join(suites())}")
    parser.add_argument("--seed", type=int, default=1, help="what chance is drawn from (default: 1)")
    wanted = parser.parse_args(args)
    if wanted.suite not in suites():
        asked = f"there is no suite {wanted.suite!r}" if wanted.suite else "no suite named"
        print(f"greenroom: {asked}; name one of: {', '.join(suites())}.", file=sys.stderr)
        return 2
    suite = import_module(f"{__package__}.{wanted.suite}").run(wanted.seed)
    print_table(suite)
    print(f"kept in {write(suite).relative_to(FOLDER.parent)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
