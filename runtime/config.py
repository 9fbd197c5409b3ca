"""Settings of the command line: where each value came from, and what is wrong with it.

Precedence: flag, `GREENROOM_*`, `greenroom.toml`, `[tool.greenroom]` of `pyproject.toml`, default. Law 9: an unknown
key or a wrong type is an error that names the file, the key and the fix. Keys of providers come from the environment.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
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
    "drain_s": float,
    "log_level": str,
}
"""Every setting that has a flag, a variable and a key."""

TABLES: dict[str, type] = {"router": dict, "tokens": list}
"""What only a file can say. What is in them is checked by those who use them."""

LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What commands go by.

    Attributes:
        store: the transport's URL.
        host, port: where the API listens.
        lease_s: how long a run stays with a worker that is not heard of, seconds.
        capacity: runs that a worker executes at once.
        drain_s: how long a worker that was told to stop waits for steps under way, seconds.
        log_level: debug, info, warning or error.
        router: the `[router]` table, if there is one.
        tokens: the `[[tokens]]` of the API, if there are any.
        sources: name -> where its value came from.
    """

    store: str = "sqlite:///greenroom.db"
    host: str = "127.0.0.1"
    port: int = 8800
    lease_s: float = 10.0
    capacity: int = 200
    drain_s: float = 30.0
    log_level: str = "info"
    router: Mapping[str, Any] | None = None
    tokens: Sequence[Any] | None = field(default=None, repr=False)
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
            if name in TABLES:
                if not isinstance(value, TABLES[name]):
                    raise ConfigInvalid(f"{path}: {name} must be {_WORDS[TABLES[name]]}")
            elif name not in TYPES:
                raise ConfigInvalid(f"{path}: {name!r} is unknown: give {', '.join([*TYPES, *TABLES])}")
            else:
                value = _typed(f"{path}: {name}", value, TYPES[name])
            values[name], sources[name] = value, path
    for name, kind in TYPES.items():
        if env.get(variable(name)):
            values[name], sources[name] = _typed(variable(name), env[variable(name)], kind), variable(name)
        if flags.get(name) is not None:
            values[name], sources[name] = _typed(flag(name), flags[name], kind), flag(name)
    settings = Settings(**values, sources=sources)
    for name, good, wanted in (
        ("port", 0 <= settings.port <= 65535, "0 to 65535"),
        ("lease_s", settings.lease_s >= 0.5, "0.5 seconds or more"),
        ("capacity", settings.capacity >= 1, "1 or more runs"),
        ("drain_s", settings.drain_s >= 0, "0 or more seconds"),
        ("log_level", settings.log_level in LEVELS, ", ".join(LEVELS)),
    ):
        if not good:
            raise ConfigInvalid(f"{sources[name]}: {name} is {getattr(settings, name)!r}: give {wanted}")
    return settings


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"GREENROOM_{name.upper()}"


def flag(name: str) -> str:
    """Return the option of a setting."""
    return f"--{name.replace('_', '-')}"


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
            if not isinstance(table, dict):
                raise ConfigInvalid(f"{name}: {key} must be a table")
        found.append((f"{name} [{'.'.join(keys)}]" if keys else name, table))
    return found


def _typed(where: str, value: Any, kind: type) -> Any:
    wrong = ConfigInvalid(f"{where} is {value!r}: give {_WORDS[kind]}")
    if kind is not str and isinstance(value, str):
        try:
            value = kind(value)
        except ValueError:
            raise wrong from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise wrong
    return value


_WORDS = {str: "a string", int: "a whole number", float: "a number", dict: "a table", list: "an array of tables"}
