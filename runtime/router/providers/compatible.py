"""Any server that speaks OpenAI's protocol as OpenAI does; each deployment names its address and key."""

from __future__ import annotations

from .provider import Provider

COMPATIBLE = Provider(name="compatible")
