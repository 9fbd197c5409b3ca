"""The providers that are known, one file for each. Nothing else in the router knows one by name.

Another one comes from outside: `register(Provider(...))` before a configuration is read, or an installed package that
names it as an entry point in the group `greenroom.providers`, which also reaches `greenroom gateway`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ..errors import RouterConfigInvalid
from .compatible import COMPATIBLE
from .gemini import GEMINI
from .openai import OPENAI
from .provider import Provider

__all__ = ["Provider", "known", "named", "register"]

GROUP = "greenroom.providers"

_known = {one.name: one for one in (OPENAI, GEMINI, COMPATIBLE)}


def known() -> tuple[Provider, ...]:
    """Return the providers that are known, but those of installed packages that nobody has named yet."""
    return tuple(_known.values())


def register(new: Provider) -> Provider:
    """Make a provider known; the same one again changes nothing.

    Raises:
        RouterConfigInvalid: another one has this name.
    """
    if _known.setdefault(new.name, new) is not new:
        raise RouterConfigInvalid(f"a provider is named {new.name!r} already: give this one another name")
    return new


def named(name: str) -> Provider:
    """Return the provider of this name.

    Raises:
        RouterConfigInvalid: there is none; the message names those that there are.
    """
    if (found := _known.get(name)) is not None:
        return found
    installed = _installed()
    if name not in installed:
        names = ", ".join(sorted({*_known, *installed}))
        raise RouterConfigInvalid(
            f"provider is {name!r}, which is not known: give one of {names}; "
            "compatible is any server that speaks OpenAI's protocol"
        )
    try:
        loaded = installed[name].load()
    except Exception as error:
        raise RouterConfigInvalid(f"provider {name!r} of {installed[name].value} cannot be loaded: {error}") from error
    if not isinstance(loaded, Provider) or loaded.name != name:
        raise RouterConfigInvalid(f"{installed[name].value} is no Provider with the name {name!r}: correct the package")
    return register(loaded)


@cache
def _installed() -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=GROUP)}
