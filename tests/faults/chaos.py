"""What a kill storm came to, to be quoted: printed (`pytest -rP`), and a line in the file GREENROOM_CHAOS_REPORT."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from greenroom.runtime.testing.auditor import Audit

CHAOS_S = float(os.environ.get("GREENROOM_CHAOS_S", "8"))
"""How long it lasts, seconds."""


def tell(store: str, said: str, found: Audit) -> dict[str, Any]:
    """Tell what was audited after a load.

    Args:
        store: of which kind.
        said: what `hands.load` printed, how many were killed.
        found: the audit.
    """
    kills = json.loads(said)
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
    }
    print(json.dumps(told))
    if name := os.environ.get("GREENROOM_CHAOS_REPORT"):
        with Path(name).open("a", encoding="utf-8") as out:
            out.write(json.dumps(told) + "\n")
    return told
