"""`python -m benchmarks SUITE [--seed N]`: run one suite, keep its report, show it."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .report import print_table, write

FOLDER = Path(__file__).parent
SHARED = {"__init__", "__main__", "report"}


def suites() -> dict[str, str]:
    """The suites that there are, by name, each with the first line of what it says of itself."""
    modules = {path.stem: path for path in FOLDER.glob("*.py") if path.stem not in SHARED}
    modules |= {path.parent.name: path for path in FOLDER.glob("*/__init__.py")}
    return {name: _summary(modules[name]) for name in sorted(modules)}


def main(args: Sequence[str] | None = None) -> int:
    """Run the suite that was asked for, or list those that there are; an unknown one is answered with 2."""
    known = suites()
    parser = argparse.ArgumentParser(prog="tasks.py bench", description="Run a benchmark suite and keep its report.")
    parser.add_argument("suite", nargs="?", help=f"one of: {', '.join(known)}")
    parser.add_argument("--seed", type=int, default=1, help="what chance is drawn from (default: 1)")
    wanted = parser.parse_args(args)
    if wanted.suite is None:
        print("\n".join(f"{name:10} {summary}" for name, summary in known.items()))
        return 0
    if wanted.suite not in known:
        print(f"greenroom: there is no suite {wanted.suite!r}; name one of: {', '.join(known)}.", file=sys.stderr)
        return 2
    suite = import_module(f"{__package__}.{wanted.suite}").run(wanted.seed)
    print_table(suite)
    print(f"kept in {write(suite).relative_to(FOLDER.parent)}")
    return 0


def _summary(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
