"""Options are checked when they are made, and keep their secret."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import ConfigInvalid
from greenroom.runtime.http import ApiOptions


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"token": "short"}, "token"),
        ({"token": "sixteen or more \u00e9"}, "token"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"max_depth": 0}, "max_depth"),
        ({"max_streams": -1}, "max_streams"),
        ({"max_client_streams": 0}, "max_client_streams"),
        ({"max_wait_s": -1.0}, "max_wait_s"),
        ({"hosts": "localhost"}, "hosts"),
        ({"origins": ("app.example",)}, "origins"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"ApiOptions.{field}"):
        ApiOptions(**wrong)


def test_the_token_comes_from_the_environment_and_is_in_no_repr() -> None:
    options = ApiOptions.from_env({"GREENROOM_TOKEN": "correct-horse-battery"})
    assert options.token == "correct-horse-battery"
    assert "horse" not in repr(options)
    assert ApiOptions.from_env({"GREENROOM_TOKEN": ""}).token is None


def test_limits_of_streams_come_from_the_environment() -> None:
    options = ApiOptions.from_env({"GREENROOM_MAX_STREAMS": "20000", "GREENROOM_MAX_CLIENT_STREAMS": "500"})
    assert (options.max_streams, options.max_client_streams) == (20_000, 500)
    for wrong in ("many", "0", "-1", "1.5"):
        with pytest.raises(ConfigInvalid, match=r"GREENROOM_MAX_CLIENT_STREAMS: .* must be a whole number"):
            ApiOptions.from_env({"GREENROOM_MAX_CLIENT_STREAMS": wrong})
