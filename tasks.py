"""One command for everything that is done in a checkout: `python3 tasks.py demo|test|check|dev|bench|docs`.

Why: a machine with Python and git, and nothing else, is two commands away from a running demo and from all tests. So
this file needs the standard library alone. The first command makes `.venv` and installs what `requirements-dev.txt`
pins; later ones find that done and start at once.

What holds:
1. A finished set-up is recognised by the Python, the folder and the files that it came from; an interrupted one is
   begun again; two at once wait for each other.
2. What goes wrong before a command starts is told in one sentence that says what to do, with exit code 2.
3. The command proper replaces this process: its output, its exit code and the signals that it gets are its own.
4. pip's settings (index, proxy, certificates) are whatever the environment says.

`GREENROOM_VENV` names another folder than `.venv`.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
PYTHONS = ("python3.13", "python3.12", "python3.11")

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python must get this sentence, not a traceback
    newer = next(filter(shutil.which, PYTHONS), None)
    hint = f"run: {newer} tasks.py" if newer else "install one, and run tasks.py with it"
    print(f"greenroom: needs Python 3.11 or newer, and this is {sys.version.split()[0]}: {hint}", file=sys.stderr)
    sys.exit(2)

if sys.platform != "win32":
    import fcntl

VENV = Path(os.environ.get("GREENROOM_VENV") or ROOT / ".venv").absolute()
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
STAMP = VENV / "greenroom-ready"
BEGUN = VENV / "greenroom-begun"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LINKS = ("actors", "runtime", "transports")

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
STATIC = {
    "format": (("-m", "ruff", "format", "--check", "."), "ruff format ."),
    "lint": (("-m", "ruff", "check", "."), "ruff check --fix ."),
    "types": (("-m", "mypy"), "mypy"),
    "imports": (("-c", LINT_IMPORTS), "lint-imports"),
}


class Stop(Exception):
    """Nothing more can be done; the message is a sentence that says what to do about it."""


def say(text: str, end: str = "\n") -> None:
    """Tell the person at the terminal; standard output stays the command's own."""
    print(text, end=end, file=sys.stderr, flush=True)


# --- set-up


def set_up() -> None:
    """Make the environment, or find it made.

    Raises:
        Stop: this checkout or this Python cannot have one, or pip failed.
    """
    for link in LINKS:
        if not (ROOT / "src" / "greenroom" / link).is_dir():
            raise Stop(
                f"src/greenroom/{link} is not a link to the folder {link}/: this checkout was made without symbolic "
                "links; allow them (git config core.symlinks true, on Windows also Developer Mode), "
                "then run: git checkout -- src/greenroom"
            )
    wanted = fingerprint()
    if read(STAMP) == wanted:
        return
    with alone():
        if read(STAMP) == wanted:
            return
        say(f"greenroom: setting up {VENV.name} (once, under a minute) ... ", end="")
        began = time.monotonic()
        try:
            make_venv()
            STAMP.unlink(missing_ok=True)
            BEGUN.touch()
            pip("--require-hashes", "-r", str(ROOT / "requirements-dev.txt"))
            pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
            STAMP.write_text(wanted, encoding="utf-8")
            BEGUN.unlink()
        except BaseException:
            say("")
            raise
        say(f"done in {time.monotonic() - began:.0f} s")


def set_up_more(name: str, what: str, without: str) -> None:
    """Install what `requirements-NAME.txt` pins, or find it installed; where that fails, say what is left out."""
    requirements, stamp = ROOT / f"requirements-{name}.txt", VENV / f"greenroom-{name}"
    wanted = hashlib.sha256(read(requirements).encode()).hexdigest()
    if read(stamp) == wanted:
        return
    say(f"greenroom: installing {what} (once, under a minute) ... ", end="")
    began = time.monotonic()
    try:
        with alone():
            pip("--require-hashes", "-r", str(requirements))
            stamp.write_text(wanted, encoding="utf-8")
    except Stop as stop:
        say(f"\ngreenroom: {stop}; until then, {without}.")
    else:
        say(f"done in {time.monotonic() - began:.0f} s")


def fingerprint() -> str:
    """What a finished set-up came from: the Python, the folder, and the two files."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {ROOT}".encode())
    for name in ("requirements-dev.txt", "pyproject.toml"):
        try:
            digest.update((ROOT / name).read_bytes())
        except FileNotFoundError:
            raise Stop(f"{name} is missing from {ROOT}; get it back with: git checkout -- {name}") from None
    return digest.hexdigest()


def read(path: Path) -> str:
    """A file's text, or nothing where there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""


@contextmanager
def alone() -> Iterator[None]:
    """Hold the environment's folder: another set-up waits until this one ends, however it ends."""
    try:
        VENV.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Stop(f"cannot make the folder {VENV} ({error.strerror}); name another with GREENROOM_VENV") from None
    if sys.platform == "win32":
        yield
        return
    folder = os.open(VENV, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("greenroom: waiting for another set-up to end")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def make_venv() -> None:
    """Make the virtual environment, unless there is one of this Python that no set-up left half-made."""
    ours = (VENV / "pyvenv.cfg").exists()
    if ours and not BEGUN.exists() and works():
        return
    if not ours and any(VENV.iterdir()):
        raise Stop(f"{VENV} has files in it and is no virtual environment; empty it, or name another (GREENROOM_VENV)")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Stop(
            f"this Python ({sys.executable}) cannot make virtual environments; "
            "install what is missing (on Debian and Ubuntu: apt install python3-venv) and run the command again"
        )
    base = getattr(sys, "_base_executable", "") or sys.executable
    made = subprocess.run([base, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        raise Stop(
            f"python3 -m venv failed: {last_line(made.stdout + made.stderr)}; "
            "on Debian and Ubuntu run: apt install python3-venv; then run the command again"
        )


def works() -> bool:
    """Whether the environment's Python starts, is of this version, and has pip."""
    probe = "import pip, sys; print(sys.implementation.cache_tag)"
    try:
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.strip() == sys.implementation.cache_tag


def pip(*args: str) -> None:
    """Run `pip install` in the environment, quietly.

    Raises:
        Stop: pip failed; its own last words are part of the sentence.
    """
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", *args]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Stop(
            f"pip could not install {args[-1]}: {last_line(done.stderr)}; "
            "see to the network and to pip's settings (pip config list), and run the command again"
        )


def last_line(text: str) -> str:
    """The last line that says something, preferring one that pip marked as an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]).rstrip(".")


# --- commands


def become(*args: str) -> NoReturn:
    """Replace this process by the environment's Python with these arguments, in the checkout's folder."""
    os.chdir(ROOT)
    command = [str(PYTHON), *args]
    if sys.platform == "win32":
        sys.exit(subprocess.call(command))
    os.execv(PYTHON, command)


def demo(args: Sequence[str]) -> NoReturn:
    """The newsroom: a real workflow, streamed, its worker killed, taken over, finished [--json]."""
    become("examples/demo.py", *args)


def test(args: Sequence[str]) -> NoReturn:
    """All tests; those of the documentation's code too, and those in a browser where one is [pytest arguments]."""
    if os.environ.get("GREENROOM_CHROMIUM") or any(map(shutil.which, BROWSERS)):
        set_up_more("browser", "Playwright, as there is a Chromium", "the dashboard's tests are skipped")
    chosen = any(arg.startswith(("-n", "--numprocesses", "--pdb")) for arg in args)
    spread = () if chosen else ("-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal")
    become("-m", "pytest", *spread, *args)


def check(args: Sequence[str]) -> NoReturn:
    """Format, lint, types, import contract; then all tests [--no-tests]."""
    if set(args) - {"--no-tests"}:
        raise Stop("check takes --no-tests and nothing else; arguments for pytest go to: python3 tasks.py test")
    failed = 0
    for name, (command, remedy) in STATIC.items():
        began = time.monotonic()
        done = subprocess.run([PYTHON, *command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        verdict = "FAILED" if done.returncode else "ok"
        print(f"{name:8} {verdict:6} {time.monotonic() - began:5.1f} s", flush=True)
        if done.returncode:
            failed += 1
            print(f"{(done.stdout + done.stderr).strip()}\n")
            print(f"mend it with, or see it again by: {os.path.relpath(PYTHON.parent / remedy)}\n", flush=True)
    if failed:
        untested = "" if "--no-tests" in args else "; the tests have not been run"
        print(f"{failed} of {len(STATIC)} checks failed{untested}", flush=True)
        sys.exit(1)
    if "--no-tests" in args:
        sys.exit(0)
    test(())


def dev(args: Sequence[str]) -> NoReturn:
    """The newsroom's API and a worker, restarted when a file changes [greenroom dev arguments]."""
    become("-m", "greenroom", "dev", "examples/newsroom.py:runtime", *args)


def bench(args: Sequence[str]) -> NoReturn:
    """A benchmark suite: SUITE [--seed N]; without one it lists them."""
    suites = [ROOT / "benchmarks" / arg for arg in args]
    if any((suite / "__init__.py").is_file() and not (suite / "requirements.txt").is_file() for suite in suites):
        # a suite with requirements of its own sees to them itself
        set_up_more("bench", "what the benchmark compares with", "peers that are not installed are left out")
    become("-m", "benchmarks", *args)


def docs(args: Sequence[str]) -> NoReturn:
    """Run the documentation's code, and follow its links and its map [pytest arguments]."""
    become("-m", "pytest", "tests/docs", *args)


COMMANDS: dict[str, Callable[[Sequence[str]], NoReturn]] = {
    command.__name__: command for command in (demo, test, check, dev, bench, docs)
}


def usage() -> str:
    """What there is to run, one line each."""
    return "\n".join(
        ["usage: python3 tasks.py COMMAND [arguments]", ""]
        + [f"  {name:6} {command.__doc__}" for name, command in COMMANDS.items()]
    )


def main(args: Sequence[str]) -> int:
    """Run one command; only a command that could not be run comes back from here."""
    if args[:1] in (["-h"], ["--help"], ["help"]):
        print(usage())
        return 0
    if not args or args[0] not in COMMANDS:
        named = f"there is no command {args[0]!r}" if args else "which command?"
        say(f"greenroom: {named}\n\n{usage()}")
        return 2
    try:
        set_up()
        COMMANDS[args[0]](args[1:])
    except Stop as stop:
        say(f"greenroom: {stop}.")
        return 2
    except KeyboardInterrupt:
        say("greenroom: interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
