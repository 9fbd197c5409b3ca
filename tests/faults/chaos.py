"""What a kill storm came to, to be quoted: printed (`pytest -rP`), and a line in the file GREENROOM_CHAOS_REPORT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from greenroom.runtime.testing.auditor import Audit

CHAOS_S = float(os.environ.get("GREENROOM_CHAOS_S", "8"))
"""How long it lasts, seconds."""


def tell(store: str, url: str, said: str, found: Audit) -> dict[str, Any]:
    """Tell what was audited after a load, and what `greenroom verify` says.

    Args:
        store: of which kind.
        url: where it is.
        said: what `hands.load` printed, how many were killed.
        found: the audit.
    """
    kills = json.loads(said)
    command = [sys.executable, "-m", "greenroom", "verify", "--store", url]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = {
        "store": store,
        "seconds": CHAOS_S,
        "runs": found.runs,
        "records": found.records,
        "results": found.results,
        "kills": sum(kills.values()),
        "workers killed": kills["worker"],
        "APIs killed": kills["api"],
        "takeovers": found.takeovers,
        "violations": len(found.findings),
        "greenroom verify": verified.stdout.strip(),
    }
    print(json.dumps(told))
    if name := os.environ.get("GREENROOM_CHAOS_REPORT"):
        with Path(name).open("a", encoding="utf-8") as out:
            out.write(json.dumps(told) + "\n")
    return told
