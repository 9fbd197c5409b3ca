"""Settings: which value wins, where it came from, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom import ConfigInvalid
from greenroom.runtime.config import TYPES, Settings, flag, load_settings, variable


def test_flag_wins_over_variable_over_file_over_pyproject_over_default(tmp_path: Path) -> None:
    flags: dict[str, Any] = {}
    env: dict[str, str] = {}
    told = []

    def look() -> None:
        settings = load_settings(flags, env, tmp_path)
        told.append((settings.port, settings.sources.get("port")))

    look()
    (tmp_path / "pyproject.toml").write_text("[tool.greenroom]\nport = 1\n[tool.other]\nport = 9\n")
    look()
    (tmp_path / "greenroom.toml").write_text("port = 2\n")
    look()
    env["GREENROOM_PORT"] = "3"
    look()
    flags["port"] = 4
    look()
    assert told == [
        (8800, None),
        (1, "pyproject.toml [tool.greenroom]"),
        (2, "greenroom.toml"),
        (3, "GREENROOM_PORT"),
        (4, "--port"),
    ]


def test_every_setting_can_be_given_in_every_way(tmp_path: Path) -> None:
    given = {"store": "memory://", "host": "::1", "port": 1, "lease_s": 1.5, "capacity": 2, "drain_s": 3.0}
    values: dict[str, Any] = {**given, "log_level": "debug"}
    assert values.keys() == TYPES.keys()
    (tmp_path / "greenroom.toml").write_text("\n".join(f"{name} = {value!r}" for name, value in values.items()))
    from_file = load_settings({}, {}, tmp_path)
    from_env = load_settings({}, {variable(name): str(value) for name, value in values.items()}, Path("/nowhere"))
    from_flags = load_settings(values, {}, Path("/nowhere"))
    for settings in (from_file, from_env, from_flags):
        assert {name: getattr(settings, name) for name in TYPES} == values


def test_an_empty_variable_and_an_absent_flag_say_nothing(tmp_path: Path) -> None:
    assert load_settings({"port": None}, {"GREENROOM_PORT": ""}, tmp_path) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = x", "greenroom.toml cannot be read: Invalid value (at line 1, column 8)"),
        ("prot = 1", "greenroom.toml: 'prot' is unknown: give store, host, port"),
        ('port = "x"', "greenroom.toml: port is 'x': give a whole number"),
        ("port = true", "greenroom.toml: port is True: give a whole number"),
        ("port = 70000", "greenroom.toml: port is 70000: give 0 to 65535"),
        ("lease_s = 0.1", "greenroom.toml: lease_s is 0.1: give 0.5 seconds or more"),
        ("lease_s = inf", "greenroom.toml: lease_s is inf: give a number"),
        ("capacity = 0", "greenroom.toml: capacity is 0: give 1 or more runs"),
        ("drain_s = -1", "greenroom.toml: drain_s is -1.0: give 0 or more seconds"),
        ('log_level = "loud"', "greenroom.toml: log_level is 'loud': give debug, info, warning, error"),
        ("router = 1", "greenroom.toml: router must be a table"),
        ("tokens = 1", "greenroom.toml: tokens must be an array of tables"),
    ],
)
def test_a_wrong_file_is_named_with_key_and_fix(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "greenroom.toml").write_text(text)
    with pytest.raises(ConfigInvalid) as refused:
        load_settings({}, {}, tmp_path)
    assert str(refused.value).startswith(words)
    assert "\n" not in str(refused.value)


def test_a_pyproject_without_such_a_table_is_refused_only_where_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert load_settings({}, {}, tmp_path) == Settings()
    (tmp_path / "pyproject.toml").write_text("[tool]\ngreenroom = 3\n")
    with pytest.raises(ConfigInvalid, match=r"pyproject\.toml: greenroom must be a table"):
        load_settings({}, {}, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("port", "x"), ("capacity", "1.5"), ("lease_s", "nan")])
def test_a_wrong_variable_and_a_wrong_flag_are_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"{variable(name)} is '{value}': give a"):
        load_settings({}, {variable(name): value}, tmp_path)
    with pytest.raises(ConfigInvalid, match=f"{flag(name)} is '{value}': give a"):
        load_settings({name: value}, {}, tmp_path)
