"""The demo's verdict: what the run's log, and the simulator's own count, say about what was promised."""

from __future__ import annotations

import json
import textwrap
from itertools import pairwise

import msgspec

from greenroom.runtime.trace import Tokens, Trace

REFUSED = ("limited", "quota")
"""Outcomes of an attempt whose answer was a 429."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the run.

    Attributes:
        trace: all of the run, complete or not.
        taken_back: characters of output that lost attempts had shown.
        simulated_429: what the simulator counted; None: there was none.
    """

    trace: Trace
    taken_back: int
    simulated_429: int | None = None

    @property
    def http_429(self) -> int:
        """Return the 429s that anybody saw: calls in flight when a worker dies are not in the log."""
        return max(self.logged_429, self.simulated_429 or 0)

    @property
    def logged_429(self) -> int:
        """Return the 429s in the log."""
        return sum(attempt.outcome in REFUSED for call in self.trace.calls for attempt in call.attempts)

    def faults(self) -> list[str]:
        """Return what was promised and did not happen, a sentence each."""
        trace, found = self.trace, []
        if trace.status != "completed":
            why = f": {trace.error.type}: {trace.error.message}" if trace.error is not None else ""
            found.append(f"the run did not complete, it is {trace.status}{why}")
        elif not trace.takeovers:
            found.append("the run was over before its worker could be killed: try again")
        if trace.steps_recorded_twice:
            found.append(f"{trace.steps_recorded_twice} steps were recorded twice")
        if self.http_429:
            found.append(f"providers answered {self.http_429} calls with 429")
        return found

    def line(self) -> str:
        """Return the verdict as a line of JSON."""
        trace = self.trace
        tokens = {
            model: {"calls": used.calls, "input": used.input, "output": used.output}
            for model, used in sorted(trace.tokens.items())
        }
        return json.dumps(
            {
                "status": trace.status,
                "takeovers": trace.takeovers,
                "steps_executed": trace.steps_executed,
                "steps_replayed": trace.steps_replayed,
                "steps_recorded_twice": trace.steps_recorded_twice,
                "tokens": tokens,
                "http_429": self.http_429,
            }
        )

    def text(self) -> str:
        """Return the verdict for people."""
        trace = self.trace
        took = f" in {trace.ended - trace.created:.1f} s" if trace.ended else ""
        rows = [
            ("run", f"{trace.status}{took}"),
            ("steps", f"{trace.steps_executed} run once, {trace.steps_recorded_twice} recorded twice"),
            ("replay", f"{trace.steps_replayed} of them answered from the log after the takeover"),
            *(("takeover", told) for told in self._takeovers()),
            ("output", f"{self.taken_back} characters of the dead attempt taken back from its readers"),
            *(("tokens", f"{model}: {t.calls} calls, {t.input} in, {t.output} out") for model, t in self._tokens()),
            ("429s", f"{self.logged_429} in the log" + self._counted()),
        ]
        return "\n".join(f"  {name:9} {told}" for name, told in rows)

    def _takeovers(self) -> list[str]:
        leases = self.trace.leases
        pairs = pairwise(leases)
        return [
            f"{new.worker} went on for {old.worker}, which was lost, with {new.recorded} results in the log"
            for old, new in pairs
            if new.takeover
        ]

    def _tokens(self) -> list[tuple[str, Tokens]]:
        return sorted(self.trace.tokens.items())

    def _counted(self) -> str:
        return "" if self.simulated_429 is None else f", {self.simulated_429} counted by the simulator"


def shortened(text: str, width: int = 500) -> str:
    """Return a text's beginning, wrapped and indented."""
    return textwrap.indent(textwrap.fill(textwrap.shorten(text, width, placeholder=" ..."), 100), "  ")
