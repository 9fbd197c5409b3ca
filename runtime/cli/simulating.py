"""`greenroom simulate`: the provider simulator as a server of its own."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace

import anyio

from ..simulator import NOTICE, Fault, Simulator, default_plans, serve_simulator


def simulate(options: Namespace) -> int:
    """Serve the simulator until interrupted."""
    plans = default_plans(openai_rpm=options.openai_rpm, gemini_rpm=options.gemini_rpm)
    sim = Simulator(plans, faults=[Fault.parse(rule) for rule in options.fault], seed=options.seed)

    async def main() -> None:
        async with serve_simulator(sim, options.host, options.port) as at:
            print(NOTICE, file=sys.stderr)
            for name, value in at.env.items():
                print(f"export {name}={value}", flush=True)
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    return

    anyio.run(main)
    return 0
