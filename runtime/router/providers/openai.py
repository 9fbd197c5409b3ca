"""OpenAI. Its protocol is everybody's, so there is little to say."""

from __future__ import annotations

from .provider import Provider

OPENAI = Provider(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    key_beginnings=("sk-",),
    models={"smart": "gpt-5.2", "fast": "gpt-5.2-mini", "embed": "text-embedding-3-small"},
)
