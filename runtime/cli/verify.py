"""`greenroom verify`: a store held against the laws."""

from __future__ import annotations

from argparse import Namespace

import msgspec

from ..runs import Runs
from ..testing.auditor import Audit, audit
from .output import give, printable
from .store import with_runs
from .target import settle


def verify(options: Namespace) -> int:
    """Read every run of a store; say what breaks a law, and return 1 if anything does."""
    found: list[Audit] = []

    async def read(runs: Runs) -> None:
        found.append(await audit(runs.transport))

    with_runs(options.url or settle(options).store, read)
    done = found[0]
    if options.json:
        give(msgspec.json.encode(done).decode())
        return int(bool(done.findings))
    for finding in done.findings:
        where = f"run {finding.run_id}, record {finding.seq}" if finding.run_id else "store"
        give(printable(f"law {finding.law}: {where}: {finding.says}"))
    states = ", ".join(f"{count} {state}" for state, count in done.states.items())
    give(
        f"{done.runs} runs{f' ({states})' if states else ''}, {done.records} records, {done.results} results, "
        f"{done.takeovers} takeovers, {len(done.findings)} violations"
    )
    return int(bool(done.findings))
