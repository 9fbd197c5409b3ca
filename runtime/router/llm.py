"""`llm`: one OpenAI client for everybody, whose calls go through the router of where they are made.

It is made when first used: importing the SDK takes a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .transport import client

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    llm: AsyncOpenAI


def __getattr__(name: str) -> Any:
    if name != "llm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["llm"] = made = client()
    return made
