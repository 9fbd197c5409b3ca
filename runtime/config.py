"""Settings of the command line: where each value came from, and what is wrong with it.

Precedence: flag, `GREENROOM_*`, `greenroom.toml`, `[tool.greenroom]` of `pyproject.toml`, default. Law 9: an unknown
key or a wrong type is an error that names the file, the key and the fix. Keys of providers come from the environment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigInvalid

TYPES: dict[str, type] = {
    "store": str,
    "host": str,
    "port": int,
    "lease_s": float,
    "capacity": int,
    "log_level": str,
}
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What commands go by.

    Attributes:
        store: the transport's URL.
        host, port: where the API listens.
        lease_s: how long a run stays with a worker that is not heard of, seconds.
        capacity: runs that a worker executes at once.
        log_level: debug, info, warning or error.
        router: the `[router]` table, if there is one.
        sources: name -> where its value came from.
    """

    store: str = "sqlite:///greenroom.db"
    host: str = "127.0.0.1"
    port: int = 8800
    lease_s: float = 10.0
    capacity: int = 200
    log_level: str = "info"
    router: Mapping[str, Any] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


def load_settings(flags: Mapping[str, Any], env: Mapping[str, str], folder: Path) -> Settings:
    """Put the settings together.

    Args:
        flags: of the command line; None means not given.
        env: the environment.
        folder: where `greenroom.toml` and `pyproject.toml` are looked for.

    Raises:
        ConfigInvalid: names where, which key, and the fix.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path, table in _tables(folder):
        for name, value in table.items():
            if name == "router":
                if not isinstance(value, dict):
                    raise ConfigInvalid(f"{path}: router must be a table")
            elif name not in TYPES:
                raise ConfigInvalid(f"{path}: {name!r} is unknown: give {', '.join([*TYPES, 'router'])}")
            else:
                value = _typed(f"{path}: {name}", value, TYPES[name])
            values[name], sources[name] = value, path
    for name, kind in TYPES.items():
        variable = f"GREENROOM_{name.upper()}"
        if env.get(variable):
            values[name], sources[name] = _typed(variable, env[variable], kind), variable
        if flags.get(name) is not None:
            values[name], sources[name] = flags[name], f"--{name.replace('_', '-')}"
    if values.get("log_level", "info") not in LEVELS:
        raise ConfigInvalid(f"{sources['log_level']}: {values['log_level']!r} is no level: give {', '.join(LEVELS)}")
    if not 0 <= values.get("port", 0) <= 65535:
        raise ConfigInvalid(f"{sources['port']}: {values['port']} is no port: give 0 to 65535")
    return Settings(**values, sources=sources)


def _tables(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, keys in (("pyproject.toml", ("tool", "greenroom")), ("greenroom.toml", ())):
        path = folder / name
        if not path.is_file():
            continue
        try:
            table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigInvalid(f"{name} cannot be read: {error}") from None
        for key in keys:
            table = table.get(key, {})
        found.append((name, dict(table)))
    return found


def _typed(where: str, value: Any, kind: type) -> Any:
    if isinstance(value, str) and kind is not str:
        try:
            return kind(value)
        except ValueError:
            raise ConfigInvalid(f"{where} is {value!r}: give {_words(kind)}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigInvalid(f"{where} is {value!r}: give {_words(kind)}")
    return value


def _words(kind: type) -> str:
    return {str: "a string", int: "a whole number", float: "a number"}[kind]
