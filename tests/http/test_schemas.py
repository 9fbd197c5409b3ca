"""Examples and descriptions: made from types, defaults and docstrings, and told only if they would be taken."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from msgspec import Meta

from greenroom import ConfigInvalid, Runtime, workflow
from greenroom.runtime.http.openapi import describe, document
from greenroom.runtime.http.schemas import Schemas, documented, example_of


class Mood(enum.Enum):
    GLAD = "glad"
    CROSS = "cross"


@dataclasses.dataclass
class Author:
    name: str
    born: datetime.date
    mood: Mood
    books: list[str] = dataclasses.field(default_factory=list)


class Tree(msgspec.Struct):
    name: str
    left: Tree | None
    children: Annotated[list[Tree], Meta(max_length=2)]


class Wish(pydantic.BaseModel):
    topic: str = pydantic.Field(min_length=6, examples=["black tea"])
    author: Author | None
    words: int = pydantic.Field(ge=5)


class Strict(pydantic.BaseModel):
    """No example can be made of it: its rule stands in no schema."""

    word: str

    @pydantic.field_validator("word")
    @classmethod
    def rare(cls, value: str) -> str:
        if value != "quixotry":
            raise ValueError("give a rare word")
        return value


@workflow
async def plain(
    text: str,
    whole: int,
    share: Annotated[float, Meta(ge=0, le=1)],
    odd: Annotated[int, Meta(gt=10, multiple_of=5)],
    below: Annotated[int, Meta(le=-3)],
    sure: bool,
    word: Annotated[str, Meta(min_length=3, max_length=3)],
    when: Annotated[datetime.datetime, Meta(tz=True)],
    day: datetime.date,
    length: datetime.timedelta,
    which: uuid.UUID,
    price: Decimal,
    raw: bytes,
    kind: Literal["a", "b"],
    pair: tuple[int, str],
    some: Annotated[list[int], Meta(min_length=2)],
    maybe: int | None,
    either: str | int,
    by_name: dict[str, int],
    left_out: int = 3,
) -> None:
    """Take one of everything."""


@workflow
async def models(wish: Wish, author: Author, tree: Tree) -> Wish:
    """Make something.

    It takes a while: models answer slowly.

    Args:
        wish: what is wanted, as precisely as
            anybody can say it.
        author (Author): who writes.
        nothing: no argument.

    Returns:
        wish: not an argument either.
    """
    return wish


@workflow
async def strict(word: Strict) -> None:
    """Take what no example can be made of."""


@workflow(example={"word": Strict(word="quixotry")})
async def declared(word: Strict) -> None:
    """Take what an example is declared for."""


@workflow
async def nothing() -> None:
    """Take nothing."""


ALL = {one.name: one for one in (plain, models, strict, declared, nothing)}


@pytest.mark.parametrize("one", [plain, models, declared, nothing], ids=lambda one: str(one.name))
def test_an_example_is_what_the_workflow_takes(one: Any) -> None:
    shown = example_of(one, Schemas([one.signature.input]))
    one.parse(msgspec.json.encode(shown))


def test_an_example_is_in_its_simplest_form() -> None:
    shown = example_of(plain, Schemas([plain.signature.input]))
    simple = {name: shown[name] for name in ("text", "whole", "share", "odd", "below", "word", "kind", "pair", "some")}
    assert simple == {
        "text": "text", "whole": 1, "share": 0, "odd": 15, "below": -3, "word": "tex", "kind": "a", "pair": [1, "text"],
        "some": [1, 1],
    }  # fmt: skip
    assert "left_out" not in shown


def test_examples_of_models_are_their_own() -> None:
    shown = example_of(models, Schemas([models.signature.input]))
    assert shown["wish"]["topic"] == "black tea"
    assert shown["author"] == {"name": "text", "born": "2026-01-31", "mood": "cross"}
    assert shown["tree"] == {"name": "text", "left": None, "children": []}


def test_no_example_is_told_that_would_be_refused() -> None:
    assert example_of(strict, Schemas([strict.signature.input])) is None
    assert "examples" not in document("", ALL)["components"]["schemas"]["strict.start"]
    assert describe("", strict)["example"] is None


def test_a_declared_example_goes_before() -> None:
    assert document("", ALL)["components"]["schemas"]["declared.start"]["examples"] == [
        {"input": {"word": {"word": "quixotry"}}}
    ]
    assert describe("", declared)["example"] == {"word": {"word": "quixotry"}}


def test_a_declared_example_that_does_not_fit_is_refused_at_once() -> None:
    @workflow(example={"text": 7})
    async def wrong(text: str) -> None:
        """Take text."""

    with pytest.raises(ConfigInvalid, match=r"the example of workflow wrong is wrong at \$\.text: Expected `str`"):
        Runtime(wrong)


def test_arguments_are_described_by_the_docstring() -> None:
    text, told = documented(models)
    assert text == "It takes a while: models answer slowly."
    assert told == {
        "wish": "what is wanted, as precisely as anybody can say it.",
        "author": "who writes.",
        "nothing": "no argument.",
    }
    whole = document("", ALL)
    properties = whole["components"]["schemas"]["models.input"]["properties"]
    assert {name: one.get("description") for name, one in properties.items()} == {
        "wish": told["wish"], "author": "who writes.", "tree": None,
    }  # fmt: skip
    assert whole["paths"]["/v1/workflows/models/runs"]["post"]["description"] == text
    assert (
        describe("", models)["input"]["$defs"]["models.input"]["properties"]["author"]["description"] == "who writes."
    )
    assert documented(nothing) == ("", {})
