"""`greenroom gateway`: the router as an OpenAI-compatible server."""

from __future__ import annotations

import os
import secrets
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ...transports import open_transport
from ..gateway import Keys, serve_gateway
from ..gateway.keys import new_key
from ..router import MissingKey, Router, RouterConfig
from .output import give, say
from .process import live
from .signals import told_to_stop
from .target import settle


def gateway(options: Namespace) -> int:
    """Serve until told to stop; give the variables that point a client at it."""
    if options.new_key:
        key, digest = new_key()
        say("The key is shown once; the gateway needs only its digest.")
        give(f'key     {key}\nsha256  "{digest}"')
        return 0
    keys = Keys.read(Path(options.keys)) if options.keys else Keys()
    settings = settle(options, level="warning")
    table = settings.router
    config = RouterConfig.from_table(table, os.environ) if table is not None else RouterConfig.from_env(os.environ)
    if not config.models:
        raise MissingKey
    store = settings.store if "store" in settings.sources and config.shared else None

    async def main() -> None:
        async with (
            told_to_stop("stopping; once more to stop at once") as told,
            Router(config) as router,
            _sharing(router, store),
            serve_gateway(router, keys, options.host, options.port) as url,
        ):
            shares = "; limits and budgets are shared through the store" if store else ""
            say(f"The gateway serves {', '.join(router.models)}{shares}.")
            give(f"export OPENAI_BASE_URL={url}")
            await told.wait()

    live(main)
    return 0


@asynccontextmanager
async def _sharing(router: Router, store: str | None) -> AsyncIterator[None]:
    """Share limits and budgets with all who use a store, if there is one."""
    if store is None:
        yield
        return
    name = f"gateway-{socket.gethostname()}-{os.getpid()}#{secrets.token_hex(4)}"
    async with open_transport(store) as transport, router.share(transport, name).running():
        yield
