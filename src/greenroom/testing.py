"""The testing kit by its public name; `greenroom.runtime.testing` says what each part is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .runtime import testing as _kit
from .runtime.testing import __all__ as __all__

if TYPE_CHECKING:
    from .runtime.testing import *  # noqa: F403 - the kit's names, for type checkers
else:

    def __getattr__(name: str) -> Any:
        """Import a name on its first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(_kit, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
