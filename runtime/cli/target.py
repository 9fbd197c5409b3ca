"""From what was typed to a runtime: `module:attribute` or `path/to/file.py:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

from ..config import Settings, load_settings
from ..definitions import Workflow
from ..errors import ConfigInvalid
from ..facade import Runtime
from ..logs import configure_logs
from ..router import RouterConfig
from ..worker import WorkerSettings


def settle(options: Namespace) -> Settings:
    """Load the settings and set the logs up."""
    names = ("store", "host", "port", "lease_s", "capacity", "log_level")
    settings = load_settings({name: getattr(options, name, None) for name in names}, os.environ, Path.cwd())
    keys = [value for name, value in os.environ.items() if name.endswith("_API_KEY") or name == "GREENROOM_TOKEN"]
    configure_logs(settings.log_level, keys)
    return settings


def load_runtime(target: str, settings: Settings) -> Runtime:
    """Import the target; the settings that were given win over its own.

    Raises:
        ConfigInvalid: it cannot be found, or is none; says what to give.
    """
    where, _, attribute = target.rpartition(":") if not target.endswith(".py") else (target, "", "")
    if not where:
        where, attribute = target, ""
    module = _import(where)
    if attribute:
        if not hasattr(module, attribute):
            raise ConfigInvalid(f"{where} has no {attribute!r}: give the name of a Runtime or workflow in it")
        found = getattr(module, attribute)
    else:
        runtimes = [value for value in vars(module).values() if isinstance(value, Runtime)]
        if len(runtimes) != 1:
            raise ConfigInvalid(f"{where} has {len(runtimes)} Runtimes: give one as {where}:NAME")
        found = runtimes[0]
    if isinstance(found, Workflow):
        found = Runtime(found, store=settings.store)
    if not isinstance(found, Runtime):
        raise ConfigInvalid(f"{target} is a {type(found).__name__}: give a Runtime or a workflow")
    if "store" in settings.sources:
        found.store = settings.store
    if settings.router is not None:
        found.router = RouterConfig.from_table(settings.router, os.environ)
    return found


def worker_settings(settings: Settings, runtime: Runtime, name: str | None = None) -> WorkerSettings:
    """Return the runtime's worker settings with those given on top."""
    own = runtime.settings
    return WorkerSettings(
        lease_s=settings.lease_s if "lease_s" in settings.sources else own.lease_s,
        capacity=settings.capacity if "capacity" in settings.sources else own.capacity,
        drain_s=own.drain_s,
        name=name or own.name,
        build=own.build,
        seed=own.seed,
    )


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name and (where == error.name or where.startswith(error.name + ".")):
                raise ConfigInvalid(
                    f"no module is named {where!r}: give module:attribute or file.py:attribute"
                ) from None
            raise ConfigInvalid(f"{where} cannot be imported: {error}") from None
    path = Path(where)
    if not path.is_file():
        raise ConfigInvalid(f"there is no file {where!r}: give module:attribute or path/to/file.py:attribute")
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigInvalid(f"{where} cannot be imported: give a Python file")
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ConfigInvalid(f"{where} cannot be imported: {error}") from None
    return module
