"""Tokens as they are configured: what is wrong is named, and nothing of a token is kept but its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from greenroom import ConfigInvalid
from greenroom.runtime.http import ApiOptions, Token
from greenroom.runtime.http.access import Access, Scope
from greenroom.runtime.http.tokens import Tokens, new_token, read_tokens

PLAIN = "correct-horse-battery-staple"
DIGEST = hashlib.sha256(PLAIN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": ""}, "tokens: name: give 1 to 100"),
        ({"name": "a\nb"}, "tokens: name: give 1 to 100"),
        ({"scopes": ()}, "token 'ci': scopes: give a list of some of read, run, admin"),
        ({"scopes": "read"}, "token 'ci': scopes: give a list"),
        ({"scopes": ["write"]}, "token 'ci': scopes: give a list"),
        ({"tenant": "a.b"}, "token 'ci': tenant: use 1 to 64 letters"),
        ({"tenant": "acme", "scopes": ["admin"]}, "admin is over all tenants: leave out one"),
        ({"token": "short"}, "token 'ci': token: use 16 or more"),
        ({"token": None}, "token 'ci': token, sha256: give one of them"),
        ({"sha256": DIGEST}, "token 'ci': token, sha256: give one of them"),
        ({"token": None, "sha256": DIGEST.upper()}, "token 'ci': sha256: is no digest"),
    ],
)
def test_what_is_wrong_with_a_token_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        Token(**{"name": "ci", "scopes": ["read"], "token": PLAIN} | wrong)
    assert words in str(refused.value)
    assert PLAIN not in str(refused.value)


def test_a_token_and_its_digest_are_the_same_token() -> None:
    told, kept = (Token(name="ci", scopes=["read"], **{by: at}) for by, at in (("token", PLAIN), ("sha256", DIGEST)))
    assert told == kept
    assert PLAIN not in repr(told)
    assert DIGEST not in repr(told)


def test_a_token_is_found_among_others_and_admin_holds_all_scopes() -> None:
    known = Tokens(
        [
            Token(name="look", scopes=["read"], tenant="acme", token=PLAIN),
            Token(name="root", scopes=["admin"], token=PLAIN + "2"),
        ]
    )
    assert known.find(PLAIN) == Access("look", (Scope.READ,), "acme")
    assert known.find(PLAIN + "2") == Access("root", (Scope.READ, Scope.RUN, Scope.ADMIN))
    for wrong in ("", PLAIN[:-1], PLAIN + "3", DIGEST, "\udcff"):
        assert known.find(wrong) is None


def test_two_tokens_of_one_name_are_refused() -> None:
    twice = [Token(name="ci", scopes=["read"], token=PLAIN), Token(name="ci", scopes=["run"], token=PLAIN + "2")]
    with pytest.raises(ConfigInvalid, match="two tokens are named 'ci'"):
        ApiOptions(tokens=tuple(twice))


def test_a_file_of_tokens_is_read(tmp_path: Path) -> None:
    made, digest = new_token()
    file = tmp_path / "tokens.toml"
    file.write_text(
        f'[[tokens]]\nname = "ci"\nscopes = ["run", "read"]\nsha256 = "{digest}"\ntenant = "acme"\n'
        f'[[tokens]]\nname = "ops"\nscopes = ["admin"]\ntoken = "{PLAIN}"\n'
    )
    options = ApiOptions.from_env({"GREENROOM_TOKENS": str(file), "GREENROOM_TOKEN": PLAIN + "!"})
    found = [Tokens(options.tokens).find(given) for given in (made, PLAIN, PLAIN + "!")]
    assert [(one.name, one.tenant) for one in found if one] == [("ci", "acme"), ("ops", ""), ("token", "")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory: give a file of tokens that can be read"),
        ("", "give one or more [[tokens]], and nothing else"),
        ("[[tokens]]\nname='a'\nscopes=['read']\ntoken='0123456789abcdef'\n[more]\n", "and nothing else"),
        ("tokens = 1", "Expected `array`, got `int`: give name, scopes, and token or sha256"),
        ("[[tokens]]\nname='a'\n", "missing required field `scopes`"),
        ("[[tokens]]\nname='a'\nscopes=['read']\nscope='x'\n", "unknown field `scope`"),
        ("[[tokens]]\nname='a'\nscopes=['read']\n", "token 'a': token, sha256: give one of them"),
        ("[[", "Invalid"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "tokens.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigInvalid) as refused:
        read_tokens(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert words in str(refused.value)
