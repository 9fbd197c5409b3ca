"""The demo as a process: what it prints, what it proves, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from verdict import Verdict

from greenroom.runtime.records import LLMAttempt, LLMCall
from greenroom.runtime.router.providers import known
from greenroom.runtime.simulator import Latency, ProviderPlan, Simulator, serve_simulator
from greenroom.runtime.trace import Trace

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """An environment without keys, with its own place for temporary files."""
    keys = {one.key_env for one in known()}
    return {name: value for name, value in os.environ.items() if name not in keys} | {
        "TMPDIR": str(folder),
        **more,
    }


async def demo(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run it in a folder, without a terminal and without standard input."""
    return await anyio.run_process(
        [sys.executable, str(DEMO), *args],
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=surroundings(folder, **env),
    )


def workers_in(folder: Path) -> list[str]:
    """Processes that were started with this folder's store."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command and "greenroom worker" in command:
            found.append(command)
    return found


def written_in(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the demo wrote down: the log and the trace."""
    (made,) = folder.iterdir()
    log = [json.loads(line) for line in (made / "log.jsonl").read_text().splitlines()]
    return log, json.loads((made / "trace.json").read_text())


def promised(line: bytes) -> Mapping[str, Any]:
    """Check what the demo is there to prove; its line."""
    told: dict[str, Any] = json.loads(line)
    assert list(told) == [
        "status",
        "takeovers",
        "steps_executed",
        "steps_replayed",
        "steps_recorded_twice",
        "tokens",
        "http_429",
    ]
    assert told["status"] == "completed"
    assert told["takeovers"] >= 1
    assert told["steps_executed"] == 1 + 12 + 3
    assert 1 + 12 + 1 <= told["steps_replayed"] < told["steps_executed"]
    assert told["steps_recorded_twice"] == 0
    assert told["http_429"] == 0
    return told


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_worker_is_killed_while_it_writes_and_another_one_ends_the_run(tmp_path: Path) -> None:
    done = await demo(tmp_path, "--json")
    assert done.returncode == 0, done.stderr.decode()
    told = promised(done.stdout)
    assert done.stdout.count(b"\n") == 1
    assert set(told["tokens"]) == {"gpt-5.2", "gpt-5.2-mini", "gemini-3-pro", "gemini-3-flash"}
    assert b"simulator" in done.stderr
    assert b"kill -9" in done.stderr

    log, trace = written_in(tmp_path)
    assert [record["seq"] for record in log] == list(range(1, len(log) + 1))
    assert [record["kind"] for record in log].count("output.reset") >= 1
    assert trace["takeovers"] == told["takeovers"]
    assert workers_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_with_a_key_it_calls_the_provider_that_the_environment_names(tmp_path: Path) -> None:
    fast = Latency(first_token_s=0.05, tokens_per_s=100)
    simulator = Simulator([ProviderPlan(name="openai", models=("gpt-5.2", "gpt-5.2-mini"), latency=fast)])
    async with serve_simulator(simulator) as at:
        done = await demo(tmp_path, OPENAI_API_KEY="sk-a-key-of-somebody", OPENAI_BASE_URL=at.openai_url)
    assert done.returncode == 0, done.stderr.decode()
    assert len(simulator.seen) >= 15
    assert b"takeover" in done.stdout
    assert b"real providers" in done.stderr
    assert b"sk-a-key" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_interrupted_it_leaves_no_process_behind(tmp_path: Path) -> None:
    process = await anyio.open_process([sys.executable, str(DEMO)], cwd=tmp_path, env=surroundings(tmp_path))
    async with process:
        assert process.stderr is not None
        said = b""
        while b"step.started" not in said:
            said += await process.stderr.receive()
        assert workers_in(tmp_path)
        process.send_signal(signal.SIGINT)
        async for _ in process.stderr:
            pass
        assert await process.wait() == 130
    assert workers_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_worker_that_cannot_work_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = await demo(tmp_path, "--json", GREENROOM_CAPACITY="many")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "queued"
    last = done.stderr.decode().strip().split("\n")[-1]
    assert "GREENROOM_CAPACITY is 'many'" in last
    assert "Traceback" not in done.stderr.decode()
    assert workers_in(tmp_path) == []


def call(*outcomes: str) -> LLMCall:
    tried = tuple(LLMAttempt(deployment="d", outcome=outcome, seconds=0.1) for outcome in outcomes)
    return LLMCall(
        step="a", attempt=1, status="ok", deployment="d", provider="p", model="m", asked_model="m", attempts=tried
    )


def test_a_verdict_names_everything_that_was_promised_and_did_not_happen() -> None:
    good = Trace(status="completed", takeovers=1)
    assert Verdict(trace=good, taken_back=1, simulated_429=0).faults() == []
    bad = Trace(status="completed", steps_recorded_twice=2, calls=[call("limited", "ok"), call("quota")])
    faults = Verdict(trace=bad, taken_back=0).faults()
    assert [word for word in ("killed", "recorded twice", "2 calls") if not any(word in one for one in faults)] == []
    assert "canceled" in Verdict(trace=Trace(status="canceled"), taken_back=0).faults()[0]


def test_the_simulator_sees_429s_that_a_dead_worker_could_not_record() -> None:
    verdict = Verdict(trace=Trace(status="completed", takeovers=1), taken_back=0, simulated_429=3)
    assert verdict.http_429 == 3
    assert json.loads(verdict.line())["http_429"] == 3
    assert len(verdict.faults()) == 1
