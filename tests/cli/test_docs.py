"""docs/cli.md says what is so: its commands parse, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from greenroom.runtime import cli
from greenroom.runtime.cli.completion import vocabulary
from greenroom.runtime.cli.parser import parse
from greenroom.runtime.config import TYPES, Settings, flag, variable

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ greenroom (.*)$", PAGE, re.MULTILINE)
WORDS = {str: "text", int: "whole number", float: "number"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command(example: str) -> None:
    words = shlex.split(example)
    parse(words[: words.index(">")] if ">" in words else words)


def test_every_command_has_a_section_and_an_example() -> None:
    commands = list(vocabulary())
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(commands)
    assert sorted(example.split()[0] for example in EXAMPLES) == sorted(commands)


def test_options_in_the_text_exist() -> None:
    known = {option for options in vocabulary().values() for option in options} | {"--help"}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def test_the_settings_are_those_of_the_code() -> None:
    table = PAGE.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0].strip().splitlines()[2:]
    assert table == [
        f"| `{name}` | `{flag(name)}` | `{variable(name)}` | {WORDS[kind]} | `{getattr(Settings(), name)}` |"
        for name, kind in TYPES.items()
    ]
    assert {flag(name) for name in TYPES} <= set(vocabulary()["dev"])


def test_the_exit_codes_are_those_of_the_code() -> None:
    assert cli.__doc__ is not None
    rows = [line for line in cli.__doc__.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in PAGE
