"""An async object for callers that block: the same object, driven from another thread.

Why: a blocking twin of a client is a second client to keep right. Here every call goes to the one there is, on an
event loop in a thread that ends with the block.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")


class Blocking:
    """A blocking view of an async object: its coroutines block, its async iterators are plain ones."""

    def __init__(self, portal: BlockingPortal, target: object, wrapped: tuple[type, ...]) -> None:
        self._portal = portal
        self._target = target
        self._wrapped = wrapped

    def __repr__(self) -> str:
        return f"Blocking({self._target!r})"

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __getattr__(self, name: str) -> Any:
        """Give the object's attribute; what would be awaited blocks instead."""
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._target, name)
        if not callable(value):
            return self._view(value)

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(value):
                return self._view(self._portal.call(functools.partial(value, *args, **kwargs)))
            return self._view(value(*args, **kwargs))

        return call

    def _view(self, value: Any) -> Any:
        if isinstance(value, self._wrapped):
            return Blocking(self._portal, value, self._wrapped)
        return self._iterate(value) if inspect.isasyncgen(value) else value

    def _iterate(self, stream: Any) -> Iterator[Any]:
        """Draw from a stream; it is closed when the iterator is."""
        end = object()
        try:
            while (item := self._portal.call(anext, stream, end)) is not end:
                yield self._view(item)
        finally:
            self._portal.call(stream.aclose)


@contextmanager
def open_blocking(
    make: Callable[[], AbstractAsyncContextManager[Any]], wrapped: tuple[type, ...]
) -> Iterator[Blocking]:
    """Open what `make` makes on an event loop of its own; objects of the wrapped types block as it does."""
    with start_blocking_portal("asyncio") as portal:

        async def made() -> AbstractAsyncContextManager[Any]:
            return make()

        with portal.wrap_async_context_manager(portal.call(made)) as target:
            yield Blocking(portal, target, wrapped)
