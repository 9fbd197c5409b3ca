"""What a store on Redis has in it, as the history of how it came to that; the store's key `schema` says how far it is.

Why: runs outlive versions of greenroom. Whoever opens a store brings it up to date, all steps in one script; a store
that is newer than this code is refused.

The rules are those of `sqlite_migrations.py`: what has been released is never changed, and a migration only adds, so
that processes of the version before it, which have the store open, go on. It holds the server up while it runs: it may
look at what there is of every lane, but not at every run.
"""

from __future__ import annotations

from collections.abc import Sequence

MIGRATIONS: tuple[str, ...] = ()
"""In Lua, from the first schema to the second, and so on. Stores of before the key `schema` have the first one."""

VERSION = 1 + len(MIGRATIONS)
"""The schema this code writes."""


LOOK = """
return {'ok', redis.call('GET', P .. 'schema') or '', redis.call('EXISTS', P .. 'number')}
"""
"""Answers with the version that is kept, and whether there was ever a run."""


def migrating(migrations: Sequence[str]) -> str:
    """Return the script that brings a store up to date, from wherever it is."""
    steps = "".join(f"if known < {number} then {text} end\n" for number, text in enumerate(migrations, 2))
    return f"""
local known = tonumber(redis.call('GET', P .. 'schema') or '1')
{steps}redis.call('SET', P .. 'schema', math.max(known, {1 + len(migrations)}))
return {{'ok'}}
"""
