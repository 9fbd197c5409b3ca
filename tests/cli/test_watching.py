"""`greenroom tree` and `greenroom top`: through the store and through an API, as text, as JSON, live."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import anyio
import msgspec
import pytest

from greenroom.runtime.cli.board import tree_text
from greenroom.runtime.http.fleet import TreeList
from greenroom.runtime.portraits import Line, Part, Portrait
from greenroom.runtime.router import LaneSnapshot
from greenroom.transports import WorkerInfo, open_transport

from .conftest import Program, Shell

T = TypeVar("T")
Spawn = Callable[..., Program]

STORE = "sqlite:///greenroom.db"


def furnish(*shown: str, mute: tuple[str, ...] = ()) -> None:
    """Make the store, with workers that show themselves and such that do not."""

    async def main() -> None:
        async with open_transport(STORE) as store:
            now = await store.now()
            stuck = Part(
                name="shout", kind="actor", state="restarting", mailbox=70, capacity=100, restarts=2, dropped=1
            )
            runs = Part(name="runs", kind="one_for_one", state="running", omitted=3)
            tree = Part(name="worker", kind="one_for_one", state="running", children=(stuck, runs))
            ill = LaneSnapshot(
                deployment="east", provider="openai", model="m", breaker="open", why="503: \x1b[31moverloaded",
                in_flight=2, tokens_used=0, outcomes={"ok": 7, "limited": 1, "unavailable": 4}, latencies=(0.5, 1.0),
            )  # fmt: skip
            portrait = Portrait(at=now, tree=tree, deployments=(ill,), lines=(Line(model="smart", waiting=9),))
            for name in (*shown, *mute):
                await store.beat(WorkerInfo(name=name, build="b1", started=now, beat=now, running=4, draining=False))
            for name in shown:
                await store.cache_put(f"portraits/{name}", msgspec.json.encode(portrait), ttl_s=600)

    anyio.run(main)


def test_a_tree_is_drawn_for_each_worker(shell: Shell) -> None:
    furnish("w-1", "w-2")
    one = (
        "w-1  build b1, 4 runs\n"
        "├─ shout  actor, restarting, 2 restarts, 70 waiting of 100, 1 dropped\n"
        "└─ runs  one_for_one, running\n"
        "   └─ ... and 3 more\n"
    )
    assert shell("tree") == (0, one + one.replace("w-1", "w-2"), "")
    assert shell("tree", "w-1").out == one
    assert shell("tree", "w-9") == (0, "", f"no worker named w-9 was heard of lately in {STORE}\n")


def test_a_tree_is_json_as_the_api_gives_it(shell: Shell) -> None:
    furnish("w-1")
    given = shell("tree", "--json").out
    (worker,) = msgspec.json.decode(given, type=TreeList).data
    assert (worker.worker, worker.running, tree_text(worker).count("\n")) == ("w-1", 4, 3)


def test_a_worker_that_does_not_show_itself_is_named(shell: Shell) -> None:
    furnish("w-1", mute=("w-2",))
    done = shell("tree", "--wait", "0.1")
    assert done.out.endswith("w-2  build b1, 4 runs, not shown\n")
    assert done.err == "worker w-2 did not show itself within 0.1 s: give it more with --wait\n"


def test_the_board_is_one_picture_where_nobody_watches(shell: Shell) -> None:
    furnish("w-1")
    shell("run", "app.py:runtime", "greet", "--input", "name=bob", "-q")
    out = shell("top").out
    hostile = "503: \\x1b[31moverloaded"
    for words in ("1 worker, 4 runs at work", "w-1/shout", "east", "open", hostile, "9 for smart on w-1", "greet"):
        assert words in out
    assert "\x1b" not in out
    sight = json.loads(shell("top", "--json").out)
    assert sight["providers"]["data"][0]["limited"] == 1
    assert sight["runs"]["data"][0]["workflow"] == "greet"


@pytest.mark.parametrize("command", ["tree", "top"])
def test_what_cannot_be_looked_at_is_said_with_its_code(shell: Shell, command: str) -> None:
    done = shell(command)
    assert (done.code, done.out) == (3, "")
    assert "there is no database" in done.err
    assert shell(command, "--url", "localhost:8800").code == 2
    done = shell(command, "--url", "http://127.0.0.1:9")
    assert (done.code, done.out) == (3, "")
    assert "http://127.0.0.1:9 cannot be reached" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_worker_at_work_is_seen_through_its_api(spawn: Spawn, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes share a store alone; the token is that of the environment."""
    token = "a-token-of-sixteen-or-more"
    api = spawn("serve", "app.py", "--port", "0", GREENROOM_TOKEN=token)
    worker = spawn("worker", "app.py", "--name", "w-1", "--lease-s", "1")
    url = api.hear("API").split()[1].removesuffix("/v1/workflows")
    worker.hear("w-1")
    refused = shell("tree", "--url", url)
    assert (refused.code, refused.out) == (2, "")
    assert "unauthorized" in refused.err
    monkeypatch.setenv("GREENROOM_TOKEN", token)
    while "w-1" not in (drawn := shell("tree", "--url", url, "--wait", "30").out):
        pass  # it has yet to beat
    for part in ("w-1", "├─ router", "├─ components", "├─ runs", "│  └─ portrait", "└─ claimer"):
        assert part in drawn
    assert shell("tree", "--wait", "30").out.splitlines()[1:] == drawn.splitlines()[1:]
    assert "w-1" in shell("top", "--url", url).out
    follow = spawn("top", "--url", url, "--jsonl", "--interval", "0.1")
    lines = [json.loads(follow.read()) for _ in range(2)]
    assert [line["workers"][0]["worker"] for line in lines] == ["w-1", "w-1"]
    assert follow.end(signal.SIGTERM).code == 0
    assert worker.end(signal.SIGTERM).code == 0
    assert api.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_on_a_terminal_it_is_live_and_leaves_the_terminal_as_it_was(shell: Shell) -> None:
    furnish("w-1")
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    command = [sys.executable, "-m", "greenroom", "top", "--interval", "0.1"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env) as process:
        os.close(theirs)
        heard = b""
        while heard.count(b"w-1/shout") < 3:
            heard += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while read := os.read(ours, 65536):
                heard += read
        except OSError:  # the other side was closed
            pass
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    os.close(ours)
    assert b"\x1b[?1049h" in heard
    assert heard.rfind(b"\x1b[?1049l") > heard.rfind(b"\x1b[?1049h")
