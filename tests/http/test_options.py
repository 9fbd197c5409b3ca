"""Options are checked when they are made, and keep their secret."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from greenroom import ConfigInvalid
from greenroom.runtime.http import ApiOptions
from greenroom.runtime.http.tokens import Tokens


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"token": "short"}, "token"),
        ({"token": "sixteen or more \u00e9"}, "token"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"max_depth": 0}, "max_depth"),
        ({"max_headers": 0}, "max_headers"),
        ({"max_header_bytes": 0}, "max_header_bytes"),
        ({"max_streams": -1}, "max_streams"),
        ({"max_wait_s": -1.0}, "max_wait_s"),
        ({"hosts": "localhost"}, "hosts"),
        ({"origins": ("app.example",)}, "origins"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"ApiOptions.{field}"):
        ApiOptions(**wrong)


def test_the_token_comes_from_the_environment_and_only_its_digest_is_kept() -> None:
    """It may do everything, as the only token there is."""
    options = ApiOptions.from_env({"GREENROOM_TOKEN": "correct-horse-battery"})
    access = Tokens(options.tokens).find("correct-horse-battery")
    assert access is not None
    assert (access.scopes, access.tenant) == (("read", "run", "admin"), "")
    assert "horse" not in repr(options)
    assert "horse" not in str([getattr(options, name) for name in options.__slots__])
    assert not ApiOptions.from_env({"GREENROOM_TOKEN": ""}).secured
    assert dataclasses.replace(options, max_depth=3).tokens == options.tokens
