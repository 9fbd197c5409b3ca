"""What can be wrong with a router before a call leaves the process. Refusals of providers are the SDK's own errors."""

from __future__ import annotations


class RouterError(Exception):
    """Root of the router's errors."""


class RouterConfigInvalid(RouterError):
    """A field of the configuration is wrong; the message names it and the fix."""


class MissingKey(RouterError):
    """No provider's key is set, so there is nowhere to send calls."""

    def __init__(self) -> None:
        super().__init__(
            "no provider key is set: set OPENAI_API_KEY or GEMINI_API_KEY, "
            "or start the provider simulator with 'greenroom simulate' and set what it prints"
        )


class NoRouter(RouterError):
    """`llm` was used where no router is open."""

    def __init__(self) -> None:
        super().__init__(
            "llm was called outside a run: run the workflow with a worker, "
            "or wrap the call in 'async with Router(RouterConfig.from_env(os.environ)):'"
        )
