"""Components and workflows as definitions: callable alone, typed at the edge, refused when they cannot work."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from greenroom import (
    Cache,
    Component,
    ConfigInvalid,
    DefinitionInvalid,
    InputInvalid,
    Rate,
    Retry,
    Timeout,
    component,
    workflow,
)
from greenroom.runtime.policies import ONCE


@dataclasses.dataclass
class Post:
    id: int
    title: str


@component(retry=3, timeout=5, cache=60, rate=Rate(calls=2), fallback="none")
async def analyse(post: Post, tone: str = "dry") -> str:
    """Analyse a post.

    More words.
    """
    return f"{post.title} ({tone})"


async def test_a_component_outside_a_run_is_its_function() -> None:
    assert await analyse(Post(1, "Tea"), tone="warm") == "Tea (warm)"
    assert await analyse.keyed("k")(Post(1, "Tea")) == "Tea (dry)"


async def test_a_class_component_outside_a_run_is_opened_called_and_closed() -> None:
    steps: list[str] = []

    class Count:
        async def __aenter__(self) -> Count:
            steps.append("open")
            return self

        async def __aexit__(self, *_: object) -> None:
            steps.append("close")

        async def __call__(self, text: str) -> int:
            steps.append("call")
            return len(text)

    assert await component(Count)("four") == 4
    assert steps == ["open", "call", "close"]


def test_policies_are_read_from_the_decorator() -> None:
    assert isinstance(analyse, Component)
    assert analyse.name == "analyse"
    assert analyse.summary == "Analyse a post."
    assert analyse.policies.retry == Retry(attempts=3)
    assert analyse.policies.timeout == Timeout(attempt_s=5)
    assert analyse.policies.cache == Cache(ttl_s=60)
    assert analyse.fallback == "none"


def test_equal_arguments_encode_to_equal_bytes() -> None:
    one = analyse.encode(analyse.bind(Post(1, "Tea")))
    two = analyse.encode(analyse.bind(tone="dry", post=Post(title="Tea", id=1)))
    assert one == two == b'{"post":{"id":1,"title":"Tea"},"tone":"dry"}'


@pytest.mark.parametrize(
    ("data", "path", "detail"),
    [
        (b'{"post": {"id": "1", "title": "x"}}', "$.post.id", "Expected `int`, got `str`"),
        (b'{"post": {"id": 1}}', "$.post", "Object missing required field `title`"),
        (
            b'{"post": {"id": 1, "title": "x"}, "mood": 1}',
            "$",
            "Object contains unknown field `mood`: it takes post, tone",
        ),
        (b"[]", "$", "Expected `object`, got `array`"),
        (b"{", "$", "this is not JSON"),
    ],
)
def test_input_that_does_not_fit_is_refused_by_path(data: bytes, path: str, detail: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        analyse.parse(data)
    assert caught.value.path == path
    assert caught.value.detail.startswith(detail)


def test_input_that_fits_becomes_typed_arguments() -> None:
    parsed = analyse.parse(b'{"post": {"id": 1, "title": "x"}}')
    assert parsed == {"post": Post(1, "x"), "tone": "dry"}


def _sync(x: int) -> int:
    return x


async def _star(*parts: int) -> int:
    return len(parts)


async def _only(x: int, /) -> int:
    return x


@pytest.mark.parametrize(
    ("fn", "says"),
    [(_sync, "is not an async function"), (_star, "takes *parts"), (_only, "by position only")],
)
def test_what_cannot_be_a_component_is_refused_with_the_fix(fn: Callable[..., Awaitable[Any]], says: str) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        component(fn)
    assert says in str(caught.value)


def test_a_name_that_does_not_fit_a_url_is_refused() -> None:
    with pytest.raises(DefinitionInvalid, match="is no name"):
        workflow(name="a/b")(_only)


def test_an_annotation_that_cannot_be_resolved_is_refused_when_it_is_needed() -> None:
    async def lost(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionInvalid, match="Nowhere"):
        component(lost).signature  # noqa: B018


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Retry(attempts=0), "Retry.attempts"),
        (lambda: Retry(jitter=2), "Retry.jitter"),
        (lambda: Retry(first_s=9, max_s=1), "Retry.max_s"),
        (lambda: Timeout(attempt_s=0), "Timeout.attempt_s"),
        (lambda: Cache(ttl_s=0), "Cache.ttl_s"),
        (lambda: Rate(calls=0), "Rate.calls"),
        (lambda: component(concurrency=0), "concurrency"),
    ],
)
def test_a_policy_that_makes_no_sense_names_its_field(make: Callable[[], object], field: str) -> None:
    with pytest.raises(ConfigInvalid, match=field):
        make()


class _Response:
    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Refused(Exception):
    def __init__(self, **headers: str) -> None:
        self.response = _Response(**headers)


def test_delays_grow_up_to_their_bound_and_end_with_the_attempts() -> None:
    retry = Retry(attempts=5, first_s=1, factor=10, max_s=20, jitter=0)
    delays = [retry.delay(n, ValueError(), random.Random(0)) for n in range(1, 6)]
    assert delays == [1, 10, 20, 20, None]


def test_jitter_only_shortens_a_delay() -> None:
    retry = Retry(attempts=100, first_s=1, factor=1, jitter=0.5)
    delays = [retry.delay(1, ValueError(), random.Random(seed)) for seed in range(50)]
    assert all(delay is not None and 0.5 <= delay <= 1 for delay in delays)
    assert len(set(delays)) > 10


def test_a_server_that_asks_for_more_time_gets_it() -> None:
    retry = Retry(attempts=3, first_s=1, jitter=0)
    assert retry.delay(1, Refused(retry_after="7"), random.Random(0)) == 7
    assert retry.delay(1, Refused(retry_after_ms="2500"), random.Random(0)) == 2.5
    assert retry.delay(1, Refused(retry_after="soon"), random.Random(0)) == 1


def test_only_the_named_errors_are_tried_again() -> None:
    retry = Retry(attempts=3, on=(OSError,), never=(FileNotFoundError,))
    assert retry.delay(1, ValueError(), random.Random(0)) is None
    assert retry.delay(1, FileNotFoundError(), random.Random(0)) is None
    assert retry.delay(1, OSError(), random.Random(0)) is not None
    assert ONCE.delay(1, OSError(), random.Random(0)) is None
