"""From what was typed to a runtime: `module:attribute` or `path/to/file.py:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..config import TYPES, Settings, load_settings
from ..definitions import Workflow
from ..errors import ConfigInvalid
from ..facade import Runtime
from ..logs import configure_logs
from ..router import RouterConfig

T = TypeVar("T")


def settle(options: Namespace, *, level: str | None = None) -> Settings:
    """Load the settings and set the logs up; `level` is the one of a command that has a default of its own."""
    flags = {name: getattr(options, name, None) for name in TYPES}
    settings = load_settings(flags, os.environ, Path.cwd())
    configure_logs(settings.log_level if level is None or "log_level" in settings.sources else level)
    return settings


def load_runtime(target: str, settings: Settings) -> Runtime:
    """Import the target; a store that was set wins over its own.

    Raises:
        ConfigInvalid: it cannot be found, or is none; says what to give.
    """
    where, _, attribute = (target, "", "") if target.endswith(".py") else target.rpartition(":")
    if not where:
        where, attribute = target, ""
    module = _import(where)
    found = _named(module, where, attribute) if attribute else _only(module, where)
    if isinstance(found, Workflow):
        found = Runtime(found, store=settings.store)
    if not isinstance(found, Runtime):
        raise ConfigInvalid(f"{target} is a {type(found).__name__}: give a Runtime or a workflow")
    if "store" in settings.sources:
        found.store = settings.store
    return found


def equip(runtime: Runtime, settings: Settings) -> None:
    """Give the runtime what its workers need: the router and the worker settings that were set.

    Raises:
        RouterConfigInvalid: the `[router]` table is wrong, or a key that it names is not set.
    """
    if settings.router is not None:
        runtime.router = RouterConfig.from_table(settings.router, os.environ)
    given = {name: getattr(settings, name) for name in ("lease_s", "capacity", "drain_s") if name in settings.sources}
    runtime.settings = replace(runtime.settings, **given)


def _named(module: ModuleType, where: str, attribute: str) -> Any:
    if not hasattr(module, attribute):
        there = [name for name, value in vars(module).items() if isinstance(value, Runtime | Workflow)]
        raise ConfigInvalid(f"{where} has no {attribute!r}: give {' or '.join(there) or 'a Runtime or a workflow'}")
    return getattr(module, attribute)


def _only(module: ModuleType, where: str) -> Any:
    for kind in (Runtime, Workflow):
        found = {id(value): name for name, value in vars(module).items() if isinstance(value, kind)}
        if len(found) == 1:
            return getattr(module, *found.values())
        if found:
            raise ConfigInvalid(f"{where} has several: give {' or '.join(f'{where}:{one}' for one in found.values())}")
    raise ConfigInvalid(f"{where} has no Runtime and no workflow: give a module or file that has one")


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return _guarded(where, lambda: importlib.import_module(where))
    path = Path(where)
    if not path.is_file():
        raise ConfigInvalid(f"there is no file {where!r}: give module:attribute or path/to/file.py:attribute")
    sys.path.insert(0, str(path.parent.resolve()))
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _guarded(where, lambda: loader.exec_module(module))
    return module


def _guarded(where: str, load: Callable[[], T]) -> T:
    """Import; whatever the code raises is told with the line that raised it."""
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(error.name + ".")):
            raise ConfigInvalid(
                f"no module is named {where!r}: give module:attribute or path/to/file.py:attribute"
            ) from None
        raise ConfigInvalid(
            f"{where} cannot be imported: no module is named {error.name!r}: install it, or mend the import"
        ) from None
    except SyntaxError as error:
        raise ConfigInvalid(
            f"{where} cannot be imported: {error.msg} ({error.filename}, line {error.lineno}): mend it"
        ) from None
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        raise ConfigInvalid(f"{where} cannot be imported: {what}: mend it") from None
