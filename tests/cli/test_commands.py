"""What the commands give, and what they say of bad input: a sentence, a code, nothing half-written. In this process."""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from greenroom.runtime.cli import storage
from greenroom.runtime.cli.input import read_input
from greenroom.runtime.cli.tokens import api_options
from greenroom.runtime.config import load_settings
from greenroom.runtime.http.access import Access, Scope
from greenroom.runtime.http.tokens import Tokens
from greenroom.transports.sqlite_migrations import VERSION

from .conftest import Shell

OLD = Path(__file__).parents[1] / "transports" / "schema_1.sql"
CANARY = "sk-canary-0123456789"


def test_a_run_gives_its_result_and_tells_its_progress_and_can_be_read_later(shell: Shell) -> None:
    done = shell("run", "app.py:runtime", "greet", "--input", "name=bob", "-i", '{"times": 2}')
    assert (done.code, done.out) == (0, '"BOB 0 BOB 1"\n')
    run_id = done.err.splitlines()[0].removeprefix("run ")
    kinds = [line.split()[2] for line in done.err.splitlines()[1:]]
    assert kinds[0] == "run.queued"
    assert kinds[-1] == "run.completed"
    assert "output.delta" not in kinds

    listed = shell("ps", "--json", "--status", "completed", "--workflow", "greet")
    assert [run["run_id"] for run in json.loads(listed.out)] == [run_id]
    assert run_id in shell("ps").out
    assert shell("ps", "--status", "failed") == (0, "", "no such runs in sqlite:///greenroom.db\n")

    records = [json.loads(line) for line in shell("logs", run_id, "--jsonl").out.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert records[-1]["data"]["result"] == "BOB 0 BOB 1"
    followed = shell("logs", run_id, "--follow", "--after", "3").out.splitlines()
    assert followed == shell("logs", run_id).out.splitlines()[3:]
    assert shell("logs", run_id, "--output").out == "BOB 0\nBOB 1\n"

    drawn = shell("trace", run_id).out
    assert "├─ shout  completed" in drawn
    assert "└─ shout  completed" in drawn
    assert json.loads(shell("trace", run_id, "--json").out)["steps_executed"] == 2

    assert shell("cancel", run_id).code == 1


def test_runs_are_forked_retried_and_canceled_many_at_once(shell: Shell) -> None:
    shell("run", "app.py:runtime", "greet", "--input", "name=bob", "-q")
    [run] = json.loads(shell("ps", "--json").out)
    [step] = json.loads(shell("trace", run["run_id"], "--json").out)["spans"]
    forked = shell("fork", "app.py:runtime", run["run_id"], "--at", step["step"], "--input", "name=ann")
    assert forked.code == 0
    assert shell("fork", "app.py:runtime", run["run_id"], "--at", "none").code == 2
    assert shell("retry", "app.py:runtime", run["run_id"]).code == 2
    assert shell("retry", "app.py:runtime").code == 2
    assert shell("cancel").code == 2
    assert "asked 1 runs to stop" in shell("cancel", "--workflow", "greet").err
    kinds = [json.loads(line)["kind"] for line in shell("logs", forked.out.strip(), "--jsonl").out.splitlines()]
    assert kinds == ["run.queued", "cancel.requested"]
    assert json.loads(shell("builds", "--json").out) == [{"build": "", "live_runs": 1, "workers": 0}]
    assert "0 runs of build x" in shell("builds", "--retire", "x").err


def test_quiet_leaves_data_and_json_gives_one_object(shell: Shell) -> None:
    assert shell("run", "app:runtime", "greet", "-i", "name=x", "-q") == (0, '"X 0"\n', "")
    done = shell("run", "app:greet", "-i", "name=x", "-q", "--json")
    view = json.loads(done.out)
    assert {**view, "run_id": ""} == {
        "run_id": "",
        "workflow": "greet",
        "state": "completed",
        "result": "X 0",
        "error": None,
    }
    records = [json.loads(line) for line in shell("run", "app:greet", "-i", "name=x", "-q", "--jsonl").out.splitlines()]
    assert [records[0]["kind"], records[-1]["kind"]] == ["run.queued", "run.completed"]


def test_input_comes_from_files_and_from_standard_input_and_later_ones_win(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "input.json").write_text('{"name": "file", "times": 9}')
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"times": 8, "list": [1]}'))
    given = ["@input.json", "-", "times=1", "text=1 = one", 'quoted="1"', "empty="]
    assert json.loads(read_input(given)) == {
        "name": "file",
        "times": 1,
        "list": [1],
        "text": "1 = one",
        "quoted": "1",
        "empty": "",
    }
    assert read_input([]) == b"{}"


def test_a_run_that_is_late_is_told_by_its_code(shell: Shell) -> None:
    done = shell("run", "app:patient", "--timeout", "0.2", "-q")
    assert (done.code, done.out) == (124, "")
    assert done.err.startswith("greenroom: run ")
    assert done.err.endswith("timed out: the run took longer than 0.2 s\n")


@pytest.mark.slow
def test_an_llm_call_without_a_key_says_what_to_set(shell: Shell) -> None:
    done = shell("run", "talk", "-q", "-i", "question=why")
    assert done.code == 1
    assert "set OPENAI_API_KEY or GEMINI_API_KEY" in done.err
    assert "greenroom simulate" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("run app.py greet -i name=1 -i nmae=2", 2, "input of greet is invalid at $"),
        ("run app.py greet -i name=1", 2, "input of greet is invalid at $.name: Expected `str`, got `int`"),
        ("run app.py greet", 2, "missing required field `name`"),
        ("run app.py greet -i {", 2, "--input is not JSON"),
        ("run app.py greet -i [1]", 2, "--input is not a JSON object: give the arguments by name"),
        ("run app.py greet -i @no.json", 2, "--input @no.json cannot be read: no such file or directory"),
        ("run app.py greet -i name=x --timeout 0", 2, "$.timeout_s: is 0.0, must be more than 0 seconds"),
        ("run app.py nope", 4, "no workflow is named 'nope': this runtime has greet, patient"),
        ("run app.py", 2, "there are several workflows: name one of greet, patient"),
        ("run app.py:nope", 2, "app.py has no 'nope': give greet or patient or runtime"),
        ("run app.py:Path", 2, "app.py:Path is a type: give a Runtime or a workflow"),
        ("run nope.py", 2, "there is no file 'nope.py': give module:attribute or path/to/file.py:attribute"),
        ("run nope:runtime", 2, "no module is named 'nope'"),
        ("run json", 2, "json has no Runtime and no workflow"),
        ("run broken.py", 2, "broken.py cannot be imported: ZeroDivisionError: division by zero"),
        ("run typo.py", 2, "typo.py cannot be imported: invalid syntax"),
        ("run leaves.py", 2, "leaves.py cannot be imported: SystemExit: 3"),
        ("run needs.py", 2, "needs.py cannot be imported: no module is named 'not_there': install it"),
        ("run app.py greet --port 1", 2, "unrecognized arguments: --port"),
        ("serve app.py --port 70000", 2, "--port: port is 70000: give 0 to 65535"),
        ("serve app.py --store memory://", 2, "the store is memory://, which no other process can see"),
        ("serve app.py --host 0.0.0.0", 2, "0.0.0.0 can be reached from other machines and no token is set"),
        ("serve app.py --store nope://x", 2, "no store is spoken to by nope://"),
        ("worker app.py --store sqlite:///no/where.db", 3, "the folder no of the database does not exist: make it"),
        ("worker app.py --store sqlite:///app.py", 3, "app.py is not a SQLite database"),
        ("worker app.py --store sqlite:///other.db", 3, "other.db is another program's database"),
        ("worker app.py --lease-s 0", 2, "--lease-s: lease_s is 0.0: give 0.5 seconds or more"),
        ("ps", 3, "there is no database greenroom.db: start a run first"),
        ("ps --store sqlite:///app.py", 3, "app.py is not a SQLite database"),
        ("ps --status done", 2, "--status is 'done': give one of queued, running"),
        ("ps --limit 0", 2, "give a whole number from 1 to 1000"),
        ("logs r1", 3, "there is no database greenroom.db"),
        ("logs r1 --after -1", 2, "give a whole number from 0"),
        ("simulate --fault openai:no", 2, "fault 'openai:no': 'no' is no kind"),
        ("simulate --openai-rpm 0", 2, "give a number above 0"),
        ("completion tcsh", 2, "invalid choice: 'tcsh'"),
        ("nope", 2, "invalid choice: 'nope'"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_leaves_nothing(
    shell: Shell, folder: Path, line: str, code: int, words: str
) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "typo.py").write_text("def\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "needs.py").write_text("import not_there\n")
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = {path.name for path in folder.iterdir()}
    done = shell(*line.split())
    assert words in done.err
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    said = done.err.splitlines()[-1]
    assert said.startswith(("greenroom: ", "greenroom "))
    assert {path.name for path in folder.iterdir()} - before <= {"__pycache__", "greenroom.db"}
    assert not (folder / "greenroom.db").exists() or b"run.queued" not in (folder / "greenroom.db").read_bytes()


@pytest.mark.parametrize("command", [("logs",), ("logs", "-f"), ("trace",), ("cancel",)])
def test_an_unknown_run_is_not_found(shell: Shell, command: tuple[str, ...]) -> None:
    shell("run", "app:greet", "-q", "-i", "name=x")
    done = shell(*command, "nope")
    assert (done.code, done.out) == (4, "")
    assert "nope" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_cursor_beyond_the_end_is_refused(shell: Shell) -> None:
    shell("run", "app:greet", "-q", "-i", "name=x")
    run_id = json.loads(shell("ps", "--json").out)[0]["run_id"]
    for follow in ((), ("--follow",)):
        done = shell("logs", run_id, "--after", "99", *follow)
        assert (done.code, done.out) == (2, "")
        assert "cursor 99 is ahead" in done.err


def test_a_port_in_use_and_a_broken_file_of_settings(shell: Shell, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("serve", "dev"):
            extra = ("--no-reload",) if command == "dev" else ()
            done = shell(command, "app.py", "--port", port, *extra)
            assert done.code == 3
            assert done.err.splitlines()[-1].startswith(f"greenroom: cannot listen on 127.0.0.1:{port} (")
        assert shell("simulate", "--port", port).code == 3
        assert shell("doctor", "--port", port).code == 3
    (folder / "greenroom.toml").write_text("[")
    for arguments in (["ps"], ["doctor"], ["run", "app.py", "greet"]):
        done = shell(*arguments)
        assert done.code == 2
        assert done.err.startswith("greenroom: greenroom.toml cannot be read: ")


def test_workflows_are_listed(shell: Shell) -> None:
    assert shell("workflows", "app.py").out.splitlines()[0].split(maxsplit=1) == ["greet", "Greet somebody."]
    assert json.loads(shell("workflows", "app.py", "--json").out)["greet"] == "Greet somebody."


def test_doctor_finds_all_well_and_leaves_nothing_behind(shell: Shell, folder: Path) -> None:
    before = set(folder.iterdir())
    done = shell("doctor", "app.py:runtime", "--port", "0")
    assert done.code == 0, done.out
    assert "ok    target: app.py:runtime has greet, patient on sqlite:///greenroom.db" in done.out
    assert "store = sqlite:///greenroom.db from the default" in done.out
    assert "port = 0 from --port" in done.out
    assert {path.name for path in set(folder.iterdir()) - before} <= {"__pycache__"}


def test_a_token_is_made_and_lets_its_holder_in(shell: Shell, folder: Path) -> None:
    """What it gives can be put into greenroom.toml as it is; the token itself stands in a comment, once."""
    made = shell("token", "ci", "--scope", "read", "run", "--tenant", "acme")
    assert made.code == 0
    plain = made.out.splitlines()[0].removeprefix("# ")
    (folder / "greenroom.toml").write_text(made.out.partition("\n")[2])
    access = Tokens(api_options(load_settings({}, {}, folder)).tokens).find(plain)
    assert access == Access("ci", (Scope.READ, Scope.RUN), "acme")
    assert "requests need a token" in shell("doctor", "--port", "0").out
    (folder / "greenroom.toml").write_text('[[tokens]]\nname = "ci"\nscopes = ["write"]\ntoken = "0123456789abcdef"\n')
    done = shell("serve", "app.py", "--port", "0")
    assert (done.code, done.err.strip()) == (
        2,
        "greenroom: greenroom.toml: token 'ci': scopes: give a list of some of read, run, admin",
    )
    assert "admin is over all tenants" in shell("token", "ci", "--scope", "admin", "--tenant", "acme").err


def test_doctor_knows_a_sqlite_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("run", "app.py", "greet", "--input", "name=bob")
    out = shell("doctor", "--port", "0").out
    assert "sqlite:///greenroom.db opens; an acknowledged write survives" in out
    assert f"ok    schema: {VERSION}, which this greenroom writes" in out
    monkeypatch.setattr(storage, "WAL_RESET_BUG", "")
    assert f"ok    sqlite: {sqlite3.sqlite_version}" in shell("doctor", "--port", "0").out
    monkeypatch.setattr(storage, "WAL_RESET_BUG", "it has a bug: use a newer one, or one process")
    assert (
        "look  sqlite: it has a bug: use a newer one, or one process that writes" in shell("doctor", "--port", "0").out
    )
    assert "sqlite: " not in shell("doctor", "--port", "0", "--store", "memory://").out


def test_doctor_leaves_a_file_of_an_older_version_as_it_is(shell: Shell, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "greenroom.db")) as database:
        database.executescript(OLD.read_text(encoding="utf-8"))
    before = (folder / "greenroom.db").read_bytes()
    done = shell("doctor", "--port", "0")
    assert done.code == 0
    assert f"look  schema: greenroom.db has 1: what opens it next brings it to {VERSION}, and then older" in done.out
    assert (folder / "greenroom.db").read_bytes() == before


def test_doctor_says_what_to_mend(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "greenroom.toml").write_text('store = "sqlite:///no/where.db"\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("GREENROOM_STOER", "x")
    done = shell("doctor", "nope.py", "--port", "0", "--json")
    told = json.loads(done.out)
    findings = {one["what"]: one for one in told["findings"]}
    assert done.code == 3
    assert findings["store"]["how"] == "mend"
    assert "make it" in findings["store"]["text"]
    assert "GREENROOM_TOKEN" in findings["address"]["text"]
    assert "GREENROOM_STOER means nothing here" in findings["variable"]["text"]
    assert "OPENAI_API_KEY" in findings["providers"]["text"]
    assert "there is no file 'nope.py'" in findings["target"]["text"]
    assert told["settings"]["store"] == {"value": "sqlite:///no/where.db", "from": "greenroom.toml"}


def test_no_key_is_in_any_output_of_any_command(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary in the environment, and code that does its best to give it away."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("GREENROOM_TOKEN", f"{CANARY}-token")
    (folder / "leak.py").write_text(
        "import os\nfrom greenroom import *\n"
        "@workflow\nasync def leak() -> str:\n"
        "    await status(os.environ['OPENAI_API_KEY'])\n"
        "    await emit(os.environ['OPENAI_API_KEY'])\n"
        "    raise ValueError(os.environ['OPENAI_API_KEY'])\n"
    )
    (folder / "worse.py").write_text("import os\nraise ValueError(os.environ['OPENAI_API_KEY'])\n")
    said = [
        shell("run", "leak.py", "--json"),
        shell("run", "leak.py", "--jsonl", "--log-level", "debug"),
        shell("run", "worse.py"),
        shell("run", "app.py", "greet", "-i", f"nmae={CANARY}"),
        shell("run", "app.py", "greet", "-i", f"name={CANARY}"),
        shell("ps", "--json"),
        shell("doctor", "leak.py", "--store", f"redis://me:{CANARY}@host/0"),
        shell("doctor", "--json"),
        shell("ps", "--store", f"redis://me:{CANARY}@host/0"),
        shell("serve", "app.py", "--host", CANARY),
    ]
    for run in json.loads(said[5].out):
        for name, *options in (["logs"], ["logs", "--jsonl"], ["logs", "--output"], ["trace"], ["trace", "--json"]):
            said.append(shell(name, run["run_id"], *options))
    assert any("***" in done.out + done.err for done in said)
    for done in said:
        assert CANARY not in done.out + done.err
    assert os.environ["OPENAI_API_KEY"] == CANARY
