"""The client of the HTTP API by its public name; `greenroom.runtime.client` says what each part is for."""

from .runtime.client import *  # noqa: F403 - the client's names
from .runtime.client import __all__ as __all__
