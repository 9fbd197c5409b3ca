"""Both providers in a process of their own: a client under load must not slow them down."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from greenroom.runtime.simulator import Latency, Limits, ProviderPlan, Simulator, serve_simulator

LATENCY_S = 0.02


class Providers:
    """The other process, as seen from here."""

    def __init__(self, env: dict[str, str], control: str) -> None:
        self.env = env
        self._control = control

    def urls(self) -> list[str]:
        """Base URLs of both."""
        return [self.env["OPENAI_BASE_URL"], self.env["GEMINI_BASE_URL"]]

    def begin(self, faults: list[str]) -> None:
        """Forget what was seen; the faults' clock starts now."""
        self._ask("DELETE", "/faults")
        self._ask("POST", "/reset")
        if faults:
            self._ask("POST", "/faults", faults)

    def state(self) -> dict[str, Any]:
        """What they saw."""
        return self._ask("GET", "/state")

    def seen(self) -> list[dict[str, Any]]:
        """Every request, as they saw it."""
        found: Any = self._ask("GET", "/seen")
        return list(found)

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self._control + path, data, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def providers(per_s: float | None, seed: int) -> Iterator[Providers]:
    """Run them while the block runs.

    Args:
        per_s: requests a second that each allows, and holds in its bucket; None: any number.
        seed: of their answers.
    """
    command = [sys.executable, "-m", __name__, str(per_s or 0), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield Providers(told["env"], told["control"])
        finally:
            process.terminate()


async def _serve(per_s: float, seed: int) -> None:
    limits = Limits(requests_per_min=per_s * 60, burst_s=1.0) if per_s else Limits()
    latency = Latency(first_token_s=LATENCY_S if per_s else 0.0, tokens_per_s=0, jitter=0)
    plans = [ProviderPlan(name=name, models=("*",), limits=limits, latency=latency) for name in ("openai", "gemini")]
    async with serve_simulator(Simulator(plans, seed=seed)) as at:
        print(json.dumps({"env": at.env, "control": at.control_url}), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve, float(sys.argv[1]), int(sys.argv[2]))
