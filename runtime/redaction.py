"""Law 10: text without the secrets of this process. It imports nothing, so that everything can use it.

The environment is looked at when text is written: a program may load its keys at any time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""Ends of the names of environment variables whose values are secrets."""

SHORTEST = 8
"""Shorter values are too common as parts of words to be looked for, characters."""

SIMULATOR_KEY = "simulator"
"""The key that the provider simulator gives out: no secret."""

_PASSWORD_IN_URL = re.compile(r"://([^/\s:@]*):[^@\s/]*@")


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """Return the secrets of an environment, longest first."""
    found = {value for name, value in env.items() if name.upper().endswith(SECRET_VARIABLES)}
    return sorted((one for one in found if len(one) >= SHORTEST and one != SIMULATOR_KEY), key=len, reverse=True)


def redact(text: str, env: Mapping[str, str] = os.environ) -> str:
    """Return the text without the environment's secrets and without passwords in URLs."""
    return hide(text, secrets_in(env))


def hide(text: str, secrets: Iterable[str]) -> str:
    """Do the same where the environment's secrets are known: for many texts at one time."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return _PASSWORD_IN_URL.sub(r"://\1:***@", text) if "://" in text else text
