"""`tasks.py` where something is missing: one sentence, exit code 2, nothing half-done; and where all is there."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_metadata import ROOT

TASKS = ROOT / "tasks.py"
ENVIRONMENT = """#!/bin/sh
# Stands in for the environment's Python: pip fails, whatever else is asked of it is printed.
case "$*" in
  *"import pip"*) echo {tag} ;;
  *"-m pip"*) echo "collecting" >&2; echo "ERROR: no route to the index." >&2; exit 1 ;;
  *) echo "$@"; exit 7 ;;
esac
"""


def run(*args: object, script: Path = TASKS, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(script), *map(str, args)],
        env={"PATH": os.environ["PATH"], **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that could not be run."""
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if line and "setting up" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("greenroom: ")
    return lines[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without its code: what set-up looks at, and no more."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("tasks.py", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("actors", "runtime", "transports"):
        (folder / "src/greenroom" / name).mkdir(parents=True)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that somebody has set up, whose Python is the script above."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    python = folder / "bin/python"
    python.write_text(ENVIRONMENT.format(tag=sys.implementation.cache_tag), encoding="utf-8")
    python.chmod(0o755)
    return folder


def test_an_old_python_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.version_info = (3, 9, 2)\nsys.version = '3.9.2 (old)'\n", encoding="utf-8"
    )
    sentence = refused(run("test", PYTHONPATH=str(tmp_path), PATH=str(tmp_path)))
    assert sentence == (
        "greenroom: needs Python 3.11 or newer, and this is 3.9.2: install one, and run tasks.py with it"
    )


def test_an_old_python_is_told_of_a_newer_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 8)\n", encoding="utf-8")
    (tmp_path / "python3.12").write_text("", encoding="utf-8")
    (tmp_path / "python3.12").chmod(0o755)
    assert refused(run("test", PYTHONPATH=str(tmp_path), PATH=str(tmp_path))).endswith("run: python3.12 tasks.py")


def test_an_old_python_can_parse_the_file_at_all() -> None:
    ast.parse(TASKS.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_checkout_without_symbolic_links_is_told_how_to_get_them(checkout: Path) -> None:
    (checkout / "src/greenroom/runtime").rmdir()
    (checkout / "src/greenroom/runtime").write_text("../../runtime", encoding="utf-8")
    sentence = refused(run("test", script=checkout / "tasks.py"))
    assert "src/greenroom/runtime is not a link" in sentence
    assert "git config core.symlinks true" in sentence


@pytest.mark.parametrize("name", ["requirements-dev.txt", "pyproject.toml"])
def test_a_missing_file_is_named_with_the_way_to_get_it_back(checkout: Path, name: str) -> None:
    (checkout / name).unlink()
    assert refused(run("test", script=checkout / "tasks.py")).endswith(f"get it back with: git checkout -- {name}.")
    assert not (checkout / ".venv").exists()


def test_a_folder_with_somebody_s_files_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("do not lose", encoding="utf-8")
    sentence = refused(run("test", script=checkout / "tasks.py", GREENROOM_VENV=str(tmp_path / "mine")))
    assert "is no virtual environment" in sentence
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_named(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused(run("test", script=checkout / "tasks.py", GREENROOM_VENV=str(tmp_path / "file/venv")))
    assert "cannot make the folder" in sentence
    assert "GREENROOM_VENV" in sentence


def test_pip_s_own_words_are_part_of_the_sentence(checkout: Path, environment: Path) -> None:
    sentence = refused(run("test", script=checkout / "tasks.py", GREENROOM_VENV=str(environment)))
    assert "ERROR: no route to the index; see to the network" in sentence
    assert (environment / "greenroom-begun").exists(), "the next command must know that this one did not end"
    assert not (environment / "greenroom-ready").exists()


def finish(checkout: Path, environment: Path) -> None:
    """Leave the environment as a set-up from this checkout does."""
    fingerprint = subprocess.run(
        [sys.executable, "-B", "-c", "import tasks; print(tasks.fingerprint(), end='')"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (environment / "greenroom-ready").write_text(fingerprint, encoding="utf-8")


def test_playwright_is_installed_where_there_is_a_chromium_and_tests_run_without_it(
    checkout: Path, environment: Path, tmp_path: Path
) -> None:
    finish(checkout, environment)
    script, folder = checkout / "tasks.py", str(environment)
    bare = run("test", "-q", "-n1", script=script, GREENROOM_VENV=folder, PATH=str(tmp_path))
    assert (bare.returncode, bare.stdout, bare.stderr) == (7, "-m pytest -q -n1\n", "")
    browser = tmp_path / "chromium"
    browser.touch(mode=0o755)
    tried = run("test", "-q", "-n1", script=script, GREENROOM_VENV=folder, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (tried.returncode, tried.stdout) == (7, "-m pytest -q -n1\n")
    assert "no route to the index; see to the network" in tried.stderr
    assert "until then, the dashboard's tests are skipped" in tried.stderr


def test_a_finished_set_up_is_not_made_again_and_the_command_has_its_own_output_and_code(
    checkout: Path, environment: Path
) -> None:
    finish(checkout, environment)
    for _ in range(2):
        done = run("bench", "actors", "--seed", 3, script=checkout / "tasks.py", GREENROOM_VENV=str(environment))
        assert (done.returncode, done.stdout, done.stderr) == (7, "-m benchmarks actors --seed 3\n", "")
    (checkout / "pyproject.toml").write_text("# another\n", encoding="utf-8")
    changed = run("bench", script=checkout / "tasks.py", GREENROOM_VENV=str(environment))
    assert "could not install" in refused(changed), "a changed file means a new set-up"


def test_commands_are_listed_and_a_wrong_one_is_named() -> None:
    listed = run("--help")
    assert (listed.returncode, listed.stderr) == (0, "")
    for name in ("demo", "test", "check", "dev", "bench", "docs"):
        assert f"\n  {name} " in listed.stdout
    wrong = run("tset")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no command 'tset'" in wrong.stderr


def test_make_has_the_same_commands() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]
    assert phony == ["demo", "test", "check", "dev", "bench", "docs"]
