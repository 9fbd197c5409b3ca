"""What greenroom is compared with, installed once: LiteLLM from `requirements.txt` with hashes, Portkey from npm.

Where one cannot be installed, the suite says why and goes on without it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = ROOT / ".venv-routing"
LITELLM = VENV / "bin/python"
READY = VENV / "ready"
PORTKEY = VENV / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
PORTKEY_VERSION = "1.15.2"


class Absent(Exception):
    """Something cannot be measured; the message says why."""


def set_up() -> None:
    """Install what is not installed yet; say what cannot be."""
    for name, install in (("LiteLLM", _install_litellm), ("Portkey's gateway", _install_portkey)):
        try:
            install()
        except Absent as error:
            note(f"{name} is left out: {error}")


def litellm() -> str:
    """Return the Python that has LiteLLM.

    Raises:
        Absent: it is not installed.
    """
    if not READY.exists():
        raise Absent("LiteLLM is not installed")
    return str(LITELLM)


def portkey() -> list[str]:
    """Return the command that starts Portkey's gateway.

    Raises:
        Absent: it is not installed.
    """
    node = shutil.which("node")
    if node is None or not PORTKEY.exists():
        raise Absent("Portkey's gateway is not installed")
    return [node, str(PORTKEY)]


def _install_litellm() -> None:
    requirements = HERE / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if READY.exists() and READY.read_text(encoding="utf-8") == wanted:
        return
    READY.unlink(missing_ok=True)
    note(f"installing LiteLLM into {VENV.name} (once, about two minutes)")
    command("venv", [sys.executable, "-m", "venv", str(VENV)])
    install = [str(LITELLM), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    command("pip", [*install, "--require-hashes", "-r", str(requirements)])
    READY.write_text(wanted, encoding="utf-8")


def _install_portkey() -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Absent("node and npm are not installed")
    if not PORTKEY.exists():
        folder = VENV / "portkey"
        folder.mkdir(parents=True, exist_ok=True)
        note("installing Portkey's gateway from npm (once)")
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error"]
        command("npm", [npm, "install", *quiet, "--prefix", str(folder), f"@portkey-ai/gateway@{PORTKEY_VERSION}"])


def command(name: str, args: Sequence[str], timeout_s: float = 600) -> str:
    """Run a command and return what it printed.

    Raises:
        Absent: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            args, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Absent(f"{name} took longer than {timeout_s:.0f} s") from None
    except OSError as error:
        raise Absent(f"{name}: {error.strerror}") from None
    if done.returncode:
        raise Absent(f"{name} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1][:200]}")
    return done.stdout


def measured(name: str, args: Sequence[str], timeout_s: float) -> Any:
    """Run a command and return the JSON on the last line of what it printed.

    Raises:
        Absent: it failed, or took too long.
    """
    note(name)
    lines = command(name, args, timeout_s).strip().splitlines()
    return json.loads(lines[-1]) if lines else None


def note(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)
