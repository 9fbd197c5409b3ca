"""A turn: how much one actor may do before everybody else has had a turn too."""

from __future__ import annotations

BATCH = 512
"""Messages."""

TURN = 0.002
"""Seconds."""

LOOKS = (8, 16, 32, *range(64, BATCH + 1, 64))
"""The clock is looked at after so many messages of a turn: less often, once it has shown that it is a quick one."""

CHUNKS = tuple(
    range(min((look for look in LOOKS if look > done), default=done) - done) for done in range(BATCH, -1, -1)
)
"""By what is left of a turn: the messages before the next look."""
