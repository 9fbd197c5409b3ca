"""The kernel's benchmark: every peer that needs no installation does every case, and ratios mean what they say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.actors import CASES, OURS, QUEUE, ratios
from benchmarks.actors.peer import ERLANG, Absent, Failed, Peer, Process
from benchmarks.report import Row


@pytest.mark.parametrize("module", ["kernel", "asyncio_queue", "anyio_streams"])
async def test_a_peer_does_all_its_cases_again_and_again(module: str) -> None:
    async with import_module(f"benchmarks.actors.{module}").stage() as cases:
        assert set(cases) <= set(CASES)
        for case in cases.values():
            for _ in range(2):
                figure = await case(100)
                assert figure is None or figure > 0


def test_a_ratio_above_one_means_better_also_where_less_is_better() -> None:
    rows = (
        Row("tell", OURS, 3.0, "op/s", (2.0, 3.0, 8.0)),
        Row("tell", QUEUE, 2.0, "op/s", (1.0, 2.0, 2.0)),
        Row("restart", OURS, 7.0, "op/s", (7.0,)),
        Row("idle", OURS, 500.0, "bytes", (500.0,)),
        Row("idle", QUEUE, 1000.0, "bytes", (1000.0,)),
    )
    expected = {
        f"tell/{QUEUE}": 2.0,
        f"idle/{QUEUE}": 2.0,
        "restart_per_s": 7.0,
        "bytes_per_idle_actor": 500.0,
    }
    assert ratios(rows) == expected


def test_what_is_not_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Absent, match=r"^nosuchpackage is not installed$"):
        Peer("x", "kernel", package="nosuchpackage").command(tmp_path)
    with pytest.raises(Absent, match=r"^erl and erlc are not on the PATH$"):
        Peer("erlang", ERLANG).command(tmp_path)


def test_a_peer_in_its_process_measures_until_it_is_closed() -> None:
    with Process(Peer(OURS, "kernel")) as process:
        assert set(process.cases) <= set(CASES)
        assert process.measure("ask", 100) > 0


def test_a_peer_that_ends_leaves_its_last_words() -> None:
    with pytest.raises(Failed, match=r"^ModuleNotFoundError: No module named 'benchmarks\.actors\.nobody'$"):
        Process(Peer("x", "nobody"))


def test_suites_are_listed_and_an_unknown_one_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    assert "actors " in capsys.readouterr().out
    assert command.main(["nope"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("greenroom: there is no suite 'nope'; name one of: actors")
    assert complaint.count("\n") == 1
