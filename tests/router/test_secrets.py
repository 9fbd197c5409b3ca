"""Law 10: a key reaches the request that carries it, and no text, whatever goes wrong."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import msgspec
import openai
import pytest

from greenroom.runtime.calls import llm_record
from greenroom.runtime.router import RouterConfig, RouterConfigInvalid, Secret
from greenroom.runtime.simulator import FaultKind

from .conftest import KEY, QUESTION, RigMaker, deployment


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.RAMP])
@pytest.mark.parametrize("provider", ["openai", "gemini"])
async def test_no_text_about_a_failed_call_holds_the_key(
    rig: RigMaker, kind: FaultKind, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    models = {"smart": (deployment(provider),)}
    async with rig(f"*:{kind.value}:after=1", models=models, max_attempts=2, max_wait_s=30) as one:
        texts: list[str] = []
        for stream in (False, True):
            try:
                await (one.read() if stream else one.ask())
            except openai.OpenAIError as error:
                texts += [*traceback.format_exception(error), repr(vars(error))]
                response: Any = getattr(error, "response", None)
                texts += [repr(response.headers), response.text] if response is not None else []
        texts += [repr(one.router.snapshot()), repr(one.router.config), repr(one.records), caplog.text]
        texts += [msgspec.json.encode(llm_record(record)).decode() for record in one.records]
        assert one.records
        assert not [text for text in texts if KEY in text]


async def test_an_answer_does_not_carry_the_request_with_the_key(rig: RigMaker) -> None:
    async with rig("openai:401:times=1", models={"smart": (deployment("openai"),)}) as one:
        refused = await one.router.request("/chat/completions", {"model": "smart", "messages": QUESTION})
        assert refused.status_code == 401
        with pytest.raises(RuntimeError):
            _ = refused.request


async def test_a_key_that_a_provider_repeats_is_hidden(rig: RigMaker) -> None:
    async with rig("*:auth", models={"smart": (deployment("openai"),)}) as one:
        with pytest.raises(openai.AuthenticationError, match=r"Incorrect API key provided: \*\*\*"):
            await one.ask()


def test_a_secret_has_no_way_into_text() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret!r} {secret} {[secret]}"
    with pytest.raises(TypeError, match="a secret is not written anywhere"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY} x", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(RouterConfigInvalid, match="OPENAI_API_KEY: a key") as caught:
        RouterConfig.from_env({"OPENAI_API_KEY": key})
    assert KEY not in str(caught.value)


def test_blanks_around_a_key_are_dropped() -> None:
    config = RouterConfig.from_env({"OPENAI_API_KEY": f" {KEY}\n", "GEMINI_API_KEY": "  "})
    assert [one.key.reveal() for one in config.models["smart"]] == [KEY]
