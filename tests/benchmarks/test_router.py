"""The benchmark of the router: its optimum is the formula's, and its figures are what it says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import httpx2
import pytest

from benchmarks.routing import bursts
from benchmarks.routing.bare import CHUNKS, EVENTS, STREAM, WHOLE
from benchmarks.routing.bursts import CALLS, CASES, LATENCY_S, PER_S, Case, Control, Outcome, burst
from benchmarks.routing.cost import added_us
from benchmarks.routing.peers import Absent, command, measured
from benchmarks.routing.plots import draw
from greenroom.runtime.router.connection import Answer, Connection
from greenroom.runtime.router.connections import Connections


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_optimum_is_when_the_last_call_fits_into_two_full_buckets(case: Case) -> None:
    step, now, calls = 0.001, 0.0, float(CALLS)
    levels = [PER_S, PER_S]
    while calls > 0:
        now += step
        for number, down_s in enumerate(case.down_s):
            levels[number] = min(PER_S, levels[number] + PER_S * step)
            if not 5 <= now < 5 + down_s:
                sent = min(levels[number], calls)
                levels[number] -= sent
                calls -= sent
    assert case.optimum_s == pytest.approx(now + LATENCY_S, abs=0.01)


class _Counted(Control):
    """Providers that saw nothing but that they were asked."""

    def __init__(self) -> None:
        self.began: list[list[str]] = []

    def begin(self, faults: list[str]) -> None:
        self.began.append(faults)

    def outcome(self, makespan_s: float, failed: int, cpu_s: float) -> Outcome:
        return Outcome(makespan_s, failed, 0, CALLS - failed, 0, cpu_s)


async def test_a_burst_makes_every_call_once_and_counts_those_that_are_lost() -> None:
    asked: list[int] = []

    async def ask(number: int) -> None:
        asked.append(number)
        await asyncio.sleep(0)
        if number % 4 == 0:
            raise LookupError

    control = _Counted()
    outcome = await burst(control, CASES["one_down"], ask, LookupError)
    assert sorted(asked) == list(range(CALLS))
    assert outcome.failed == CALLS / 4
    assert outcome.makespan_s >= 1 - 1 / CALLS
    assert control.began == [["openai:503:from=5:until=15"]]


async def test_a_burst_that_is_not_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "LONGEST", 0.001)

    async def ask(number: int) -> None:
        await asyncio.sleep(3600)

    outcome = await burst(_Counted(), CASES["burst"], ask, LookupError)
    assert outcome.failed == CALLS


def test_what_is_added_is_compared_round_by_round() -> None:
    assert added_us({"openai": [100.0, 200.0, 300.0], "router": [110.0, 260.0, 320.0]}) == 20.0


def test_a_picture_is_whole_and_shows_every_burst(tmp_path: Path) -> None:
    sent = {"openai": [(30, 0), (31, 1)], "gemini": [(30, 0), (29, 0)]}
    outcome = Outcome(15.8, 0, 1, 2001, 0, 3.5, sent)
    path = draw({("burst", "a <b>"): outcome, ("one_down", "c"): outcome}, tmp_path / "new" / "router.svg")
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert any(text.startswith("burst, a <b>: 15.8 s") for text in texts)
    assert any(text.startswith("one_down, c") for text in texts)
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 4
    assert len([element for element in root.iter() if element.tag.endswith("circle")]) == 2


@pytest.fixture
def answer() -> tuple[Connection, Answer]:
    connection = Connection(Connections(), ("http", "127.0.0.1", 80))
    connection._answer = made = Answer(connection)
    return connection, made


def test_the_bare_provider_writes_http_that_ends(answer: tuple[Connection, Answer]) -> None:
    connection, made = answer
    connection._take(made, STREAM)
    for event in EVENTS:
        assert not made.ended
        connection._take(made, event)
    assert made.ended
    assert b"".join(made._blocks).count(b'"content"') == CHUNKS
    assert httpx2.Response(200, content=WHOLE.partition(b"\r\n\r\n")[2]).json()["choices"]


def test_a_process_that_fails_or_takes_too_long_is_left_out_with_a_reason() -> None:
    assert measured("three", ["python3", "-c", "print('said'); print(3)"], 30) == 3
    with pytest.raises(Absent, match="x failed: ValueError: no"):
        command("x", ["python3", "-c", "raise ValueError('no')"], 30)
    with pytest.raises(Absent, match=r"took longer than 0 s"):
        command("x", ["python3", "-c", "import time; time.sleep(30)"], 0.2)
    with pytest.raises(Absent, match="No such file"):
        command("x", ["no-such-program"], 30)
