"""Wheel and sdist hold what they should, and the wheel works away from the checkout. All of it offline.

They are built from what git knows of the checkout: what is ignored there cannot get in, and what is missing there is
missing here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from .test_metadata import FLOORS, PROJECT, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEM = f"greenroom-{PROJECT['version']}"
GENERATED = {"PKG-INFO", "setup.cfg"}
USE = """
import anyio
from pathlib import Path
import greenroom
from greenroom import Runtime, component, workflow

assert not Path(greenroom.__file__).is_relative_to(CHECKOUT), greenroom.__file__
assert not (Path(greenroom.__file__).parent / "runtime").is_symlink()

@component(retry=2)
async def double(number: int) -> int:
    return 2 * number

@workflow
async def quadruple(number: int) -> int:
    return await double(await double(number))

async def main() -> None:
    runtime = Runtime(quadruple, store="memory://")
    async with runtime, runtime.worker():
        assert await (await runtime.start(quadruple, 3)).result() == 12

anyio.run(main)
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command that must succeed; return its standard output."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def known_to_git() -> list[str]:
    """Files of the checkout: tracked, or new and not ignored."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    return sorted({name for name in listed.split("\0") if name and (ROOT / name).exists()})


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as a fresh clone would be."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in known_to_git():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """A folder with an sdist, and the wheel that was made from it."""
    dist = checkout.parent / f"{checkout.name}-dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=checkout)
    return dist


def sources(checkout: Path) -> set[str]:
    """What the package is made of, by the paths of a wheel."""
    floors = {
        f"greenroom/{file.relative_to(checkout)}" for floor in FLOORS for file in (checkout / floor).rglob("*.py")
    }
    page = checkout / "runtime/http/static"
    floors |= {f"greenroom/{file.relative_to(checkout)}" for file in page.rglob("*") if file.is_file()}
    facade = {f"greenroom/{file.name}" for file in (checkout / "src/greenroom").iterdir() if file.is_file()}
    return floors | facade


def test_the_wheel_is_the_package_and_nothing_else(checkout: Path, built: Path) -> None:
    with zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as wheel:
        held = {name for name in wheel.namelist() if not name.startswith(f"{STEM}.dist-info/")}
        metadata = wheel.read(f"{STEM}.dist-info/METADATA").decode()
        assert f"{STEM}.dist-info/licenses/LICENSE" in wheel.namelist()
    assert held == sources(checkout)
    assert "greenroom/py.typed" in held
    required = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)
    assert required == PROJECT["dependencies"]


def test_the_sdist_is_the_checkout_without_its_dotfiles(checkout: Path, built: Path) -> None:
    with tarfile.open(built / f"{STEM}.tar.gz") as sdist:
        members = sdist.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    held = {member.name.partition("/")[2] for member in members if member.isfile()}
    held = {name for name in held - GENERATED if ".egg-info/" not in name}
    files = {str(file.relative_to(checkout)) for file in checkout.rglob("*") if file.is_file()}
    inside = (*(f"{floor}/" for floor in FLOORS), "src/", "build/", "dist/", "benchmarks/results/", ".")
    outside = {name for name in files if not name.startswith(inside)}
    assert held == outside | {f"src/{name}" for name in sources(checkout)}


def test_the_wheel_from_the_tree_is_the_wheel_from_the_sdist(checkout: Path, built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, cwd=checkout)
    name = f"{STEM}-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name) as tree, zipfile.ZipFile(built / name) as sdist:
        assert {(info.filename, info.CRC) for info in tree.infolist() if "RECORD" not in info.filename} == {
            (info.filename, info.CRC) for info in sdist.infolist() if "RECORD" not in info.filename
        }


def test_the_installed_wheel_works_away_from_the_checkout(built: Path, tmp_path: Path) -> None:
    venv.EnvBuilder(symlinks=True).create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    wheel = built / f"{STEM}-py3-none-any.whl"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (tmp_path / "use.py").write_text(f"CHECKOUT = {str(ROOT)!r}\n{USE}", encoding="utf-8")
    run(python, "use.py", cwd=tmp_path)
    assert "usage: greenroom" in run(tmp_path / "venv/bin/greenroom", "--help", cwd=tmp_path)
    assert run(python, "-m", "greenroom", "--version", cwd=tmp_path) == f"greenroom {PROJECT['version']}\n"
