"""`greenroom doctor`: looks at all that runs need. Each finding says what it is, and what to do if it is wrong.

It leaves nothing behind: a database that is not there is not made. Law 10: of keys it tells that they are set.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version

import msgspec

from ..config import TYPES, Settings, variable
from ..errors import GreenroomError
from ..facade import Runtime
from ..http.options import LIMITS
from ..http.serve import beyond_loopback
from ..listener import AddressUnavailable, listen
from ..router.providers import known
from .finding import Finding
from .output import give
from .providers import providers
from .storage import storage
from .target import load_runtime, settle
from .tokens import api_options

PACKAGES = (
    "aiolimiter", "anyio", "cronsim", "httpx2", "msgspec", "openai", "redis", "rich", "starlette", "structlog",
    "uvicorn",
)  # fmt: skip
OTHER_VARIABLES = {
    "GREENROOM_TOKEN",
    "GREENROOM_TOKENS",
    "GREENROOM_SHARE",
    "GREENROOM_VENV",
    *LIMITS,
    *(f"GREENROOM_{provider.variables}_{limit}" for provider in known() for limit in ("RPM", "TPM")),
}
"""Variables that are no settings of the command line, but mean something."""


def doctor(options: Namespace) -> int:
    """Give the findings; the code is that of the gravest."""
    settings = settle(options, level="error")
    findings = [
        _python(),
        _packages(),
        _address(settings, options.insecure),
        *providers(settings),
        *_variables(),
    ]
    runtime = None
    if options.target:
        found, runtime = _target(options.target, settings)
        findings.append(found)
    findings += storage(settings.store if runtime is None else runtime.store, runtime)
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


def _address(settings: Settings, insecure: bool) -> Finding:
    host, port = settings.host, settings.port
    try:
        secured = api_options(settings).secured
        listen(host, port).close()
    except AddressUnavailable as error:
        return Finding("address", "mend", str(error), 3)
    except GreenroomError as error:
        return Finding("address", "mend", str(error), 2)
    if not secured and beyond_loopback(host) and not insecure:
        return Finding("address", "mend", f"{host} is beyond loopback and no token is set: set GREENROOM_TOKEN", 2)
    return Finding("address", "ok", f"{host}:{port} is free, requests {'need a' if secured else 'need no'} token")


def _variables() -> list[Finding]:
    known = {variable(name) for name in TYPES} | OTHER_VARIABLES
    unknown = sorted(name for name in os.environ if name.startswith("GREENROOM_") and name not in known)
    return [Finding("variable", "look", f"{name} means nothing here: correct or remove it") for name in unknown]


def _target(target: str, settings: Settings) -> tuple[Finding, Runtime | None]:
    try:
        runtime = load_runtime(target, settings)
    except GreenroomError as error:
        return Finding("target", "mend", str(error), 2), None
    if not runtime.workflows:
        text = f"{target} has no workflows, so nothing can be started: give them to Runtime(...)"
        return Finding("target", "mend", text, 2), runtime
    return Finding("target", "ok", f"{target} has {', '.join(runtime.workflows)} on {runtime.store}"), runtime
