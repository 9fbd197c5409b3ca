"""The commands as processes: signals, lost workers, reload, pipes, terminals, and what starting costs."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from greenroom.runtime.cli.completion import vocabulary
from greenroom.runtime.cli.reload import snapshot

from .conftest import Program, Shell

Spawn = Callable[..., Program]
HEAVY = ("openai", "redis", "starlette", "rich", "anyio", "httpx2", "structlog", "msgspec", "sqlite3")


@contextlib.contextmanager
def events(url: str, run_id: str) -> Iterator[Iterator[dict[str, object]]]:
    """A run's records as the API streams them."""
    with (
        httpx2.Client(base_url=url, timeout=50) as client,
        client.stream("GET", f"/v1/runs/{run_id}/events", headers={"accept": "text/event-stream"}) as response,
    ):
        yield (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))


def started(url: str, workflow: str, **arguments: object) -> str:
    """The id of a new run."""
    answer = httpx2.post(f"{url}/v1/workflows/{workflow}/runs", json={"input": arguments}, timeout=50)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"].rpartition("/")[2])


def address(program: Program) -> str:
    """Where the API of a program that starts listens."""
    return program.hear("API").split()[1].removesuffix("/v1/workflows")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["completion", "bash"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, contextlib, io\nfrom greenroom.runtime.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    main(sys.argv[1:])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_a_run_outlives_the_kill_of_its_worker(spawn: Spawn, folder: Path) -> None:
    """API and workers are processes of their own; the second worker goes on where the first one was killed."""
    api = spawn("serve", "app.py", "--port", "0")
    first = spawn("worker", "app.py", "--name", "first", "--lease-s", "1")
    url = address(api)
    run_id = started(url, "patient")
    with events(url, run_id) as log:
        for event in log:
            if event["type"] == "step.started":
                break
        first.process.kill()
        (folder / "open").touch()
        second = spawn("worker", "app.py", "--name", "second")
        rest = list(log)
    taken = [event["data"] for event in rest if event["type"] == "lease.taken"][-1]
    assert isinstance(taken, dict)
    assert (taken["worker"], taken["takeover"]) == ("second", True)
    assert rest[-1]["type"] == "run.completed"
    assert second.end(signal.SIGTERM).code == 0
    stopped = api.end(signal.SIGTERM)
    assert stopped.code == 0
    assert "Traceback" not in stopped.err


@pytest.mark.slow
def test_a_first_sigterm_drains_a_worker_and_a_second_one_stops_it_at_once(spawn: Spawn, folder: Path) -> None:
    """The drain waits for the step; the second signal does not, and the run is handed over."""
    api = spawn("serve", "app.py", "--port", "0")
    worker = spawn("worker", "app.py", "--drain-s", "3600")
    url = address(api)
    run_id = started(url, "patient")
    with events(url, run_id) as log:
        for event in log:
            if event["type"] == "step.started":
                break
        worker.process.send_signal(signal.SIGTERM)
        worker.hear("draining; once more to stop at once")
        stopped = worker.end(signal.SIGTERM)
        assert next(event for event in log)["type"] == "run.handed_over"
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    assert api.end(signal.SIGINT).code == 0


@pytest.mark.slow
def test_interrupting_a_run_cancels_it(spawn: Spawn) -> None:
    program = spawn("run", "app.py", "patient")
    program.hear("step.started")
    done = program.end(signal.SIGINT)
    assert (done.code, done.out) == (130, "")
    assert "canceling the run" in done.err
    assert "run.canceled" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_run_that_waits_is_sent_signals_and_decisions(spawn: Spawn, shell: Shell, folder: Path) -> None:
    (folder / "desk.py").write_text(
        "from greenroom import Approval, Decision, Signal, workflow\n"
        "words, publish = Signal('words', str), Approval('publish', Decision)\n"
        "@workflow(signals=[words], approvals=[publish])\n"
        "async def desk() -> str:\n"
        "    text = await words.receive()\n"
        "    decision = await publish.request('Publish it?')\n"
        "    return f'{text} {decision.approved}'\n"
    )
    program = spawn("run", "desk.py")
    run_id = program.hear("run ").split()[1]
    program.hear("run.parked")
    assert "there is words" in shell("signal", "desk.py", run_id, "wrods", "tea").err
    assert shell("signal", "desk.py", run_id, "words", "3").err.endswith("Expected `str`, got `int`\n")
    assert shell("signal", "desk.py", run_id, "words", "tea").code == 0
    program.hear("approval.requested")
    approval = shell("approve", "desk.py", run_id).out.split()[0]
    assert shell("approve", "desk.py", run_id).out == f"{approval}  open  Publish it?\n"
    assert shell("approve", "desk.py", run_id, "nope").code == 4
    assert shell("approve", "desk.py", run_id, approval, "--by", "ann").code == 0
    done = program.end()
    assert (done.code, done.out) == (0, '"tea True"\n')
    assert f'{approval}  decided: {{"approved":true' in shell("approve", "desk.py", run_id).out
    assert shell("cancel", run_id).code == 1


@pytest.mark.slow
def test_dev_simulates_without_a_key_and_reloads_while_a_run_goes_on(spawn: Spawn, folder: Path) -> None:
    program = spawn("dev", "app.py", "--port", "0")
    assert "no provider is called" in program.hear("simulator")
    url = address(program)
    program.hear("start one")
    patient = started(url, "patient")
    with events(url, patient) as log:
        for event in log:
            if event["type"] == "step.started":
                break
    app = (folder / "app.py").read_text()
    (folder / "app.py").write_text(app + "\nthis is no Python\n")
    program.hear("a file changed, starting again")
    program.hear("app.py cannot be imported: invalid syntax")
    program.hear("waiting for a change")
    (folder / "open").touch()
    (folder / "app.py").write_text(app.replace("Greet somebody", "Greet everybody"))
    url = address(program)
    with events(url, patient) as log:
        assert list(log)[-1]["type"] == "run.completed"
    assert "Greet everybody" in httpx2.get(f"{url}/v1/workflows", timeout=50).text
    done = program.end(signal.SIGTERM)
    assert done.code == 0
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_dev_ends_when_its_watcher_is_killed(spawn: Spawn) -> None:
    program = spawn("dev", "app.py", "--port", "0")
    address(program)
    program.process.kill()
    assert "draining" in program.hear("worker draining")
    assert program.process.stderr is not None
    for line in program.process.stderr:  # ends when the last process that has it has ended
        assert "Traceback" not in line


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_a_command_without_a_word(spawn: Spawn, shell: Shell) -> None:
    shell("run", "app.py", "greet", "-q", "-i", "name=x", "-i", "times=300")
    (run,) = json.loads(shell("ps", "--json").out)
    program = spawn("logs", run["run_id"], "--jsonl")
    assert json.loads(program.read())["kind"] == "run.queued"
    assert program.process.stdout is not None
    program.process.stdout.close()
    assert program.process.stderr is not None
    assert program.process.stderr.read() == ""
    assert program.process.wait(50) == 141


@pytest.mark.slow
def test_on_a_terminal_a_run_is_a_live_picture(spawn: Spawn) -> None:
    """Its result is data all the same."""
    ours, theirs = pty.openpty()
    program = spawn("run", "app.py", "greet", "-i", "name=\x1b[31mred", stderr=theirs, TERM="xterm", COLUMNS="100")
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # a terminal's way to end
        while part := os.read(ours, 4096):
            seen += part
    os.close(ours)
    assert json.loads(program.end().out) == "\x1b[31mRED 0".replace("m", "M")
    picture = seen.decode()
    assert "✓" in picture
    assert "shout" in picture
    assert "run.queued" not in picture
    assert "\x1b[31MRED" not in picture
    assert "\\x1b[31MRED 0" in picture


@pytest.mark.slow
def test_the_simulator_gives_what_points_a_run_at_it(
    spawn: Spawn, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = spawn("simulate", "--port", "0")
    given = [simulator.read().removeprefix("export ").rstrip().partition("=") for _ in range(4)]
    assert [name for name, _, _ in given] == ["OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GEMINI_BASE_URL"]
    for name, _, value in given:
        monkeypatch.setenv(name, value)
    done = shell("run", "talk.py", "-q", "-i", "question=Why?")
    assert done.code == 0, done.err
    assert json.loads(done.out)
    assert simulator.end(signal.SIGTERM).code == 0


def test_what_is_watched_is_code_and_settings(tmp_path: Path) -> None:
    for name in ("a.py", "deep/b.py", "greenroom.toml", "c.txt", ".venv/d.py", "__pycache__/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {os.path.relpath(path, tmp_path) for path in snapshot(tmp_path)} == {"a.py", "deep/b.py", "greenroom.toml"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(
        subprocess.run(
            [sys.executable, "-m", "greenroom", "completion", "bash"], capture_output=True, text=True, check=True
        ).stdout
    )

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in ("greenroom", *words))
        program = f'. {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _greenroom; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert completed("si") == ["signal", "simulate"]
    assert completed("logs", "--o") == ["--output"]
    assert completed("") == list(vocabulary())
