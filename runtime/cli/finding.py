"""What `greenroom doctor` finds."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is (`ok`, `look`: works, but know this; `mend`: does not work), and what to do."""

    what: str
    how: str
    text: str
    code: int = 0
