"""Logs: JSON off a terminal, with the run's id, and without secrets, whoever logs and wherever they stand."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from greenroom.runtime.logs import colored, configure_logs
from greenroom.runtime.redaction import redact, secrets_in
from greenroom.runtime.step import describe

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def process_wide_settings_are_taken_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_lines_are_json_with_the_run_and_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("info")
    monkeypatch.setenv("SOMEBODYS_KEY", CANARY)  # set after the logs were: as a program does that loads a file of keys
    log = structlog.get_logger("greenroom.test")
    with structlog.contextvars.bound_contextvars(run_id="r1"):
        log.info(f"asking with {CANARY}", headers={"Authorization": "Bearer x"}, parts=[CANARY], password="p")
        log.debug("not heard")
        logging.getLogger("some.library").warning("%s was refused", CANARY)
        logging.getLogger("httpx").info("not heard either")
        try:
            raise ValueError(CANARY)
        except ValueError:
            log.exception("failed", url="redis://me:hunter2@host/0")
    raw = capsys.readouterr().err
    first, second, third = (json.loads(line) for line in raw.splitlines())
    assert CANARY not in raw
    assert "hunter2" not in raw
    assert (first["event"], first["run_id"], first["level"]) == ("asking with ***", "r1", "info")
    assert (first["headers"], first["parts"], first["password"]) == ({"Authorization": "***"}, ["***"], "***")
    assert (second["event"], second["run_id"], second["logger"]) == ("*** was refused", "r1", "some.library")
    assert "ValueError: ***" in third["exception"]
    assert third["url"] == "redis://me:***@host/0"


def test_on_a_terminal_lines_are_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logs("info")
    structlog.get_logger("greenroom.test").info("hello", workers=3)
    line = capsys.readouterr().err
    assert "hello" in line
    assert "workers=3" in line
    assert "\x1b" not in line


def test_secrets_are_what_is_named_so_and_long_enough() -> None:
    env = {
        "A_KEY": "longer-than-8",
        "B_TOKEN": "longer-than-8-too",
        "C_KEY": "short",
        "D_KEY": "simulator",
        "PATH": "/usr/bin:x",
    }
    assert secrets_in(env) == ["longer-than-8-too", "longer-than-8"]
    assert redact("longer-than-8-too longer-than-8 short /usr/bin:x", env) == "*** *** short /usr/bin:x"


def test_an_error_is_recorded_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_KEY", CANARY)
    assert describe(ValueError(f"wrong key: {CANARY}")).message == "wrong key: ***"


@pytest.mark.parametrize(
    ("terminal", "env", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colors_are_as_the_environment_says(terminal: bool, env: dict[str, str], expected: bool) -> None:
    assert colored(terminal, env) is expected
