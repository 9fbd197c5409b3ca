"""The gateway: the router as an OpenAI-compatible server, for any language.

Files: `keys` (who may ask, and how much), `metrics` (what Prometheus reads), `app` (the routes), `server` (on a
socket).
"""

from __future__ import annotations

from .app import gateway_app
from .keys import GatewayKey, Keys, KeysInvalid
from .server import serve_gateway

__all__ = ["GatewayKey", "Keys", "KeysInvalid", "gateway_app", "serve_gateway"]
