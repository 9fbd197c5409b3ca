"""`greenroom simulate`: the provider simulator as a server of its own."""

from __future__ import annotations

from argparse import Namespace

import anyio

from ..simulator import NOTICE, Fault, Simulator, default_plans, serve_simulator
from .output import give, say
from .signals import told_to_stop


def simulate(options: Namespace) -> int:
    """Serve the simulator until told to stop; give the variables that point a router at it."""
    plans = default_plans(openai_rpm=options.openai_rpm, gemini_rpm=options.gemini_rpm)
    sim = Simulator(plans, faults=[Fault.parse(rule) for rule in options.fault], seed=options.seed)

    async def main() -> None:
        async with (
            told_to_stop("stopping; once more to stop at once") as told,
            serve_simulator(sim, options.host, options.port) as at,
        ):
            say(NOTICE)
            give("\n".join(f"export {name}={value}" for name, value in at.env.items()))
            await told.wait()

    anyio.run(main)
    return 0
