"""The tokens of the API: `greenroom token` makes one, and `api_options` takes those that are configured."""

from __future__ import annotations

import os
from argparse import Namespace

from ..config import Settings
from ..http import ApiOptions
from ..http.tokens import Token, from_rows, new_token
from .output import give, say


def token(options: Namespace) -> int:
    """Make a token; give it once, with the table that lets it in."""
    made, digest = new_token()
    Token(name=options.name, scopes=options.scope, tenant=options.tenant, sha256=digest)
    say("The token is shown once; the server needs only its digest, in greenroom.toml or the file of GREENROOM_TOKENS.")
    scopes = ", ".join(f'"{scope}"' for scope in options.scope)
    lines = [f"# {made}", "[[tokens]]", f'name = "{options.name}"', f'sha256 = "{digest}"', f"scopes = [{scopes}]"]
    give("\n".join(lines + ([f'tenant = "{options.tenant}"'] if options.tenant else [])))
    return 0


def api_options(settings: Settings) -> ApiOptions:
    """Take what the environment and the configuration say of the API.

    Raises:
        ConfigInvalid: names the variable or the file, and the fix.
    """
    rows = settings.tokens
    tokens = from_rows(rows, settings.sources["tokens"]) if rows is not None else ()
    return ApiOptions.from_env(os.environ, tokens)
