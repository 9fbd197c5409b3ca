"""`greenroom gateway`: the router as an OpenAI-compatible server."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import anyio

from ..config import load_settings
from ..gateway import Keys, serve_gateway
from ..gateway.keys import new_key
from ..router import MissingKey, Router, RouterConfig
from .output import give, say
from .signals import told_to_stop


def gateway(options: Namespace) -> int:
    """Serve until told to stop; give the variables that point a client at it."""
    if options.new_key:
        key, digest = new_key()
        say("The key is shown once; the gateway needs only its digest.")
        give(f'key     {key}\nsha256  "{digest}"')
        return 0
    keys = Keys.read(Path(options.keys)) if options.keys else Keys()
    table = load_settings({}, os.environ, Path.cwd()).router
    config = RouterConfig.from_table(table, os.environ) if table is not None else RouterConfig.from_env(os.environ)
    if not config.models:
        raise MissingKey

    async def main() -> None:
        async with (
            told_to_stop("stopping; once more to stop at once") as told,
            Router(config) as router,
            serve_gateway(router, keys, options.host, options.port) as url,
        ):
            say(f"The gateway serves {', '.join(router.models)}.")
            give(f"export OPENAI_BASE_URL={url}")
            await told.wait()

    anyio.run(main)
    return 0
