"""`greenroom doctor`: looks at all that a run needs. Each finding says what it is, and what to do if it is wrong."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version

import anyio

from ...transports import TransportError, open_transport
from ..config import TYPES, Settings
from ..errors import GreenroomError
from ..listener import listen
from ..router import MissingKey, RouterConfig, RouterError
from .target import load_runtime, settle

PACKAGES = ("anyio", "openai", "httpx2", "msgspec", "structlog", "starlette", "uvicorn", "aiolimiter", "rich")


def doctor(options: Namespace) -> int:
    """Print findings; 1 if something is broken."""
    settings = settle(options)
    findings = [_python(), _packages(), _store(settings), _port(settings), _keys(settings)]
    if options.target:
        findings.append(_target(options.target, settings))
    for good, text in findings:
        print(f"{'ok  ' if good else 'FIX '} {text}")
    for name in TYPES:
        print(f"     {name} = {getattr(settings, name)!r} from {settings.sources.get(name, 'the default')}")
    return 0 if all(good for good, _ in findings) else 1


def _python() -> tuple[bool, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), f"Python {found} (3.11 or newer is needed)"


def _packages() -> tuple[bool, str]:
    missing = []
    for name in PACKAGES:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return (
        not missing,
        f"packages: {'missing ' + ', '.join(missing) + ': pip install greenroom' if missing else 'all there'}",
    )


def _store(settings: Settings) -> tuple[bool, str]:
    async def look() -> None:
        async with open_transport(settings.store):
            pass

    try:
        anyio.run(look)
    except TransportError as error:
        return False, f"store: {error}"
    return True, f"store {settings.store} opens"


def _port(settings: Settings) -> tuple[bool, str]:
    try:
        listen(settings.host, settings.port).close()
    except GreenroomError as error:
        return False, f"port: {error}"
    return True, f"port {settings.port} on {settings.host} is free"


def _keys(settings: Settings) -> tuple[bool, str]:
    try:
        config = (
            RouterConfig.from_table(settings.router, os.environ)
            if settings.router is not None
            else RouterConfig.from_env(os.environ)
        )
    except RouterError as error:
        return False, f"providers: {error}"
    if not config.models:
        return False, f"providers: {MissingKey()}"
    return True, "providers: " + ", ".join(sorted({one.name for many in config.models.values() for one in many}))


def _target(target: str, settings: Settings) -> tuple[bool, str]:
    try:
        runtime = load_runtime(target, settings)
    except GreenroomError as error:
        return False, f"target: {error}"
    return True, f"target {target}: workflows {', '.join(runtime.workflows)}"
