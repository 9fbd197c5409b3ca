"""`greenroom doctor`: looks at all that runs need. Each finding says what it is, and what to do if it is wrong.

It leaves nothing behind: a database that is not there is not made. Law 10: of keys it tells that they are set.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from argparse import Namespace
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio
import msgspec

from ...transports import StoreUnavailable, TransportError, open_transport
from ...transports.sqlite_migrations import VERSION
from ...transports.sqlite_schema import WAL_RESET_BUG
from ..config import TYPES, Settings, variable
from ..errors import GreenroomError
from ..http import ApiOptions
from ..http.options import LIMITS
from ..http.serve import beyond_loopback
from ..listener import AddressUnavailable, listen
from ..router import MissingKey, RouterConfig, RouterError
from .output import give
from .store import sqlite_file
from .target import load_runtime, settle

PACKAGES = (
    "aiolimiter", "anyio", "cronsim", "httpx2", "msgspec", "openai", "redis", "rich", "starlette", "structlog",
    "uvicorn",
)  # fmt: skip
OTHER_VARIABLES = {
    "GREENROOM_TOKEN",
    "GREENROOM_SHARE",
    "GREENROOM_VENV",
    *LIMITS,
    *(f"GREENROOM_{provider}_{limit}" for provider in ("OPENAI", "GEMINI") for limit in ("RPM", "TPM")),
}
"""Variables that are no settings of the command line, but mean something."""


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is (`ok`, `look`: works, but know this; `mend`: does not work), and what to do."""

    what: str
    how: str
    text: str
    code: int = 0


def doctor(options: Namespace) -> int:
    """Give the findings; the code is that of the gravest."""
    settings = settle(options, level="error")
    findings = [
        _python(),
        _packages(),
        *_store(settings.store),
        _address(settings, options.insecure),
        _keys(settings),
        *_variables(),
    ]
    if options.target:
        findings.append(_target(options.target, settings))
    sources = {name: (getattr(settings, name), settings.sources.get(name, "the default")) for name in TYPES}
    if options.json:
        shown = {name: {"value": value, "from": source} for name, (value, source) in sources.items()}
        give(msgspec.json.encode({"findings": findings, "settings": shown}).decode())
    else:
        for one in findings:
            give(f"{one.how:<4}  {one.what}: {one.text}")
        for name, (value, source) in sources.items():
            give(f"      {name} = {value} from {source}")
    return max(one.code for one in findings)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - an installation may have been moved
        return Finding("python", "mend", f"{found} is too old: use 3.11 or newer", 1)
    return Finding("python", "ok", found)


def _packages() -> Finding:
    missing = []
    for name in PACKAGES:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "mend", f"{', '.join(missing)} missing: run pip install greenroom", 1)
    return Finding("packages", "ok", "all there")


def _sqlite() -> Finding:
    if WAL_RESET_BUG:
        return Finding("sqlite", "look", f"{WAL_RESET_BUG} that writes; back up with VACUUM INTO")
    return Finding("sqlite", "ok", sqlite3.sqlite_version)


def _store(url: str) -> list[Finding]:
    """Whether it opens, what an acknowledged write survives there, and what its kind wants known."""
    file = sqlite_file(url)
    if file is not None and not file.exists() and file.parent.is_dir():
        if os.access(file.parent, os.W_OK):
            return [Finding("store", "ok", f"{url} will be made by the first command that writes"), _sqlite()]
        text = f"the folder {file.parent.resolve()} cannot be written: name another file"
        return [Finding("store", "mend", text, 3)]
    schema = _schema(file) if file is not None else None
    if schema is not None and schema.how != "ok":
        return [schema, _sqlite()]  # to open it is to change it
    try:
        opened = anyio.run(_opened, url)
        return opened if schema is None else [*opened, schema, _sqlite()]
    except StoreUnavailable as error:
        return [Finding("store", "mend", str(error), 3)]
    except TransportError as error:
        return [Finding("store", "mend", str(error), 2)]


async def _opened(url: str) -> list[Finding]:
    known: list[Finding] = []
    if url.startswith("redis"):
        from ...transports.redis_checkup import checkup

        known = [Finding(note.what, "ok" if note.well else "look", note.text) for note in await checkup(url)]
        if any(one.what == "schema" and one.how != "ok" for one in known):
            return known  # to open it is to change it
    async with open_transport(url) as store:
        how = "look" if url.startswith("memory:") else "ok"
        return [Finding("store", how, f"{store.url} opens; {store.durability}"), *known]


def _schema(file: Path) -> Finding | None:
    """What is known of the file's schema before it is opened; None where opening it will say what is wrong."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    if 0 < number < VERSION:
        text = f"{file} has {number}: what opens it next brings it to {VERSION}, and then older versions refuse it; "
        return Finding("schema", "look", f"{text}keep a copy made with VACUUM INTO, or stop the older ones first")
    return Finding("schema", "ok", f"{number}, which this greenroom writes") if number == VERSION else None


def _address(settings: Settings, insecure: bool) -> Finding:
    host, port = settings.host, settings.port
    try:
        token = ApiOptions.from_env(os.environ).token
        listen(host, port).close()
    except AddressUnavailable as error:
        return Finding("address", "mend", str(error), 3)
    except GreenroomError as error:
        return Finding("address", "mend", str(error), 2)
    if token is None and beyond_loopback(host) and not insecure:
        return Finding("address", "mend", f"{host} is beyond loopback and no GREENROOM_TOKEN is set: set it", 2)
    return Finding("address", "ok", f"{host}:{port} is free, GREENROOM_TOKEN is {'set' if token else 'not set'}")


def _keys(settings: Settings) -> Finding:
    try:
        config = (
            RouterConfig.from_table(settings.router, os.environ)
            if settings.router is not None
            else RouterConfig.from_env(os.environ)
        )
    except RouterError as error:
        return Finding("providers", "mend", str(error), 2)
    if not config.models:
        return Finding("providers", "look", f"{MissingKey()}; 'greenroom dev' starts it by itself")
    names = sorted({one.name for many in config.models.values() for one in many})
    return Finding("providers", "ok", f"keys are set for {', '.join(names)}")


def _variables() -> list[Finding]:
    known = {variable(name) for name in TYPES} | OTHER_VARIABLES
    unknown = sorted(name for name in os.environ if name.startswith("GREENROOM_") and name not in known)
    return [Finding("variable", "look", f"{name} means nothing here: correct or remove it") for name in unknown]


def _target(target: str, settings: Settings) -> Finding:
    try:
        runtime = load_runtime(target, settings)
    except GreenroomError as error:
        return Finding("target", "mend", str(error), 2)
    return Finding("target", "ok", f"{target} has {', '.join(runtime.workflows)} on {runtime.store}")
