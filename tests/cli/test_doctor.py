"""The likeliest set-up faults, one by one: `greenroom doctor` names each, says what to do, and its code is the gravest.

The table in docs/cli.md has the same faults.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom.runtime.cli import storage
from greenroom.runtime.cli.finding import Finding
from greenroom.runtime.cli.providers import _shape
from greenroom.runtime.router import RouterConfig
from greenroom.transports import Lane, NewRun, WorkerInfo, open_transport
from greenroom.transports.values import Entry

from .conftest import Shell

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
KEY = "sk-canary-of-a-key-0123"


def findings(shell: Shell, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = shell("doctor", "--json", *(arguments if "--port" in arguments else (*arguments, "--port", "0")))
    assert KEY not in done.out + done.err
    return done.code, {one["what"]: one for one in json.loads(done.out)["findings"]}


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def provider(status: int) -> Iterator[str]:
    """A provider that gives one answer to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


# --- providers


def test_no_key(shell: Shell) -> None:
    code, found = findings(shell)
    assert (code, found["providers"]["how"]) == (0, "look")
    assert "OPENAI_API_KEY" in found["providers"]["text"]


@pytest.mark.parametrize("key", ["sk-two words", "sk-\u2026", '" "'])
def test_a_key_that_no_key_can_be(shell: Shell, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    code, found = findings(shell)
    assert (code, found["providers"]["how"]) == (2, "mend")
    assert "copy it again" in found["providers"]["text"]


def test_a_key_of_another_provider() -> None:
    config = RouterConfig.from_env({"OPENAI_API_KEY": "AIza-a-key-of-the-other", "GEMINI_API_KEY": "AIza-right"})
    told = {one.provider: _shape(one) for many in config.models.values() for one in many}
    assert told["gemini"] is None
    assert told["openai"] == Finding(
        "key", "look", "the key of openai does not begin with sk-, as theirs do: copy it again"
    )


def test_a_provider_that_cannot_be_reached(shell: Shell, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{free_port}/v1")
    code, found = findings(shell)
    assert (code, found["provider"]["how"]) == (3, "mend")
    assert f"127.0.0.1:{free_port}/v1 of openai cannot be reached" in found["provider"]["text"]


@pytest.mark.parametrize(("status", "how"), [(401, "mend"), (403, "mend"), (503, "look"), (200, None), (404, None)])
def test_a_key_that_is_not_taken(shell: Shell, monkeypatch: pytest.MonkeyPatch, status: int, how: str | None) -> None:
    with provider(status) as url:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        code, found = findings(shell)
    assert code == (2 if how == "mend" else 0)
    assert found.get("provider", {}).get("how") == how
    assert found["providers"]["how"] == "ok"


# --- address


def test_a_port_that_is_taken(shell: Shell) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        code, found = findings(shell, "--port", str(taken.getsockname()[1]))
    assert (code, found["address"]["how"]) == (3, "mend")
    assert "cannot listen on" in found["address"]["text"]


def test_beyond_loopback_without_a_token(shell: Shell) -> None:
    code, found = findings(shell, "--host", "0.0.0.0")
    assert (code, found["address"]["how"]) == (2, "mend")
    assert "set GREENROOM_TOKEN" in found["address"]["text"]


def test_a_token_that_is_too_short(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_TOKEN", "short")
    code, found = findings(shell)
    assert (code, found["address"]["how"]) == (2, "mend")
    assert "use 16 or more" in found["address"]["text"]


# --- target


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_this_name", "no module is named 'nothing_of_this_name': install it"),
        ("def f(:", "mend it"),
        ("from greenroom import Runtime\nruntime = Runtime()", "broken.py has no workflows"),
        ("x = 1", "has no Runtime and no workflow"),
    ],
)
def test_a_target_that_cannot_be_used(shell: Shell, folder: Path, code: str, words: str) -> None:
    (folder / "broken.py").write_text(code)
    exit_code, found = findings(shell, "broken.py")
    assert (exit_code, found["target"]["how"]) == (2, "mend")
    assert words in found["target"]["text"]


# --- store


def test_a_store_that_cannot_be_written(shell: Shell) -> None:
    code, found = findings(shell, "--store", "sqlite:///no/such/folder.db")
    assert (code, found["store"]["how"]) == (3, "mend")


def test_a_store_that_nobody_else_can_see(shell: Shell) -> None:
    code, found = findings(shell, "--store", "memory://")
    assert (code, found["store"]["how"]) == (0, "look")
    assert "survives nothing" in found["store"]["text"]


@pytest.mark.parametrize(("left", "how"), [(10 * 1024**2, "mend"), (500 * 1024**2, "look"), (2 * 1024**3, "ok")])
def test_a_disk_that_is_nearly_full(folder: Path, left: int, how: str) -> None:
    (found,) = [one for one in storage.storage("sqlite:///runs.db", free=lambda _: left) if one.what == "disk"]
    assert (found.how, f"{left // 1024**2:,} MiB are free" in found.text) == (how, True)


def test_a_database_on_another_machine(folder: Path) -> None:
    """The nearest mount counts, and blanks in its name are as the system writes them."""
    mounts = folder / "mounts"
    odd = str(folder).replace(" ", "\\040")
    for kind, seen in (("nfs4", True), ("ext4", False)):
        mounts.write_text(
            f"/dev/a / ext4 rw 0 0\nserver:/x {folder.parent} nfs rw 0 0\nserver:/x {odd} {kind} rw 0 0\n"
        )
        found = [one for one in storage.storage("sqlite:///runs.db", mounts=mounts) if one.what == "file system"]
        assert bool(found) == seen
        assert all(one.how == "mend" and "nfs4" in one.text for one in found)


def test_runs_that_nobody_executes(shell: Shell, folder: Path) -> None:
    """No worker at all; a build that no worker has; a workflow that the target lacks."""

    async def leave(*, worker: str | None) -> None:
        async with open_transport("sqlite:///greenroom.db") as store:
            for workflow, build in (("greet", "old"), ("gone", "")):
                lane = Lane(workflow=workflow, build=build)
                await store.create(NewRun(run_id=f"{workflow}-{worker}", lane=lane, entries=(Entry("x", b"{}"),)))
            if worker is not None:
                info = WorkerInfo(name="w", build=worker, started=0, beat=0, running=0, draining=False)
                await store.beat(info)

    anyio.run(lambda: leave(worker=None))
    code, found = findings(shell, "app.py")
    assert code == 0
    assert found["workers"]["text"].startswith("2 run(s) go on, and no worker was heard of lately: start one")
    assert "1 run(s) are pinned to build old, which no worker has" in found["builds"]["text"]
    assert "greenroom builds --retire old" in found["builds"]["text"]
    assert "1 run(s) of gone go on, which the target does not have" in found["workflows"]["text"]
    anyio.run(lambda: leave(worker="old"))
    _, found = findings(shell, "app.py")
    assert not {"workers", "builds"} & found.keys()


# --- settings


def test_a_variable_that_means_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_STOER", "x")
    code, found = findings(shell)
    assert (code, found["variable"]["how"]) == (0, "look")


def test_the_page_tells_what_is_found() -> None:
    """Every kind of finding that can be wrong stands in the table of docs/cli.md, and no other."""
    table = PAGE.partition("<!-- doctor -->")[2].partition("<!-- /doctor -->")[0]
    told = set(re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE))
    code = "".join(
        (Path(storage.__file__).parent / name).read_text() for name in ("doctor.py", "storage.py", "providers.py")
    )
    wrong = set(re.findall(r'Finding\(\s*"([a-z ]+)",\s*(?:"look"|"mend"|how)', code))
    notes = (Path(storage.__file__).parents[2] / "transports" / "redis_checkup.py").read_text()
    assert told == wrong | set(re.findall(r'Note\("([a-z]+)", False', notes))
