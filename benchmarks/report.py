"""What a benchmark suite returns, how it is measured, and how it is kept.

Why: a number without its machine, versions, seed and spread says nothing. So every suite ends as one JSON file that
has them all, and everything that is claimed is a ratio against something measured in the same run: ratios travel
between machines, seconds do not.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured number.

    Args:
        case: what was done, such as "tell".
        system: who did it, such as "greenroom" or "asyncio.Queue".
        value: the median of the samples.
        unit: of value and samples, such as "msg/s" or "us".
        samples: every measurement that value was drawn from, in the order in which they were made.
    """

    case: str
    system: str
    value: float
    unit: str
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Suite:
    """The outcome of one run of a suite.

    Args:
        name: of the module in `benchmarks/`.
        seed: that the run was made with.
        rows: all numbers measured.
        ratios: what follows from them, by name, such as "tell/asyncio.Queue".
        packages: distributions that took part besides greenroom and what it depends on; their versions are kept.
        absent: systems that were not measured, each with the reason.
    """

    name: str
    seed: int
    rows: tuple[Row, ...]
    ratios: Mapping[str, float] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


def measure(once: Callable[[], float], repeats: int = 5) -> tuple[float, tuple[float, ...]]:
    """Measure several times, after one time that does not count.

    Args:
        once: does the work and returns what it measured, in the row's unit.
        repeats: how many measurements count, at least 1.

    Returns:
        The median, and all measurements in order: a row's value and samples.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: a median needs at least 1 measurement")
    once()
    samples = tuple(once() for _ in range(repeats))
    return median(samples), samples


def machine() -> dict[str, str | int]:
    """The machine that measured: processor, cores this process may use, memory in MiB, operating system."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "os": platform.platform(),
    }


def _cpu() -> str:
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def versions(packages: tuple[str, ...] = ()) -> dict[str, str]:
    """Versions of Python, greenroom, what it depends on, and these packages; "absent" where one is not installed."""
    declared = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requires("greenroom") or ()]
    found = {"python": platform.python_version()}
    for name in ("greenroom", *sorted({*declared, *packages})):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def write(suite: Suite, folder: Path = RESULTS) -> Path:
    """Keep a suite's outcome as `<folder>/<suite>.json`, in place of the last one, and return its path."""
    report = {
        "suite": suite.name,
        "seed": suite.seed,
        "machine": machine(),
        "versions": versions(suite.packages),
        "ratios": dict(suite.ratios),
        "rows": [{name: getattr(row, name) for name in Row.__dataclass_fields__} for row in suite.rows],
        "absent": dict(suite.absent),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite.name}.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return draft.replace(path)


def print_table(suite: Suite, console: Console | None = None) -> None:
    """Show a suite's rows and ratios to a person; standard output unless another console is given."""
    console = console or Console()
    rows = Table(title=f"{suite.name}, seed {suite.seed}", title_justify="left")
    for title in ("case", "system"):
        rows.add_column(title)
    for title in ("median", "unit", "spread"):
        rows.add_column(title, justify="left" if title == "unit" else "right")
    for row in suite.rows:
        rows.add_row(row.case, row.system, figure(row.value), row.unit, spread(row))
    console.print(rows)
    for system, reason in suite.absent.items():
        console.print(f"{system} is absent: {reason}", highlight=False, markup=False)
    if suite.ratios:
        ratios = Table(title="ratios", title_justify="left")
        ratios.add_column("ratio")
        ratios.add_column("value", justify="right")
        for name, value in suite.ratios.items():
            ratios.add_row(name, figure(value))
        console.print(ratios)


def figure(value: float) -> str:
    """A number to read at a glance: three digits that count, all of those before the point."""
    size = abs(value)
    if size >= 1:
        return f"{value:,.{max(0, 3 - len(str(int(size))))}f}"
    return f"{value:.3g}"


def spread(row: Row) -> str:
    """The distance from the lowest to the highest sample, in percent of the median; empty for fewer than two."""
    if len(row.samples) < 2 or not row.value:
        return ""
    return f"{(max(row.samples) - min(row.samples)) / abs(row.value):.0%}"
