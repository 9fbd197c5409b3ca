"""What is public: listed, importable, documented. A change of it is a change of `public.txt` beside this file.

Write the list anew with: python -m tests.packaging.test_public
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

MODULES = (
    "greenroom",
    "greenroom.actors",
    "greenroom.client",
    "greenroom.runtime.http",
    "greenroom.runtime.router",
    "greenroom.runtime.simulator",
    "greenroom.testing",
    "greenroom.transports",
)
SNAPSHOT = Path(__file__).with_name("public.txt")


def names() -> list[str]:
    """Every public name, with its module."""
    return [f"{module}.{name}" for module in MODULES for name in import_module(module).__all__]


def test_the_public_names_are_those_on_the_list() -> None:
    listed = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    assert names() == listed, "if this change is meant, run: python -m tests.packaging.test_public"


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_there_once_constants_then_types_then_functions(module: str) -> None:
    exported = list(import_module(module).__all__)
    assert exported == sorted(set(exported), key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_importable_and_documented(module: str) -> None:
    place = import_module(module)
    assert place.__doc__
    bare = []
    for name in place.__all__:
        value = getattr(place, name)
        generated = inspect.isclass(value) and (value.__doc__ or "").startswith(f"{name}(")
        if (inspect.isclass(value) or inspect.isroutine(value)) and (generated or not vars_doc(value)):
            bare.append(name)
    assert not bare, f"{module} exports without a docstring: {', '.join(bare)}"


def vars_doc(value: object) -> str:
    """A docstring of its own, not its base's."""
    return str((vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__) or "")


@pytest.mark.parametrize("module", ["greenroom", "greenroom.testing"])
def test_a_name_that_is_not_public_is_an_attribute_error(module: str) -> None:
    place = import_module(module)
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        place.nothing  # noqa: B018
    assert set(place.__all__) <= set(dir(place))


def test_importing_greenroom_does_not_import_what_is_slow() -> None:
    code = "import greenroom, greenroom.testing, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"anyio", "httpx2", "msgspec", "openai", "pytest", "redis", "rich", "starlette", "uvicorn"} == set()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(names()) + "\n", encoding="utf-8")
