"""The gateway on a socket, for as long as a block of code.

Laws kept here: 7 (it stops with its block, streams and all), 10 (nothing listens beyond loopback without keys).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import ConfigInvalid
from ..listener import listen, served
from ..router import Router
from .app import gateway_app
from .keys import Keys


@asynccontextmanager
async def serve_gateway(
    router: Router, keys: Keys | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve an open router while the block runs; gives the base URL for OpenAI clients. Port 0: a free one.

    Raises:
        ConfigInvalid: the host is not loopback and there are no keys.
        AddressUnavailable: somebody else listens there.
    """
    keys = keys or Keys()
    if keys.open and not _loopback(host):
        raise ConfigInvalid(f"host: {host} can be reached from other machines and there are no keys: give --keys")
    with listen(host, port) as listener:
        async with served(gateway_app(router, keys), listener, grace_s=2):
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}/v1"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
